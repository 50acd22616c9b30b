"""Probe of the address that phones use: is it Atlas, and does a proxy block requests?"""

import asyncio
import ssl
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Literal, TypeVar

import aiohttp
import msgspec
from msgspec import Struct
from yarl import URL

from atlas.core.diagnosis import CheckFailed
from atlas.core.error_reply import ReceivedReply
from atlas.core.errors import JSON_ERRORS
from atlas.core.identifiers import API_PREFIX
from atlas.core.inspection import BlockedBody, Certificate, ServiceHealth
from atlas.outside.network import (
    CONNECTION_ERRORS,
    DEFAULT_TRANSPORT,
    HttpSession,
    ProbeReply,
    Transport,
    build_tls_context,
    extract_host,
    extract_redirect_host,
    fetch,
    is_loopback,
    open_session,
)

T = TypeVar("T")

SETTING = "--url"
CORRELATION_PREFIX = "diagnose-"  # marks requests that are sent only to be rejected
ANSWER_SECONDS, BODY_SECONDS = 5.0, 60.0
BLOCK = b" " * 65_536
RESPONSE_BYTES_MAX = 65_536  # enough for Atlas; a foreign response is truncated
SHOWN_MAX = 60  # characters of a header


class ProbedHealth(Struct):
    """The response to GET /health."""

    service: Literal["atlas"]
    version: str


class ProbedCheck(Struct):
    """A check in `ProbedReadiness`."""

    ok: bool
    reason: str = "no reason"


class ProbedReadiness(Struct):
    """The response to GET /health/ready."""

    checks: dict[str, ProbedCheck]


class PublicEndpointProbe:
    """Implements `ports.PublicEndpoint`."""

    def __init__(
        self,
        session: HttpSession,
        url: str,
        monotonic: Callable[[], float],
        tls: ssl.SSLContext,
    ) -> None:
        self._session = session
        self._url = url.rstrip("/")
        self._host = extract_host(url)
        self._monotonic = monotonic
        self._tls = tls

    async def health(self) -> ServiceHealth:
        started_at = self._monotonic()
        health = await self._get("/health", ProbedHealth)
        seconds = self._monotonic() - started_at
        readiness = await self._get("/health/ready", ProbedReadiness)
        checks = {
            name: None if check.ok else check.reason for name, check in readiness.checks.items()
        }
        return ServiceHealth(health.version[:SHOWN_MAX], seconds, checks)

    async def certificate(self) -> Certificate | None:
        url = URL(self._url)
        if url.scheme != "https" or url.host is None:
            return None
        with suppress(OSError, TimeoutError):  # reported by `health`
            async with asyncio.timeout(ANSWER_SECONDS):
                _, writer = await asyncio.open_connection(url.host, url.port, ssl=self._tls)
                certificate = writer.get_extra_info("peercert") or {}
                writer.close()
            expires = datetime.fromtimestamp(ssl.cert_time_to_seconds(certificate["notAfter"]), UTC)
            names = tuple(name for _, name in certificate.get("subjectAltName", ()))
            return Certificate(names, expires)
        return None

    async def probe_body(self, bytes: int) -> BlockedBody | None:
        """Send a body without a token; return None if Atlas itself rejects it.

        With `Expect: 100-continue` (RFC 9110, 10.1.1) Atlas answers before the body is sent, and so
        does a proxy that checks Content-Length; other proxies read the body first.
        """
        correlation_id = f"{CORRELATION_PREFIX}{uuid.uuid4()}"
        headers = {
            "Content-Length": str(bytes),
            "Content-Type": "application/json",
            "X-Correlation-Id": correlation_id,
        }
        try:
            async with self._session.request(
                "POST",
                f"{self._url}{API_PREFIX}/export",
                data=generate_filler(bytes),
                headers=headers,
                expect100=True,
                timeout=aiohttp.ClientTimeout(total=BODY_SECONDS, sock_connect=ANSWER_SECONDS),
                allow_redirects=False,
            ) as response:
                body = await response.content.read(RESPONSE_BYTES_MAX)
                reply = ProbeReply(response.status, response.headers, body)
        except CONNECTION_ERRORS:
            return BlockedBody(bytes, None, "")
        if is_atlas_rejection(reply, correlation_id):
            return None
        return BlockedBody(bytes, reply.status, read_server(reply))

    async def _get(self, path: str, kind: type[T]) -> T:
        reply = await fetch(
            self._session, self._url, path, SETTING, ANSWER_SECONDS, RESPONSE_BYTES_MAX
        )
        try:
            return msgspec.json.decode(reply.body, type=kind)
        except JSON_ERRORS as error:
            raise self._explain_foreign_reply(reply) from error

    def _explain_foreign_reply(self, reply: ProbeReply) -> CheckFailed:
        """Return an explanation of a response that is not from Atlas."""
        server = read_server(reply)
        answer = f"{self._host} answers {reply.status}" + (f" ({server})" if server else "")
        if 300 <= reply.status < 400:
            return CheckFailed(
                f"{answer} and redirects to {extract_redirect_host(self._url, reply)}.",
                "Phones do not follow redirects of a POST: set the final address in the app.",
            )
        if reply.status in {502, 503, 504}:
            return CheckFailed(
                f"{answer}: a proxy in front does not reach Atlas.",
                "Is Atlas running, and does the proxy use its port?",
            )
        return CheckFailed(
            f"{answer}, but is not Atlas.", f"Is {SETTING} the address that phones use?"
        )


@asynccontextmanager
async def open_public_endpoint(
    url: str,
    monotonic: Callable[[], float] = time.monotonic,
    transport: Transport = DEFAULT_TRANSPORT,
) -> AsyncIterator[PublicEndpointProbe]:
    """Open a probe of this address. Make no call. Raises ConfigurationError."""
    if is_loopback(url):  # a proxy cannot reach this machine's loopback
        transport = replace(transport, uses_proxy=False)
    async with open_session(transport) as session:
        yield PublicEndpointProbe(session, url, monotonic, build_tls_context(transport.ca_bundle))


async def generate_filler(size: int) -> AsyncIterator[bytes]:
    """Yield white space, which is never a valid export."""
    for start in range(0, size, len(BLOCK)):
        yield BLOCK[: size - start]


def is_atlas_rejection(reply: ProbeReply, correlation_id: str) -> bool:
    """True if this is Atlas's answer to a request without a token, with its correlation id."""
    try:
        code = msgspec.json.decode(reply.body, type=ReceivedReply).error.code
    except JSON_ERRORS:
        return False
    is_echoed = reply.headers.get("X-Correlation-Id") == correlation_id
    return reply.status == 401 and code == "UNAUTHORIZED" and is_echoed


def read_server(reply: ProbeReply) -> str:
    """Return the Server header, safe to print to a terminal."""
    server = reply.headers.get("Server", "")[:SHOWN_MAX]
    return "".join(each if each.isprintable() else "?" for each in server)
