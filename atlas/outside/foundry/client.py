"""HTTP client for Foundry's API: authorization, deadlines, and retries of calls safe to repeat.

Responses are classified by their status first, because 429 and 503 have no body and 502 may be
HTML. Error names and instance ids are the only texts of Foundry that are passed on.
"""

import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import aiohttp
from yarl import URL

from atlas.core.errors import FoundryError
from atlas.core.events import EventSink, FoundryCalled, Operation
from atlas.core.ports import Bytes
from atlas.outside.foundry.call_gate import CallGate
from atlas.outside.foundry.errors import build_redirect_error, describe_answer
from atlas.outside.foundry.responses import NO_ERROR, ApiResponse, ErrorBody, parse_error
from atlas.outside.foundry.token import FoundryToken
from atlas.outside.network import CONNECTION_ERRORS, HttpSession, explain_unreachable, parse_date

Method = Literal["GET", "POST", "PUT", "DELETE"]

PUBLIC_API = "/api/v2"
ATTEMPTS = 4
RECONNECT_SECONDS = 0.05
WAIT_SECONDS_MAX = 10.0  # the uploader handles longer waits
RETRY_AFTER_SECONDS_MAX = 900.0
CHUNK_BYTES = 128 * 1024  # of a request body
BYTES_PER_SECOND = 1024 * 1024  # slowest transfer of a file; extends the deadline of its call


@dataclass(frozen=True, slots=True)
class ApiCall:
    """A call. `path` is already percent-encoded, relative to `root`: the public API, or a service.

    `operation` is its name in events. `response_bytes` is the expected size of a large response.
    """

    operation: Operation
    method: Method
    path: str
    query: Mapping[str, str] | None = None
    body: Bytes | None = None
    content_type: str | None = None
    response_bytes: int = 0
    root: str = PUBLIC_API

    @property
    def bytes(self) -> int:
        return self.response_bytes + (0 if self.body is None else len(self.body))


class TransientError(FoundryError):
    """The response was lost, or Foundry is busy: the same call may succeed a moment later."""


class InternalError(TransientError):
    """Foundry failed to carry out the call (500), for example because it cannot read a file."""


class ConnectionLost(TransientError):
    """The connection broke, or the response did not arrive in time."""


class FoundryClient:
    """Calls Foundry's API as the service user of our client."""

    def __init__(
        self,
        session: HttpSession,
        token: FoundryToken,
        host: str,
        call_seconds: float,
        gate: CallGate,
        emit: EventSink,
        attempts: int = ATTEMPTS,
    ) -> None:
        self._session = session
        self._token = token
        self._host = host
        self._call_seconds = call_seconds
        self._gate = gate
        self._emit = emit
        self._attempts = attempts

    def count_remaining_calls(self) -> int:
        """Return how many calls fit into this minute before the rate limit."""
        return self._gate.count_remaining_calls()

    async def request(self, call: ApiCall) -> ApiResponse:
        """Make a call that is safe to repeat, in up to `attempts` attempts.

        Raises FoundryError; the call may still have taken effect.
        """
        attempt = 0
        while True:
            try:
                response = await self.request_once(call, is_retry=attempt > 0)
                return replace(response, is_repeat=attempt > 0)
            except TransientError as error:
                delay = retry_delay(error, self._gate.backoff(attempt))
                if delay is None or attempt + 1 == self._attempts:
                    raise
            await self._gate.sleep(delay)
            attempt += 1

    async def request_once(self, call: ApiCall, *, is_retry: bool = False) -> ApiResponse:
        """Make a call. Raises FoundryError; the call may still have taken effect."""
        token = await self._token.get()
        response = await self._send(call, token, is_retry=is_retry)
        if response.status == 401:  # expired early, or revoked: the call had no effect
            self._token.invalidate(token)
            response = await self._send(call, await self._token.get(), is_retry=True)
        if response.status == 401:
            raise FoundryError(
                "Foundry rejects the token that it has just issued (401).",
                error_name=response.error.name,
                instance_id=response.error.instance_id,
            )
        return response

    async def _send(self, call: ApiCall, token: str, *, is_retry: bool) -> ApiResponse:
        headers = {"Authorization": f"Bearer {token}"}
        if call.content_type is not None:
            headers["Content-Type"] = call.content_type
        async with self._gate.permit():
            try:
                response = await self._exchange(call, headers, is_retry=is_retry)
            except FoundryError as error:
                wait = error.retry_seconds
                self._gate.record_failure(None if wait is None else min(wait, WAIT_SECONDS_MAX))
                raise
            self._gate.record_success()
            return response

    async def _exchange(
        self, call: ApiCall, headers: Mapping[str, str], *, is_retry: bool
    ) -> ApiResponse:
        started_at, status, error = time.perf_counter(), 0, NO_ERROR
        data: Bytes | ChunkedBody | None = call.body
        if call.body is not None and len(call.body) > CHUNK_BYTES:
            headers = {**headers, "Content-Length": str(len(call.body))}
            data = ChunkedBody(call.body)
        try:
            async with self._session.request(
                call.method,
                build_url(self._host + call.root + call.path, call.query),
                data=data,
                headers=headers,
                skip_auto_headers=("Content-Type",),
                timeout=aiohttp.ClientTimeout(
                    total=self._call_seconds + call.bytes / BYTES_PER_SECOND
                ),
                allow_redirects=False,
            ) as response:
                body = await response.read()
                status = response.status
                error = parse_error(status, body)
                return classify_response(status, response.headers, body, error)
        except CONNECTION_ERRORS as failure:
            raise ConnectionLost(
                f"Foundry does not answer ({type(failure).__name__}).",
                remedy=explain_unreachable(failure, self._host, "FOUNDRY_HOST").outcome.to_do,
            ) from failure.with_traceback(
                None
            )  # it refers to the body, and aiohttp keeps the error
        finally:
            if isinstance(data, ChunkedBody):
                data.release()
            seconds = time.perf_counter() - started_at
            self._emit(
                FoundryCalled(
                    call.operation, status, seconds, is_retry, error.name, error.instance_id
                )
            )


