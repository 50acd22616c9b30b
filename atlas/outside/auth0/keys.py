"""Signing keys of the issuer.

Keys stay in use while their endpoint is down. An unknown `kid` causes at most one fetch in five
minutes, so that forged tokens cannot exhaust Auth0's rate limit.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import aiohttp
import anyio
import msgspec
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

from atlas.core.errors import AuthUnavailable, InvalidToken
from atlas.core.events import EventSink, KeysFetched, KeysUnavailable
from atlas.outside.network import HttpSession

JWKS_PATH = ".well-known/jwks.json"  # relative to the issuer, which ends with a slash
FETCH_SECONDS = 5.0
JWKS_BYTES_MAX = 256 * 1024
FRESH_SECONDS = 3600.0  # keys are fetched again after this time
MISS_SECONDS = 300.0  # minimum between two fetches for an unknown kid
RETRY_SECONDS = 15.0  # minimum between two fetches after a failure
RETRY_SECONDS_WITHOUT_KEYS = 1.0  # the same while there are no keys; doubles after each failure
BACKOFF_DOUBLINGS_MAX = 4
KEY_BITS_MIN = 2048


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
        self.monotonic = monotonic
        self._emit = emit
        self._keys: dict[str, RSAKey] = {}
        self._fetched_at: float | None = None
        self._failed_at: float | None = None
        self._failures = 0
        self._fetching = anyio.Lock()

    async def get(self, kid: str) -> RSAKey:
        """Return a key. Raises InvalidToken for an unknown `kid`, AuthUnavailable without keys."""
        if self._is_older_than(FRESH_SECONDS) and not (kid in self._keys and self._is_fetching()):
            await self._fetch_if_due(FRESH_SECONDS)
        if kid not in self._keys and self._is_older_than(MISS_SECONDS):
            await self._fetch_if_due(MISS_SECONDS)
        if kid in self._keys:
            return self._keys[kid]
        if not self._keys or self._failed_at is not None:
            raise AuthUnavailable
        raise InvalidToken

    async def ready(self) -> None:
        if not self._keys:
            await self._fetch_if_due(MISS_SECONDS)
        if not self._keys:
            raise AuthUnavailable

    def _is_fetching(self) -> bool:
        """True during a fetch; tokens with a cached key do not wait for it."""
        return self._fetching.statistics().locked

    def _is_older_than(self, seconds: float) -> bool:
        return self._fetched_at is None or self.monotonic() - self._fetched_at > seconds

    def _has_just_failed(self) -> bool:
        """True if a fetch has just failed, so as to make at most eight in a minute."""
        doubled = RETRY_SECONDS_WITHOUT_KEYS * 2 ** min(self._failures - 1, BACKOFF_DOUBLINGS_MAX)
        pause = RETRY_SECONDS if self._keys else min(doubled, RETRY_SECONDS)
        return self._failed_at is not None and self.monotonic() - self._failed_at < pause

    async def _fetch_if_due(self, age_seconds: float) -> None:
        """Fetch keys older than `age_seconds`. Callers that wait for a fetch share its result."""
        async with self._fetching:
            if not self._has_just_failed() and self._is_older_than(age_seconds):
                await self._fetch()

    async def _fetch(self) -> None:
        try:
            signing_keys = parse_signing_keys(await self._get())
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            self._failed_at, self._failures = self.monotonic(), self._failures + 1
            self._emit(KeysUnavailable(type(error).__name__, len(self._keys)))
            return
        self._keys, self._fetched_at = signing_keys, self.monotonic()
        self._failed_at, self._failures = None, 0
        self._emit(KeysFetched(len(signing_keys)))

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
    """A JSON Web Key Set (RFC 7517, section 5)."""

    keys: tuple[dict[str, Any], ...]


def is_signing_key(key: dict[str, Any]) -> bool:
    """True for an RSA key with a `kid` that can sign with RS256."""
    is_rsa = key.get("kty") == "RSA" and key.get("use", "sig") == "sig"
    return is_rsa and key.get("alg", "RS256") == "RS256" and isinstance(key.get("kid"), str)


def parse_signing_keys(jwks: bytes) -> dict[str, RSAKey]:
    """Return the keys that can sign tokens for us, by `kid`. Raises ValueError if there is none."""
    signing_keys: dict[str, RSAKey] = {}
    for key in parse_jwks(jwks):
        with suppress(JoseError, ValueError):  # an invalid key does not affect the others
            public = RSAKey.import_key(
                {name: key[name] for name in ("kty", "n", "e") if name in key}
            )
            if public.public_key.key_size >= KEY_BITS_MIN:
                signing_keys[key["kid"]] = public
    if not signing_keys:
        raise ValueError("no usable signing key")
    return signing_keys


def parse_jwks(jwks: bytes) -> Iterator[dict[str, Any]]:
    try:
        return filter(is_signing_key, msgspec.json.decode(jwks, type=Jwks).keys)
    except RecursionError as error:
        raise ValueError("nested too deep") from error
