"""Signing keys of an issuer.

Keys stay in use while their endpoint is down, and a token with a known key never waits for a fetch.
An unknown `kid` causes a fetch; 6.5 seconds at least are between the starts of two. So a key that
Auth0 has just published is known within ten seconds, even if a fetch takes three, and forged tokens
cannot exhaust Auth0's rate limit.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, TypeGuard
from urllib.parse import urlsplit

import aiohttp
import anyio
import msgspec
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

from atlas.core.errors import AuthUnavailable, InvalidToken
from atlas.core.events import EventSink, KeysChanged, KeysFetched, KeysUnavailable
from atlas.outside.network import HttpSession

JWKS_PATH = ".well-known/jwks.json"  # relative to the issuer, which ends with a slash
FETCH_SECONDS = 5.0
JWKS_BYTES_MAX = 256 * 1024
REFRESH_SECONDS = 3000.0  # keys are fetched again after this time
PAUSE_SECONDS = 6.5  # minimum between the starts of two fetches: at most ten in a minute
PAUSE_SECONDS_WITHOUT_KEYS = 1.0  # the same while there are no keys; doubles after each failure
KEY_BITS_MIN = 2048
ALGORITHMS = (None, "RS256", "PS256")  # that a usable key may name


class JwksCache:
    """Fetches the signing keys of an issuer, and caches them by `kid`."""

    def __init__(
        self,
        session: HttpSession,
        issuer: str,
        monotonic: Callable[[], float],
        emit: EventSink,
    ) -> None:
        self._session = session
        self._url = issuer + JWKS_PATH
        self._host = urlsplit(issuer).netloc
        self._monotonic = monotonic
        self._emit = emit
        self._keys: dict[str, RSAKey] = {}
        self._fetched_at: float | None = None
        self._tried_at: float | None = None  # the start of the last fetch
        self._failures = 0
        self._fetching = anyio.Lock()
        self._refresh: asyncio.Task[None] | None = None
        self._regular: asyncio.Task[None] | None = None

    @property
    def has_keys(self) -> bool:
        return bool(self._keys)

    async def get(self, kid: str) -> RSAKey:
        """Return a key. Raises InvalidToken for an unknown `kid`, AuthUnavailable without keys."""
        if kid not in self._keys:
            await self.fetch_if_due()
        elif self._is_old():
            self._refresh_soon()
        if kid in self._keys:
            return self._keys[kid]
        if not self._keys or self._failures:
            raise AuthUnavailable
        raise InvalidToken

    def start(self) -> None:
        """Fetch the keys regularly, so that a revoked one is dropped also without requests."""
        self._regular = asyncio.create_task(self._keep_fresh())

    async def _keep_fresh(self) -> None:
        while True:
            await anyio.sleep(REFRESH_SECONDS)
            await self.fetch_if_due()

    async def fetch_if_due(self) -> None:
        """Fetch the keys unless they have just been fetched. Concurrent callers share a fetch."""
        async with self._fetching:
            if self._is_due():
                await self._fetch()

    def close(self) -> None:
        for task in (self._refresh, self._regular):
            if task is not None:
                task.cancel()

    def _refresh_soon(self) -> None:
        """Fetch in the background, if it is due."""
        if self._is_due() and (self._refresh is None or self._refresh.done()):
            self._refresh = asyncio.create_task(self.fetch_if_due())

    def _is_old(self) -> bool:
        return self._fetched_at is None or self._monotonic() - self._fetched_at > REFRESH_SECONDS

    def _is_due(self) -> bool:
        pause = PAUSE_SECONDS
        if not self._keys:
            pause = PAUSE_SECONDS_WITHOUT_KEYS * 2 ** min(self._failures - 1, 3)
        return self._tried_at is None or self._monotonic() - self._tried_at >= pause

    async def _fetch(self) -> None:
        self._tried_at = self._monotonic()
        try:
            signing_keys = parse_signing_keys(await self._get())
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            self._failures += 1
            self._emit(KeysUnavailable(type(error).__name__, len(self._keys), self._host))
            return
        is_changed = bool(self._keys) and signing_keys.keys() != self._keys.keys()
        self._keys, self._failures = signing_keys, 0
        self._fetched_at = self._monotonic()
        self._emit(KeysFetched(len(signing_keys), self._host))
        if is_changed:
            self._emit(KeysChanged(len(signing_keys), self._host))

    async def _get(self) -> bytes:
        timeout = aiohttp.ClientTimeout(total=FETCH_SECONDS)
        async with self._session.request(
            "GET", self._url, timeout=timeout, allow_redirects=False
        ) as response:
            if response.status != 200:
                raise ValueError(response.status)
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > JWKS_BYTES_MAX:
                    raise ValueError(len(body))
            return bytes(body)


class Jwks(msgspec.Struct, frozen=True):
    """A JSON Web Key Set (RFC 7517, section 5). An unknown entry does not affect the others."""

    keys: tuple[Any, ...]


def is_signing_key(key: object) -> TypeGuard[dict[str, Any]]:
    """True for an RSA key with a `kid` that can sign. Some issuers write null for what is absent.

    The settings alone decide which algorithms may sign. Auth0 labels all keys with the algorithm of
    the tenant, although each API has its own: a key with the label RS256 also signs with PS256.
    """
    if not isinstance(key, dict) or key.get("kty") != "RSA":
        return False
    is_usable = key.get("use") in (None, "sig") and key.get("alg") in ALGORITHMS
    return is_usable and isinstance(key.get("kid"), str)


def parse_signing_keys(jwks: bytes) -> dict[str, RSAKey]:
    """Return the keys that can sign tokens for us, by `kid`. Raises ValueError if there is none."""
    signing_keys: dict[str, RSAKey] = {}
    for key in parse_jwks(jwks):
        with suppress(JoseError, ValueError):  # an invalid key does not affect the others
            public = RSAKey.import_key(
                {name: key[name] for name in ("kty", "n", "e") if key.get(name) is not None}
            )
            if public.public_key.key_size >= KEY_BITS_MIN:
                signing_keys[key["kid"]] = public
    if not signing_keys:
        raise ValueError("no usable signing key")
    return signing_keys


def parse_jwks(jwks: bytes) -> Iterator[dict[str, Any]]:
    try:
        keys = msgspec.json.decode(jwks, type=Jwks).keys
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    return (key for key in keys if is_signing_key(key))
