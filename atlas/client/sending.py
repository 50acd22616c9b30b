"""Sends batches, several at a time, and retries each until it is answered."""

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import aiohttp
import anyio

from atlas.client.batches import PreparedBatch, batches, prepare
from atlas.client.replies import (
    CannotSend,
    LineAccounting,
    RetryLater,
    UploadReply,
    parse_response,
    record,
)
from atlas.core.identifiers import API_PREFIX

BATCH = f"{API_PREFIX}/export/batch"
CONCURRENCY = 4
CONNECT_SECONDS, ANSWER_SECONDS = 10.0, 60.0  # the latter is the default of iOS
TRIES, GIVE_UP_SECONDS = 12, 900.0
WAIT_SECONDS, WAIT_SECONDS_MAX = 0.5, 30.0  # before the second attempt, and before any

Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Client:
    """Sends to one Atlas, as one user."""

    session: aiohttp.ClientSession
    url: str
    token: str
    device: str | None = None
    sleep: Sleep = anyio.sleep

    async def send(
        self,
        lines: Iterable[bytes],
        balance: LineAccounting,
        warn: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Send all lines in batches, and record their outcomes in `balance`.

        `warn` is called with "" after each recorded batch, and with the reason before each retry.
        On an error that retrying does not fix, batches under way are finished, no new one is sent,
        and `balance.last_error` holds the reason.
        """
        queue = map(partial(prepare, device=self.device), batches(lines))

        async def send_from_queue() -> None:
            try:
                while balance.last_error is None and (batch := next(queue, None)):
                    balance.read += batch.records
                    balance.unsent += batch.records
                    record(balance, batch, await self.post_with_retries(batch, warn))
                    warn("")
            except CannotSend as error:
                balance.last_error = str(error)
            except OSError as error:
                balance.last_error = f"Cannot read all of the lines: {error.strerror}."

        async with anyio.create_task_group() as tasks:
            for _ in range(CONCURRENCY):
                tasks.start_soon(send_from_queue)

    async def post_with_retries(
        self, batch: PreparedBatch, warn: Callable[[str], None]
    ) -> UploadReply:
        """Post a batch until it is answered. Raises CannotSend."""
        retried = RetryLater, aiohttp.ClientError, TimeoutError
        try:
            return await self.retry(partial(self.post_once, batch), retried, warn)
        except retried as error:
            raise CannotSend(f"{self.url} did not accept it: {describe_error(error)}.") from error

    async def retry(
        self,
        attempt: Callable[[], Awaitable[UploadReply]],
        retried: tuple[type[Exception], ...],
        warn: Callable[[str], None],
    ) -> UploadReply:
        """Repeat `attempt` until it returns, up to TRIES times and for GIVE_UP_SECONDS.

        Only errors of the types `retried` are retried. Raises the error of the last attempt.
        """
        ends_at = anyio.current_time() + GIVE_UP_SECONDS
        number = 0
        while True:
            try:
                return await attempt()
            except retried as error:
                seconds = retry_delay(error, number)
                if seconds is None:
                    raise
                warn(describe_error(error))
                number += 1
                if number == TRIES or anyio.current_time() >= ends_at:
                    raise
            await self.sleep(seconds)

    async def post_once(self, batch: PreparedBatch) -> UploadReply:
        headers = {
            "Authorization": f"Bearer {self.token}",
            "Content-Type": "application/json",
            "Content-Encoding": "gzip",
            "Idempotency-Key": batch.idempotency_key,
        }
        async with self.session.post(
            self.url + BATCH, data=batch.body, headers=headers, allow_redirects=False
        ) as response:
            return parse_response(response.status, response.headers, await response.read())


def retry_delay(error: Exception, number: int) -> float | None:
    """Return the seconds to wait after failed attempt `number`, from 0, or None to give up.

    Retry-After is honoured, except for 0, which leaves the service no time to recover.
    """
    if isinstance(error, RetryLater) and error.seconds:
        return error.seconds if error.seconds <= GIVE_UP_SECONDS else None
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return None
    return backoff(number)


def backoff(number: int) -> float:
    """Return seconds that double with each attempt, with jitter."""
    jitter = random.random()  # noqa: S311 - only spreads retries
    return min(WAIT_SECONDS_MAX, WAIT_SECONDS * 2.0**number + jitter)


def describe_error(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {ANSWER_SECONDS:.0f} s"
    return str(error) or type(error).__name__


@asynccontextmanager
async def open_client(
    url: str, token: str, device: str | None, sleep: Sleep = anyio.sleep
) -> AsyncIterator[Client]:
    timeout = aiohttp.ClientTimeout(
        total=None, sock_connect=CONNECT_SECONDS, sock_read=ANSWER_SECONDS
    )
    async with aiohttp.ClientSession(timeout=timeout) as session:
        yield Client(session, url.rstrip("/"), token, device, sleep)
