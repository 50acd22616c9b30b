"""Access token for Foundry, by the OAuth 2.0 client credentials grant (multipass)."""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import aiohttp
import anyio
import msgspec
from authlib.oauth2.auth import ClientAuth
from authlib.oauth2.rfc6749 import OAuth2Token
from authlib.oauth2.rfc6749.parameters import prepare_token_request
from msgspec import Meta, Struct

from atlas.core.errors import JSON_ERRORS, FoundryError
from atlas.core.events import EventSink, FoundryCalled, FoundryTokenFetched, FoundryTokenRefused
from atlas.outside.foundry.errors import build_redirect_error
from atlas.outside.foundry.observations import Observations
from atlas.outside.foundry.responses import ERROR_NAME, match_or_empty
from atlas.outside.network import CONNECTION_ERRORS, HttpSession

SCOPE = "api:datasets-read api:datasets-write"
EARLY_SECONDS = 60  # a token is replaced this many seconds before it expires
LIFETIME_SECONDS_MAX = 2**40
ENDPOINT_SETTING = "FOUNDRY_OAUTH_TOKEN_URL"
MEDIA_TYPE = re.compile(r"[a-z]+/[a-z.+-]{1,60}")
SAME_CLIENT = (
    "Do FOUNDRY_CLIENT_ID and FOUNDRY_CLIENT_SECRET belong to the same application, and is its "
    "client credentials grant enabled? If in doubt, create a new secret."
)
CHECK_ENDPOINT = f"Check FOUNDRY_HOST and {ENDPOINT_SETTING}. Does a proxy answer instead?"


@dataclass(frozen=True, slots=True)
class Credentials:
    """The token endpoint, the client that authenticates there, and the scopes that it asks for."""

    url: str
    client_id: str
    client_secret: str
    scope: str = SCOPE


class EndpointUnreachable(FoundryError):
    """The token endpoint did not answer; the `__cause__` is the network error."""


