"""The address that phones use, asked as a phone would: is it Atlas, and what stands in front?"""

import asyncio
import ssl
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Literal

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
    is_this_machine,
    open_session,
)

SETTING = "--url"
CORRELATION_PREFIX = (
    "diagnose-"  # so begins the X-Correlation-Id of what is sent only to be turned away
)
ANSWER_SECONDS, BODY_SECONDS = 5.0, 60.0
BLOCK = b" " * 65_536
EXPORT = f"{API_PREFIX}/export"
REFUSAL_BYTES_MAX = 65_536  # bytes of an answer of Atlas; another's is not read to its end
SHOWN_MAX = 60


class ProbedHealth(Struct):
    """The answer of /health."""

    service: Literal["atlas"]
    version: str


class ProbedCheck(Struct):
    ok: bool
    reason: str = "no reason"


class ProbedReadiness(Struct):
    """The answer of /health/ready."""

    checks: dict[str, ProbedCheck]


class PublicEndpointProbe:
    """Answers `ports.Front`."""

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
        began = self._monotonic()
        answer = await self._get("/health")
        seconds = self._monotonic() - began
        try:
            living = msgspec.json.decode(answer.body, type=ProbedHealth)
        except JSON_ERRORS as error:
            raise self._explain_foreign_reply(answer) from error
        ready = await self._get("/health/ready")
        try:
            check_results = msgspec.json.decode(ready.body, type=ProbedReadiness).checks
        except JSON_ERRORS as error:
            raise self._explain_foreign_reply(ready) from error
        checks = {name: None if check.ok else check.reason for name, check in check_results.items()}
        return ServiceHealth(living.version[:SHOWN_MAX], seconds, checks)

    async def certificate(self) -> Certificate | None:
        url = URL(self._url)
        if url.scheme != "https" or url.host is None:
            return None
        with suppress(OSError, TimeoutError):  # who cannot be reached has been told of
            async with asyncio.timeout(ANSWER_SECONDS):
                _, writer = await asyncio.open_connection(url.host, url.port, ssl=self._tls)
                shown = writer.get_extra_info("peercert") or {}
                writer.close()
            expires = datetime.fromtimestamp(ssl.cert_time_to_seconds(shown["notAfter"]), UTC)
            names = tuple(name for _, name in shown.get("subjectAltName", ()))
            return Certificate(names, expires)
        return None

    async def probe_body(self, bytes: int) -> BlockedBody | None:
        """Whoever asks before sending (RFC 9110, 10.1.1) is told at once by Atlas, and by a proxy
        that looks at Content-Length; another takes the body first.
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
                self._url + EXPORT,
                data=filler_body(bytes),
                headers=headers,
                expect100=True,
                timeout=aiohttp.ClientTimeout(total=BODY_SECONDS, sock_connect=ANSWER_SECONDS),
                allow_redirects=False,
            ) as answer:
                body = await answer.content.read(REFUSAL_BYTES_MAX)
                reply = ProbeReply(answer.status, answer.headers, body)
        except CONNECTION_ERRORS:
            return BlockedBody(bytes, None, "")
        return (
            None
            if is_atlas_refusal(reply, correlation_id)
            else BlockedBody(bytes, reply.status, read_server(reply))
        )

    async def _get(self, path: str) -> ProbeReply:
        return await fetch(
            self._session, self._url, path, SETTING, ANSWER_SECONDS, REFUSAL_BYTES_MAX
        )

    def _explain_foreign_reply(self, answer: ProbeReply) -> CheckFailed:
        """It is not Atlas that has answered."""
        server = read_server(answer)
        by = f"{self._host} answers {answer.status}" + (f" ({server})" if server else "")
        if 300 <= answer.status < 400:
            return CheckFailed(
                f"{by} and sends us on to {extract_redirect_host(self._url, answer)}.",
                "Phones follow no redirect with a body: give them the address behind it.",
            )
        if answer.status in {502, 503, 504}:
            return CheckFailed(
                f"{by}: something stands in front, and does not reach Atlas.",
                "Does Atlas run, and does the proxy know its port?",
            )
        return CheckFailed(
            f"{by}, and it is not Atlas.", f"Is {SETTING} the address that phones use?"
        )


@asynccontextmanager
async def open_public_endpoint(
    url: str,
    monotonic: Callable[[], float] = time.monotonic,
    transport: Transport = DEFAULT_TRANSPORT,
) -> AsyncIterator[PublicEndpointProbe]:
    """Whoever answers at this address. Nothing is asked yet."""
    if is_this_machine(url):  # whatever the environment says of proxies
        transport = replace(transport, uses_proxy=False)
    async with open_session(transport) as session:
        yield PublicEndpointProbe(session, url, monotonic, build_tls_context(transport.ca_bundle))


async def filler_body(size: int) -> AsyncIterator[bytes]:
    """White space, which is no export of anybody."""
    for start in range(0, size, len(BLOCK)):
        yield BLOCK[: size - start]


def is_atlas_refusal(answer: ProbeReply, correlation_id: str) -> bool:
    """Atlas turns a stranger away in its own words, under the name that he gave his request."""
    try:
        reply = msgspec.json.decode(answer.body, type=ReceivedReply)
    except JSON_ERRORS:
        return False
    echoed = answer.headers.get("X-Correlation-Id") == correlation_id
    return answer.status == 401 and reply.error.code == "UNAUTHORIZED" and echoed


def read_server(answer: ProbeReply) -> str:
    server = answer.headers.get("Server", "")[:SHOWN_MAX]
    return "".join(each if each.isprintable() else "?" for each in server)
