"""The signing keys of the issuer.

Keys are kept while the endpoint is down; and an unknown `kid` causes at most one fetch in five
minutes, or strangers could make us exhaust Auth0's limit.
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

JWKS_PATH = ".well-known/jwks.json"  # behind the slash of the issuer
FETCH_SECONDS = 5.0
JWKS_BYTES_MAX = 256 * 1024
FRESH_SECONDS = 3600.0  # how long keys are taken as they are
MISS_SECONDS = 300.0  # how long after a fetch an unknown kid causes no other
RETRY_SECONDS = 15.0  # how long after a fetch that failed, while there are keys
RETRY_SECONDS_WITHOUT = 1.0  # ... and while there are none, after the first; then twice as long
BACKOFF_DOUBLINGS_MAX = 4
KEY_BITS_MIN = 2048


class JwksCache:
    """The signing keys of an issuer, by their names."""

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
        """Raises InvalidToken for a key that the issuer has not; AuthUnavailable when it may."""
        if self._is_older_than(FRESH_SECONDS) and not (kid in self._keys and self._is_fetching()):
            await self._fetch_unless_just_tried(FRESH_SECONDS)
        if kid not in self._keys and self._is_older_than(MISS_SECONDS):
            await self._fetch_unless_just_tried(MISS_SECONDS)
        if kid in self._keys:
            return self._keys[kid]
        if not self._keys or self._failed_at is not None:
            raise AuthUnavailable
        raise InvalidToken

    async def ready(self) -> None:
        if not self._keys:
            await self._fetch_unless_just_tried(MISS_SECONDS)
        if not self._keys:
            raise AuthUnavailable

    def _is_fetching(self) -> bool:
        """Somebody fetches: whoever has a key meanwhile does not wait for that."""
        return self._fetching.statistics().locked

    def _is_older_than(self, seconds: float) -> bool:
        return self._fetched_at is None or self.monotonic() - self._fetched_at > seconds

    def _has_just_failed(self) -> bool:
        """Eight fetches in a minute at most, whoever asks, and nobody is kept out for long."""
        doubled = RETRY_SECONDS_WITHOUT * 2 ** min(self._failures - 1, BACKOFF_DOUBLINGS_MAX)
        spared = RETRY_SECONDS if self._keys else min(doubled, RETRY_SECONDS)
        return self._failed_at is not None and self.monotonic() - self._failed_at < spared

    async def _fetch_unless_just_tried(self, seconds: float) -> None:
        """One at a time; who waited for another's fetch does not fetch again."""
        async with self._fetching:
            if not self._has_just_failed() and self._is_older_than(seconds):
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
        ) as answer:
            if answer.status != 200:
                raise ValueError(answer.status)
            body = bytearray()
            async for chunk in answer.content.iter_any():
                body += chunk
                if len(body) > JWKS_BYTES_MAX:
                    raise ValueError(len(body))
            return bytes(body)


class Jwks(msgspec.Struct, frozen=True):
    """RFC 7517, section 5."""

    keys: tuple[dict[str, Any], ...]


def is_for_signing(key: dict[str, Any]) -> bool:
    """With RS256, by a key that has a name."""
    is_rsa = key.get("kty") == "RSA" and key.get("use", "sig") == "sig"
    return is_rsa and key.get("alg", "RS256") == "RS256" and isinstance(key.get("kid"), str)


def parse_signing_keys(jwks: bytes) -> dict[str, RSAKey]:
    """Those that can have signed a token for us. Raises ValueError if there is none."""
    signing_keys: dict[str, RSAKey] = {}
    for key in parse_jwks(jwks):
        with suppress(JoseError, ValueError):  # one that cannot be read takes no other with it
            public = RSAKey.import_key(
                {name: key[name] for name in ("kty", "n", "e") if name in key}
            )
            if public.public_key.key_size >= KEY_BITS_MIN:
                signing_keys[key["kid"]] = public
    if not signing_keys:
        raise ValueError("no key that can sign for us")
    return signing_keys


def parse_jwks(jwks: bytes) -> Iterator[dict[str, Any]]:
    try:
        return filter(is_for_signing, msgspec.json.decode(jwks, type=Jwks).keys)
    except RecursionError as error:
        raise ValueError("nested too deep") from error
