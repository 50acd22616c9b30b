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

from atlas.core.diagnosis import Amiss
from atlas.core.error_reply import ReceivedReply
from atlas.core.errors import NOT_JSON
from atlas.core.names import API_PREFIX
from atlas.core.sights import Certificate, Health, Stopped
from atlas.outside.network import (
    DEFAULT,
    UNREACHED,
    Answer,
    HttpSession,
    Transport,
    build_tls_context,
    fetch,
    host_of,
    is_this_machine,
    open_session,
    sent_on,
)

SETTING = "--url"
OURS = "diagnose-"  # so begins the X-Correlation-Id of what is sent only to be turned away
ANSWER_SECONDS, BODY_SECONDS = 5.0, 60.0
BLOCK = b" " * 65_536
EXPORT = f"{API_PREFIX}/export"
OURS_MAX = 65_536  # bytes of an answer of Atlas; another's is not read to its end
SHOWN_MAX = 60


class Living(Struct):
    """The answer of /health."""

    service: Literal["atlas"]
    version: str


class Check(Struct):
    ok: bool
    reason: str = "no reason"


class Ready(Struct):
    """The answer of /health/ready."""

    checks: dict[str, Check]


class HttpFront:
    """Answers `ports.Front`."""

    def __init__(
        self,
        session: HttpSession,
        url: str,
        elapsed: Callable[[], float],
        tls: ssl.SSLContext,
    ) -> None:
        self._session = session
        self._url = url.rstrip("/")
        self._host = host_of(url)
        self._elapsed = elapsed
        self._tls = tls

    async def health(self) -> Health:
        began = self._elapsed()
        answer = await self._get("/health")
        seconds = self._elapsed() - began
        try:
            living = msgspec.json.decode(answer.body, type=Living)
        except NOT_JSON as error:
            raise self._somebody_else(answer) from error
        ready = await self._get("/health/ready")
        try:
            found = msgspec.json.decode(ready.body, type=Ready).checks
        except NOT_JSON as error:
            raise self._somebody_else(ready) from error
        checks = {name: None if check.ok else check.reason for name, check in found.items()}
        return Health(living.version[:SHOWN_MAX], seconds, checks)

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

    async def stopped(self, bytes: int) -> Stopped | None:
        """Whoever asks before sending (RFC 9110, 10.1.1) is told at once by Atlas, and by a proxy
        that looks at Content-Length; another takes the body first.
        """
        ours = f"{OURS}{uuid.uuid4()}"
        headers = {
            "Content-Length": str(bytes),
            "Content-Type": "application/json",
            "X-Correlation-Id": ours,
        }
        try:
            async with self._session.request(
                "POST",
                self._url + EXPORT,
                data=blank(bytes),
                headers=headers,
                expect100=True,
                timeout=aiohttp.ClientTimeout(total=BODY_SECONDS, sock_connect=ANSWER_SECONDS),
                allow_redirects=False,
            ) as answer:
                body = await answer.content.read(OURS_MAX)
                told = Answer(answer.status, answer.headers, body)
        except UNREACHED:
            return Stopped(bytes, None, "")
        return None if is_ours(told, ours) else Stopped(bytes, told.status, server_of(told))

    async def _get(self, path: str) -> Answer:
        return await fetch(self._session, self._url, path, SETTING, ANSWER_SECONDS, OURS_MAX)

    def _somebody_else(self, answer: Answer) -> Amiss:
        """It is not Atlas that has answered."""
        server = server_of(answer)
        by = f"{self._host} answers {answer.status}" + (f" ({server})" if server else "")
        if 300 <= answer.status < 400:
            return Amiss(
                f"{by} and sends us on to {sent_on(self._url, answer)}.",
                "Phones follow no redirect with a body: give them the address behind it.",
            )
        if answer.status in {502, 503, 504}:
            return Amiss(
                f"{by}: something stands in front, and does not reach Atlas.",
                "Does Atlas run, and does the proxy know its port?",
            )
        return Amiss(f"{by}, and it is not Atlas.", f"Is {SETTING} the address that phones use?")


@asynccontextmanager
async def reached(
    url: str, elapsed: Callable[[], float] = time.monotonic, transport: Transport = DEFAULT
) -> AsyncIterator[HttpFront]:
    """Whoever answers at this address. Nothing is asked yet."""
    if is_this_machine(url):  # whatever the environment says of proxies
        transport = replace(transport, uses_proxy=False)
    async with open_session(transport) as session:
        yield HttpFront(session, url, elapsed, build_tls_context(transport.ca_bundle))


async def blank(size: int) -> AsyncIterator[bytes]:
    """White space, which is no export of anybody."""
    for start in range(0, size, len(BLOCK)):
        yield BLOCK[: size - start]


def is_ours(answer: Answer, correlation_id: str) -> bool:
    """Atlas turns a stranger away in its own words, under the name that he gave his request."""
    try:
        told = msgspec.json.decode(answer.body, type=ReceivedReply)
    except NOT_JSON:
        return False
    echoed = answer.headers.get("X-Correlation-Id") == correlation_id
    return answer.status == 401 and told.error.code == "UNAUTHORIZED" and echoed


def server_of(answer: Answer) -> str:
    told = answer.headers.get("Server", "")[:SHOWN_MAX]
    return "".join(each if each.isprintable() else "?" for each in told)
