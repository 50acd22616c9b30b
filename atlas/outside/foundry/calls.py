"""How anything is asked of Foundry: with a deadline, with our token, again where it is harmless.

What counts is the status first: 429 and 503 have no body, 502 may be HTML, and Foundry's own text
is never passed on.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal, TypeVar

import aiohttp
import msgspec
import stamina
import stamina.instrumentation
from msgspec import Struct
from yarl import URL

from atlas.core.errors import NOT_JSON, FoundryError
from atlas.core.events import FoundryCalled, Operation, Watch
from atlas.core.ports import Bytes
from atlas.outside.foundry.door import Door
from atlas.outside.foundry.token import FoundryToken

T = TypeVar("T")
Method = Literal["GET", "POST", "PUT", "DELETE"]

WAIT_SECONDS_MAX = 10.0  # longer than that is the uploader's to wait
RETRY_AFTER_MAX = 900.0
BYTES_A_SECOND = 1024 * 1024  # what a file may be as slow as, beyond the deadline of any call

# stamina's own hooks log the arguments of what is tried again: here, somebody's rows
stamina.instrumentation.set_on_retry_hooks([])


class Failure(Struct, frozen=True):
    """The body of an error, in the words of Foundry."""

    error_name: str = msgspec.field(name="errorName", default="")
    parameters: dict[str, Any] = msgspec.field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Call:
    """One question. `path` is percent-encoded already and follows /api/v2.

    `operation` is what it is for; `answer_bytes` are those of a large answer.
    """

    operation: Operation
    method: Method
    path: str
    query: Mapping[str, str] | None = None
    body: Bytes | None = None
    content_type: str | None = None
    answer_bytes: int = 0

    @property
    def size(self) -> int:
        return self.answer_bytes + (0 if self.body is None else len(self.body))


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that says something: 200, or a 4xx that names its reason."""

    status: int
    body: bytes
    date: str
    error: Failure

    @property
    def at(self) -> datetime:
        """When it was given, on Foundry's own clock. Raises FoundryError."""
        try:
            return parsedate_to_datetime(self.date).astimezone(UTC)
        except (ValueError, OverflowError) as error:
            raise FoundryError("Foundry's answer has no Date.") from error

    def read(self, kind: type[T]) -> T:
        """Raises FoundryError when it is not what the API promises."""
        try:
            return msgspec.json.decode(self.body, type=kind)
        except NOT_JSON as error:
            raise FoundryError("Foundry answers something else than its API says.") from error


class Passing(FoundryError):
    """The answer was lost, or Foundry is busy: the same call may work a moment later."""


class Calls:
    """Asks one Foundry, as one client."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        token: FoundryToken,
        host: str,
        seconds: float,
        door: Door,
        watch: Watch,
    ) -> None:
        self._session = session
        self._token = token
        self.host = host
        self._base = f"{host}/api/v2"
        self._seconds = seconds
        self._door = door
        self._watch = watch
        self._again = stamina.AsyncRetryingCaller(
            attempts=4, timeout=None, wait_initial=0.2, wait_max=5.0
        ).on(worth_another_try)

    def left(self) -> int:
        """How many may be asked now before we have to wait."""
        return self._door.calls_left()

    async def ask(self, call: Call) -> Answer:
        """Ask what is harmless to ask twice, until it is answered, or not for several tries."""
        try:
            return await self.ask_once(call)
        except Passing as error:
            return await self._again(self._ask_after, iter([error]), call)

    async def _ask_after(self, failed: Iterator[Passing], call: Call) -> Answer:
        """stamina costs a tenth of an upload, so it is told of the first try when that failed."""
        for error in failed:
            raise error
        return await self.ask_once(call, is_retry=True)

    async def ask_once(self, call: Call, *, is_retry: bool = False) -> Answer:
        """Ask. Raises FoundryError; what raised may have happened all the same."""
        token = await self._token.get()
        answer = await self._send(call, token, is_retry=is_retry)
        if answer.status == 401:  # expired early, or revoked; nothing was done
            self._token.refuse(token)
            answer = await self._send(call, await self._token.get(), is_retry=True)
        if answer.status == 401:
            raise FoundryError("Foundry does not take the token that it gave us (401).")
        return answer

    async def _send(self, call: Call, token: str, *, is_retry: bool) -> Answer:
        headers = {"Authorization": f"Bearer {token}"}
        if call.content_type is not None:
            headers["Content-Type"] = call.content_type
        async with self._door.turn():
            try:
                answer = await self._answer(call, headers, is_retry=is_retry)
            except FoundryError as error:
                wait = error.retry_seconds
                self._door.failed(None if wait is None else min(wait, WAIT_SECONDS_MAX))
                raise
            self._door.worked()
            return answer

    async def _answer(self, call: Call, headers: Mapping[str, str], *, is_retry: bool) -> Answer:
        began, status = time.perf_counter(), 0
        try:
            async with self._session.request(
                call.method,
                url(self._base + call.path, call.query),
                data=call.body,
                headers=headers,
                skip_auto_headers=("Content-Type",),
                timeout=aiohttp.ClientTimeout(total=self._seconds + call.size / BYTES_A_SECOND),
                allow_redirects=False,
            ) as answer:
                body = await answer.read()
                status = answer.status
                return understood(status, answer.headers, body)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Passing(f"Foundry does not answer ({type(error).__name__}).") from error
        finally:
            seconds = time.perf_counter() - began
            self._watch(FoundryCalled(call.operation, status, seconds, is_retry))


def url(address: str, query: Mapping[str, str] | None) -> URL:
    """Percent-encoding is ours alone: a path in a dataset is one segment, slashes and all."""
    found = URL(address, encoded=True)
    return found.with_query(query) if query else found


def understood(status: int, headers: Mapping[str, str], body: bytes) -> Answer:
    """Raises Passing for what says nothing but "not now"."""
    if status in {429, 503}:
        seconds = retry_after(headers)
        if headers.get("QoS-Retry-Hint") == "do-not-retry":
            wait = WAIT_SECONDS_MAX if seconds is None else seconds
            raise FoundryError(f"Foundry is overloaded ({status}).", wait)
        raise Passing(f"Foundry is overloaded ({status}).", seconds)
    if status >= 500 or status < 200 or 300 <= status < 400:
        raise Passing(f"Foundry answers {status}.")
    error = Failure()
    if status >= 400:
        with suppress(*NOT_JSON):  # an unknown endpoint has no body, a proxy has its own
            error = msgspec.json.decode(body, type=Failure)
    return Answer(status, body, headers.get("Date", ""), error)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Whole seconds, if any; nobody makes us wait for longer than a quarter of an hour."""
    after = headers.get("Retry-After", "")
    is_whole = after.isascii() and after.isdecimal() and len(after) < 10
    return min(float(after), RETRY_AFTER_MAX) if is_whole else None


def worth_another_try(error: Exception) -> bool | float:
    """Whether, and in how many seconds, if Foundry said so."""
    if not isinstance(error, Passing):
        return False
    if error.retry_seconds is None:
        return True
    return error.retry_seconds if error.retry_seconds <= WAIT_SECONDS_MAX else False
