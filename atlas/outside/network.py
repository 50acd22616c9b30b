"""HTTP sessions to other systems, and explanations of failed connections.

Every session uses the proxy of the environment, trusts the same certificates, and sends a
User-Agent. Explanations depend on the kind of failure (DNS, port, certificate, time-out) and never
quote the library's text, which may contain a URL with secrets.
"""

import secrets
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from typing import Any, NamedTuple
from urllib.request import getproxies, proxy_bypass

import aiohttp
from yarl import URL

from atlas import __version__
from atlas.core.diagnosis import CheckFailed
from atlas.core.errors import ConfigurationError

# yarl raises ValueError
CONNECTION_ERRORS = (aiohttp.ClientError, TimeoutError, OSError, ValueError)
SELF_SIGNED = {18, 19}  # X509_V_ERR_*: openssl/x509_vfy.h
UNKNOWN_ISSUER = {2, 20, 21}
EXPIRED, NOT_YET_VALID, HOSTNAME_MISMATCH = 10, 9, 62
CA_REMEDY = (
    "If your proxy inspects TLS, add its CA (ATLAS_CA_BUNDLE, SSL_CERT_FILE); "
    "otherwise fix the certificate on the server."
)
PROXY_REMEDY = "Are HTTPS_PROXY and HTTP_PROXY right? List hosts to reach directly in NO_PROXY."
USER_AGENT = f"atlas/{__version__}"


@dataclass(frozen=True, slots=True)
class Transport:
    """Settings of connections to other systems.

    `ca_bundle` is a file of PEM certificates to trust in addition to the system's, "" for none.
    If `uses_proxy`, HTTPS_PROXY, HTTP_PROXY and NO_PROXY apply.
    """

    ca_bundle: str = ""
    uses_proxy: bool = True


DEFAULT_TRANSPORT = Transport()


class HttpSession:
    """An aiohttp session that uses the proxy of the environment.

    aiohttp's `trust_env` would also send logins from ~/.netrc, and fail for calls with a token.
    """

    def __init__(self, session: aiohttp.ClientSession, proxies: "Proxies") -> None:
        self._session = session
        self._proxies = proxies

    def request(
        self, method: str, url: str | URL, **options: Any
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        return self._session.request(method, url, proxy=self._proxies.find(URL(url)), **options)


@asynccontextmanager
async def open_session(
    transport: Transport, connections_max: int = 100
) -> AsyncIterator[HttpSession]:
    """Open a session for all calls to one system. Raises ConfigurationError."""
    proxies = Proxies(read_proxies() if transport.uses_proxy else {})
    tls = build_tls_context(transport.ca_bundle)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections_max, ssl=tls),
        headers={"User-Agent": USER_AGENT},
        middlewares=(add_trace_headers,),
    ) as session:
        yield HttpSession(session, proxies)


def build_tls_context(ca_bundle: str = "") -> ssl.SSLContext:
    """Return a context that trusts the system's certificates (or SSL_CERT_FILE) and the bundle.

    Raises ConfigurationError if the bundle cannot be read.
    """
    context = ssl.create_default_context()
    if ca_bundle:
        try:
            context.load_verify_locations(cafile=ca_bundle)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise ConfigurationError(
                f"ATLAS_CA_BUNDLE must be a readable file of PEM certificates; it is {ca_bundle}."
            ) from error
    return context


def read_proxies() -> Mapping[str, URL]:
    """Return the proxies in HTTP_PROXY and HTTPS_PROXY, by scheme of the destination.

    Raises ConfigurationError if one is not a URL.
    """
    proxies = dict[str, URL]()
    for scheme, address in getproxies().items():
        if scheme in {"http", "https"} and address:
            name = f"{scheme.upper()}_PROXY"
            try:
                url = URL(address if "://" in address else f"http://{address}")
            except ValueError:
                url = URL()
            if url.scheme not in {"http", "https"} or not url.host:
                raise ConfigurationError(f"{name} must be the URL of a proxy: http://HOST:PORT")
            proxies[scheme] = url
    return proxies


@dataclass(frozen=True, slots=True)
class Proxies:
    """Finds the proxy for a URL, by its scheme and NO_PROXY."""

    by_scheme: Mapping[str, URL]

    def find(self, url: URL) -> URL | None:
        """Return the proxy for this URL, or None for a direct connection."""
        if url.scheme not in self.by_scheme or proxy_bypass(url.host or ""):
            return None
        return self.by_scheme[url.scheme]


