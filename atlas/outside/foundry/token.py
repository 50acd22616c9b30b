"""Who we are to Foundry: a service user, by client credentials (multipass, OAuth 2.0)."""

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

from atlas.core.errors import NOT_JSON, FoundryError
from atlas.core.events import FoundryCalled, FoundryTokenFetched, FoundryTokenRefused, Watch

SCOPE = "api:datasets-read api:datasets-write"
EARLY_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Credentials:
    """The client and where it gets its token. The secret never prints: see settings."""

    url: str
    client_id: str
    client_secret: str


class FoundryToken:
    """One token for all calls, fetched once for all who need it, a while before it expires."""

    def __init__(
        self, session: aiohttp.ClientSession, credentials: Credentials, seconds: float, watch: Watch
    ) -> None:
        self._session = session
        self._credentials = credentials
        self._seconds = seconds
        self._watch = watch
        self._token = OAuth2Token({})
        self._early = EARLY_SECONDS
        self._fetching = anyio.Lock()

    async def get(self) -> str:
        """A token that is good for now. Raises FoundryError."""
        if not self._is_good():
            async with self._fetching:
                if not self._is_good():
                    await self._fetch()
        text: str = self._token["access_token"]
        return text

    def refuse(self, token: str) -> None:
        """Foundry did not take this one: the next who asks gets another."""
        if self._token.get("access_token") == token:
            self._token = OAuth2Token({})

    def _is_good(self) -> bool:
        return "access_token" in self._token and not self._token.is_expired(leeway=self._early)

    async def _fetch(self) -> None:
        try:
            self._token = await self._fetched()
        except FoundryError as error:
            self._watch(FoundryTokenRefused(str(error)))
            raise
        lasts = self._token.get("expires_in", 0)
        self._early = min(EARLY_SECONDS, lasts // 2)
        self._watch(FoundryTokenFetched(lasts))

    async def _fetched(self) -> Any:
        began, status = time.perf_counter(), 0
        try:
            status, _, text = await answered(self._session, self._credentials, self._seconds)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise FoundryError(
                f"Foundry's token endpoint does not answer ({type(error).__name__}): "
                "is FOUNDRY_OAUTH_TOKEN_URL right?"
            ) from error
        finally:
            seconds = time.perf_counter() - began
            self._watch(FoundryCalled("token", status, seconds, is_retry=False))
        return token_in(status, text)


async def answered(
    session: aiohttp.ClientSession, credentials: Credentials, seconds: float
) -> tuple[int, Mapping[str, str], bytes]:
    """What the token endpoint says to us: status, headers, body. Raises aiohttp's errors."""
    client = ClientAuth(credentials.client_id, credentials.client_secret, "client_secret_post")
    form = prepare_token_request("client_credentials", scope=SCOPE)
    headers = {"Content-Type": "application/x-www-form-urlencoded;charset=UTF-8"}
    url, headers, body = client.prepare("POST", credentials.url, headers, form)
    async with session.post(
        url,
        data=body,
        headers=headers,
        timeout=aiohttp.ClientTimeout(total=seconds),
        allow_redirects=False,
    ) as answer:
        return answer.status, answer.headers, await answer.read()


Seconds = Annotated[int, Meta(ge=0, le=2**40)]


class Granted(Struct, omit_defaults=True):
    """RFC 6749, section 5.1, as far as we use it; RFC 6750 says what a token is made of."""

    access_token: Annotated[str, Meta(pattern=r"^[\x21-\x7e]+$")]
    expires_in: Seconds | None = None
    expires_at: Seconds | None = None  # authlib believes it, if there is one


def token_in(status: int, text: bytes) -> Any:
    """The token of an answer; `expires_in` may be a string. Raises FoundryError."""
    if status in {400, 401, 403}:
        raise FoundryError(
            f"Foundry gives us no token ({status}): "
            "are FOUNDRY_CLIENT_ID and FOUNDRY_CLIENT_SECRET right?"
        )
    if status != 200:
        raise FoundryError(f"Foundry's token endpoint answers {status}.")
    try:
        found = msgspec.json.decode(text, type=Granted, strict=False)
    except NOT_JSON as error:
        raise FoundryError("Foundry's token endpoint answers no token.") from error
    return OAuth2Token(msgspec.to_builtins(found))