class ChunkedBody:
    """A large body in chunks, because aiohttp would copy it as a whole.

    `release` drops it at the end of the call: aiohttp may keep this object in a cycle with an
    error, and the garbage collector rarely runs.
    """

    def __init__(self, body: Bytes) -> None:
        self._body: Bytes = body

    def release(self) -> None:
        self._body = b""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self._body), CHUNK_BYTES):
            yield bytes(memoryview(self._body)[start : start + CHUNK_BYTES])


def build_url(address: str, query: Mapping[str, str] | None) -> URL:
    """Build a URL from an encoded address: each path in a dataset is a single segment of it."""
    url = URL(address, encoded=True)
    return url.with_query(query) if query else url


def classify_response(
    status: int, headers: Mapping[str, str], body: bytes, error: ErrorBody
) -> ApiResponse:
    """Return a conclusive response: any 2xx, or a 4xx that is not about time or load.

    Raises TransientError if the call can be retried, FoundryError if Foundry forbids that or
    redirects.
    """
    name, instance_id = error.name, error.instance_id
    if status in {429, 503}:
        message, seconds = f"Foundry is overloaded ({status}).", parse_retry_after(headers)
        if headers.get("QoS-Retry-Hint") == "do-not-retry":
            seconds = WAIT_SECONDS_MAX if seconds is None else seconds
            raise FoundryError(message, seconds, error_name=name, instance_id=instance_id)
        raise TransientError(message, seconds, error_name=name, instance_id=instance_id)
    if 300 <= status < 400:
        raise build_redirect_error("FOUNDRY_HOST", status, headers.get("Location", ""))
    if status >= 500 or status < 200 or status == 408:
        message = describe_answer(status, error)
        kind = InternalError if status == 500 else TransientError
        raise kind(message, error_name=name, instance_id=instance_id)
    return ApiResponse(status, body, headers.get("Date", ""), error)


def parse_retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds of Retry-After, at most 900; None if it is missing, invalid or past.

    A date, as proxies may send it, counts from the Date header: our clock may differ.
    """
    after = headers.get("Retry-After", "")
    if after.isascii() and after.isdecimal() and len(after) < 10:
        return min(float(after), RETRY_AFTER_SECONDS_MAX)
    until, now = parse_date(after), parse_date(headers.get("Date", ""))
    if until is None or now is None or until <= now:
        return None
    return min((until - now).total_seconds(), RETRY_AFTER_SECONDS_MAX)


def retry_delay(error: FoundryError, backoff_seconds: float) -> float | None:
    """Return the seconds to wait before a retry; None if the call must not be retried now.

    A broken connection does not mean load, so the retry is fast; the gate slows down after several.
    """
    if not isinstance(error, TransientError):
        return None
    if isinstance(error, ConnectionLost):
        return RECONNECT_SECONDS
    if error.retry_seconds is None:
        return backoff_seconds
    return error.retry_seconds if error.retry_seconds <= WAIT_SECONDS_MAX else None