async def add_trace_headers(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Add B3 headers to a request, by which Foundry's service logs can be searched."""
    request.headers["X-B3-TraceId"] = secrets.token_hex(16)
    request.headers["X-B3-SpanId"] = secrets.token_hex(8)
    request.headers["X-B3-Sampled"] = "1"
    return await handler(request)


class ProbeReply(NamedTuple):
    """A response to `fetch`. A large body is truncated."""

    status: int
    headers: Mapping[str, str]
    body: bytes


async def fetch(
    session: HttpSession, address: str, path: str, setting: str, seconds: float, bytes_max: int
) -> ProbeReply:
    """GET `path` at `address`, without following redirects. Raises CheckFailed about `setting`."""
    timeout, body = aiohttp.ClientTimeout(total=seconds), b""
    try:
        async with session.request(
            "GET", address + path, timeout=timeout, allow_redirects=False
        ) as response:
            while chunk := await response.content.read(bytes_max - len(body)):
                body += chunk
            return ProbeReply(response.status, response.headers, body)
    except CONNECTION_ERRORS as error:
        raise explain_unreachable(error, address, setting) from error


def is_loopback(address: str) -> bool:
    try:
        host = URL(address).host or ""
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def explain_unreachable(error: BaseException, address: str, setting: str) -> CheckFailed:
    """Return an explanation of a failed call to `address`, the value of `setting`."""
    if isinstance(error, aiohttp.InvalidURL) or not extract_host(address):
        return CheckFailed(
            f"{setting} is not an address.", f"Set {setting} to a host, or to an https URL."
        )
    host = extract_host(address)
    if isinstance(error, aiohttp.ClientProxyConnectionError | aiohttp.ClientHttpProxyError):
        return CheckFailed(f"{host} cannot be reached through the proxy.", PROXY_REMEDY)
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return explain_certificate(error, host)
    reason, remedy = explain_connection(error, setting)
    return CheckFailed(f"{host} {reason}", remedy, is_outage=isinstance(error, TimeoutError))


def explain_connection(error: BaseException, setting: str) -> tuple[str, str]:
    """Return the predicate of a sentence about the host, and a remedy."""
    is_right = f"Is {setting} right?"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "cannot be resolved (DNS).", f"{is_right} Does DNS work on this machine?"
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        return "does not accept our TLS handshake.", f"{is_right} Check its scheme and port."
    if isinstance(error, aiohttp.ClientConnectorError):
        if isinstance(error.os_error, ConnectionRefusedError):
            return "refuses the connection.", f"{is_right} Does anything listen there?"
        return "cannot be reached.", f"{is_right} Does a firewall let this machine out?"
    if isinstance(error, TimeoutError):
        remedy = f"Try again in a minute. {is_right} Does a firewall let this machine out?"
        return "does not answer in time: it is down or busy.", remedy
    return (
        "closed the connection before the response was complete.",
        f"{is_right} Is it a web server?",
    )


def explain_certificate(error: aiohttp.ClientConnectorCertificateError, host: str) -> CheckFailed:
    """Return an explanation of a certificate that is not trusted."""
    cause = error.certificate_error
    code = cause.verify_code if isinstance(cause, ssl.SSLCertVerificationError) else None
    if code in SELF_SIGNED:
        return CheckFailed(f"{host} presents a self-signed certificate.", CA_REMEDY)
    if code in UNKNOWN_ISSUER:
        return CheckFailed(f"{host} presents a certificate of an unknown issuer.", CA_REMEDY)
    if code == EXPIRED:
        return CheckFailed(f"The certificate of {host} has expired.", "Renew it on the server.")
    if code == NOT_YET_VALID:
        return CheckFailed(
            f"The certificate of {host} is not valid yet.", "Is our clock right? See step 1."
        )
    if code == HOSTNAME_MISMATCH:
        return CheckFailed(
            f"The certificate of {host} is for another name.", "Use a name that it contains."
        )
    return CheckFailed(f"The certificate of {host} is not trusted.", CA_REMEDY)


def extract_host(address: str) -> str:
    """Return the host, with its port unless that is the default; "" for an invalid address."""
    try:
        url = URL(address)
    except ValueError:
        return ""
    if not url.host or url.scheme not in {"http", "https"}:
        return ""
    return url.host if url.is_default_port() else f"{url.host}:{url.port}"


def extract_redirect_host(address: str, response: ProbeReply) -> str:
    """Return the host that a redirect leads to, "nowhere" if its Location is invalid."""
    try:
        target = URL(address).join(URL(response.headers.get("Location", "")))
        return extract_host(str(target)) or "nowhere"
    except ValueError:
        return "nowhere"


def parse_date(text: str) -> datetime | None:
    """Return the time of a Date header in UTC; None if it is invalid."""
    try:
        date = parsedate_to_datetime(text)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def measure_clock_skew(date: str, now: datetime) -> float | None:
    """Return the seconds by which a Date header is ahead of our clock; None if it is invalid.

    Half a second is added, because the header is truncated to whole seconds.
    """
    server_time = parse_date(date)
    return None if server_time is None else (server_time - now).total_seconds() + 0.5