class FoundryToken:
    """The token that all calls share. It is replaced shortly before it expires.

    `date` is the Date header of the last response, "" if there was none.
    """

    def __init__(
        self,
        session: HttpSession,
        credentials: Credentials,
        call_seconds: float,
        emit: EventSink,
        observations: Observations,
    ) -> None:
        self._session = session
        self._credentials = credentials
        self._call_seconds = call_seconds
        self._emit = emit
        self._observations = observations
        self._token = OAuth2Token({})
        self._early_seconds = EARLY_SECONDS
        self.date = ""
        self._fetching = anyio.Lock()

    async def get(self) -> str:
        """Return a valid token, fetching one if necessary. Raises FoundryError."""
        if not self._is_valid():
            async with self._fetching:
                if not self._is_valid():
                    await self._fetch()
        text: str = self._token["access_token"]
        return text

    @property
    def lifetime_seconds(self) -> int:
        """The lifetime of the token when it was issued; 0 if Foundry did not state it."""
        return int(self._token.get("expires_in", 0))

    def invalidate(self, token: str) -> None:
        """Discard a token that Foundry rejected, so that the next call fetches another."""
        if self._token.get("access_token") == token:
            self._token = OAuth2Token({})

    def _is_valid(self) -> bool:
        return "access_token" in self._token and not self._token.is_expired(
            leeway=self._early_seconds
        )

    async def _fetch(self) -> None:
        try:
            self._token, lifetime_type = await self._request()
        except FoundryError as error:
            self._emit(FoundryTokenRefused(str(error)))
            raise
        self._early_seconds = min(EARLY_SECONDS, self.lifetime_seconds // 2)
        self._observations.note("expires_in", lifetime_type)
        self._emit(FoundryTokenFetched(self.lifetime_seconds))

    async def _request(self) -> tuple[Any, str]:
        started_at, status = time.perf_counter(), 0
        try:
            status, headers, body = await request_token(
                self._session, self._credentials, self._call_seconds
            )
        except TimeoutError as error:
            raise EndpointUnreachable(
                f"Foundry's token endpoint does not answer in time: Foundry is down or busy, or "
                f"{ENDPOINT_SETTING} is wrong."
            ) from error
        except CONNECTION_ERRORS as error:
            raise EndpointUnreachable(
                f"Foundry's token endpoint does not answer ({type(error).__name__}): "
                f"is {ENDPOINT_SETTING} right?"
            ) from error
        finally:
            seconds = time.perf_counter() - started_at
            self._emit(FoundryCalled("token", status, seconds, is_retry=False))
        self.date = headers.get("Date", "")
        if 300 <= status < 400:
            raise build_redirect_error(ENDPOINT_SETTING, status, headers.get("Location", ""))
        if status in {400, 401, 403} and is_scope_refused(body):
            raise FoundryError(
                f"Foundry does not grant our client the scopes {self._credentials.scope} "
                f"({status}).",
                remedy="In Foundry, grant these scopes to the application.",
            )
        return parse_token(status, headers, body), describe_lifetime(body)


async def request_token(
    session: HttpSession, credentials: Credentials, seconds: float
) -> tuple[int, Mapping[str, str], bytes]:
    """POST to the token endpoint, and return status, headers and body. Raises aiohttp's errors."""
    client = ClientAuth(credentials.client_id, credentials.client_secret, "client_secret_post")
    form = prepare_token_request("client_credentials", scope=credentials.scope)
    headers = {"Content-Type": "application/x-www-form-urlencoded;charset=UTF-8"}
    url, headers, body = client.prepare("POST", credentials.url, headers, form)
    async with session.request(
        "POST",
        url,
        data=body,
        headers=headers,
        timeout=aiohttp.ClientTimeout(total=seconds),
        allow_redirects=False,
    ) as response:
        return response.status, response.headers, await response.read()


class TokenBody(Struct):
    """A token response (RFC 6749, section 5.1). The token must match RFC 6750, section 2.1."""

    access_token: Annotated[str, Meta(pattern=r"^[\x21-\x7e]+$")]
    expires_in: Any = None
    expires_at: Any = None  # authlib prefers it to expires_in


def parse_token(status: int, headers: Mapping[str, str], body: bytes) -> Any:
    """Parse the response of the token endpoint. Raises FoundryError.

    `expires_in` may be a number or a string. Without a valid one the token is used until Foundry
    rejects it.
    """
    if status in {400, 401, 403}:
        raise FoundryError(
            f"Foundry does not accept the client ({status}): "
            "are FOUNDRY_CLIENT_ID and FOUNDRY_CLIENT_SECRET right?",
            remedy=SAME_CLIENT,
        )
    if status == 429 or status >= 500:
        raise FoundryError(f"Foundry's token endpoint answers {status}: Foundry is down or busy.")
    media_type = match_or_empty(MEDIA_TYPE, headers.get("Content-Type", "").partition(";")[0])
    if status != 200:
        raise FoundryError(
            f"Foundry's token endpoint answers {status} ({media_type or 'no media type'}): "
            f"is {ENDPOINT_SETTING} right?",
            remedy=CHECK_ENDPOINT,
        )
    try:
        token_body = msgspec.json.decode(body, type=TokenBody)
    except JSON_ERRORS as error:
        raise FoundryError(
            f"Foundry's token endpoint answers 200 without a token "
            f"({media_type or 'no media type'}): is {ENDPOINT_SETTING} right?",
            remedy=CHECK_ENDPOINT,
        ) from error
    times = {"expires_in": token_body.expires_in, "expires_at": token_body.expires_at}
    valid = {name: seconds for name, each in times.items() if (seconds := parse_seconds(each))}
    return OAuth2Token({"access_token": token_body.access_token, **valid})


def is_scope_refused(body: bytes) -> bool:
    """True if an error is about a scope: `invalid_scope` (RFC 6749), or Foundry's InvalidScope."""
    try:
        envelope = msgspec.json.decode(body, type=dict[str, Any])
    except JSON_ERRORS:
        return False
    name = match_or_empty(ERROR_NAME, envelope.get("errorName"))
    return envelope.get("error") == "invalid_scope" or name.endswith("InvalidScope")


def parse_seconds(value: object) -> int | None:
    """Return the whole seconds of a number or a decimal string; None for anything else."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 20:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if 0 <= value <= LIFETIME_SECONDS_MAX else None


def describe_lifetime(body: bytes) -> str:
    """Return the type of `expires_in`, for observation. `body` is a valid token response."""
    value = msgspec.json.decode(body, type=TokenBody).expires_in
    if value is None:
        return "absent"
    if parse_seconds(value) is None:
        return "unreadable"
    return "text" if isinstance(value, str) else "number"
