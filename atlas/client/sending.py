"""Sends until there is an answer."""

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
CONNECT_SECONDS, ANSWER_SECONDS = 10.0, 60.0  # the latter as iOS
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
        """Send all lines, and book what became of them.

        `warn` is called after each booking with "", and before each retry with its reason. When
        sending turns out to be of no use, what is under way is finished, nothing new is begun, and
        `balance.trouble` says why.
        """
        queue = map(partial(prepare, device=self.device), batches(lines))

        async def worker() -> None:
            try:
                while balance.last_error is None and (sent := next(queue, None)):
                    balance.read += sent.records
                    balance.unsent += sent.records
                    record(balance, sent, await self.post_with_retries(sent, warn))
                    warn("")
            except CannotSend as error:
                balance.last_error = str(error)
            except OSError as error:
                balance.last_error = f"The lines cannot be read to their end: {error.strerror}."

        async with anyio.create_task_group() as workers:
            for _ in range(CONCURRENCY):
                workers.start_soon(worker)

    async def post_with_retries(
        self, sent: PreparedBatch, warn: Callable[[str], None]
    ) -> UploadReply:
        """The answer to a batch, asked for until there is one. Raises CannotSend."""
        retried = RetryLater, aiohttp.ClientError, TimeoutError
        try:
            return await self.retry(
                partial(self.post_once, sent.body, sent.idempotency_key), retried, warn
            )
        except retried as error:
            raise CannotSend(f"{self.url} did not take it: {describe_error(error)}.") from error

    async def retry(
        self,
        attempt: Callable[[], Awaitable[UploadReply]],
        retried: tuple[type[Exception], ...],
        tell: Callable[[str], None],
    ) -> UploadReply:
        """The answer to the first attempt that has one, of TRIES within GIVE_UP_SECONDS.

        Raises the error of the last attempt. Only errors of the types `retried` are retried.
        """
        ends_at = anyio.current_time() + GIVE_UP_SECONDS
        number = 0
        while True:
            try:
                return await attempt()
            except retried as error:
                seconds = retry_delay(error)
                if seconds is False:
                    raise
                tell(describe_error(error))
                if number + 1 == TRIES or anyio.current_time() >= ends_at:
                    raise
            await self.sleep(backoff(number) if seconds is True else seconds)
            number += 1

    async def post_once(self, body: bytes, key: str) -> UploadReply:
        headers = {
            "Authorization": f"Bearer {self.token}",
            "Content-Type": "application/json",
            "Content-Encoding": "gzip",
            "Idempotency-Key": key,
        }
        async with self.session.post(
            self.url + BATCH, data=body, headers=headers, allow_redirects=False
        ) as response:
            return parse_response(response.status, response.headers, await response.read())


def retry_delay(error: Exception) -> bool | float:
    """Whether, and when, to try again: not before the service wants to hear from us."""
    if isinstance(error, RetryLater) and error.seconds:  # 0 is no time to recover in: ours, then
        return error.seconds if error.seconds <= GIVE_UP_SECONDS else False
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return False
    return isinstance(error, RetryLater | aiohttp.ClientError | TimeoutError)


def backoff(number: int) -> float:
    """Seconds that double with each attempt, with jitter."""
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
