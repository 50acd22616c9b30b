"""Auth0: whose token is it?

Only RS256 by a key of the issuer's JWKS counts. A header is not believed: it names a key by `kid`,
and nothing else in it is followed. Keys are kept while the endpoint is down; and an unknown `kid`
causes at most one fetch in five minutes, or strangers could make us exhaust Auth0's limit.

A phone sends one token again and again: what was found good is remembered for five minutes at most,
by its digest, and never for longer than the token lasts.
"""

import hashlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import anyio
import msgspec
import pybase64
from joserfc import jwt
from joserfc.errors import ExpiredTokenError, JoseError
from joserfc.jwk import RSAKey

from atlas.core.errors import AuthUnavailable, InvalidToken, MissingIdentity, TokenExpired
from atlas.core.events import KeysFetched, KeysUnavailable, Watch
from atlas.core.messages import User
from atlas.core.ports import Clock

LEEWAY_SECONDS = 30
TOKEN_BYTES_MAX = 16 * 1024
TYPES = frozenset({"jwt", "at+jwt", "application/at+jwt"})
NEVER_FOLLOWED = frozenset({"crit", "jku", "jwk", "x5u", "x5c", "b64"})
ID_TOKEN_ONLY = frozenset({"nonce", "at_hash", "c_hash"})

FETCH_SECONDS = 5.0
JWKS_BYTES_MAX = 256 * 1024
FRESH_SECONDS = 3600.0  # how long keys are taken as they are
MISS_SECONDS = 300.0  # how long after a fetch an unknown kid causes no other
RETRY_SECONDS = 15.0  # how long after a fetch that failed, while there are keys
RETRY_SECONDS_WITHOUT = 1.0  # ... and while there are none
KEY_BITS_MIN = 2048

REMEMBERED_SECONDS, REMEMBERED_MAX = 300.0, 10_000


@asynccontextmanager
async def connected(
    issuer: str, audience: str, now: Clock, elapsed: Callable[[], float], watch: Watch
) -> AsyncIterator["Auth0Identities"]:
    """The issuer, over a connection of its own. Nothing is asked yet."""
    async with aiohttp.ClientSession() as session:
        yield Auth0Identities(Keys(session, issuer, elapsed, watch), issuer, audience, now)


class Auth0Identities:
    """Answers `ports.Identities`."""

    def __init__(self, keys: "Keys", issuer: str, audience: str, now: Clock) -> None:
        self._keys = keys
        self._good = Remembered(lambda: now().timestamp(), keys.elapsed)
        self._claims = jwt.JWTClaimsRegistry(
            now=lambda: int(now().timestamp()),
            leeway=LEEWAY_SECONDS,
            iss={"essential": True, "value": issuer},
            aud={"essential": True, "value": audience},
            exp={"essential": True},
        )

    async def user_of(self, token: str) -> User:
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        user = self._good.find(digest)
        if user is None:
            user, expires = await self._checked(token)
            self._good.add(digest, user, expires + LEEWAY_SECONDS)
        return user

    async def _checked(self, token: str) -> tuple[User, float]:
        """Whose token this is, and when it expires."""
        key = await self._keys.named(kid_of(token))
        try:
            claims = jwt.decode(token, key, algorithms=["RS256"]).claims
            self._claims.validate(claims)
        except ExpiredTokenError as error:
            raise TokenExpired from error
        except (JoseError, ValueError) as error:
            raise InvalidToken from error
        if "cnf" in claims or ID_TOKEN_ONLY & claims.keys():  # bound to a key; not for us
            raise InvalidToken
        sub = claims.get("sub")
        if not isinstance(sub, str) or not sub:
            raise MissingIdentity
        return User(sub, scopes_in(claims)), float(claims["exp"])

    async def ready(self) -> None:
        await self._keys.ready()


class Remembered:
    """The users of tokens that were good, for a while; the oldest make room."""

    def __init__(self, now: Callable[[], float], elapsed: Callable[[], float]) -> None:
        self._now = now
        self._elapsed = elapsed
        self._good: OrderedDict[bytes, tuple[float, float, User]] = OrderedDict()

    def find(self, digest: bytes) -> User | None:
        if digest in self._good:
            until, expires, user = self._good[digest]
            if self._elapsed() < until and self._now() < expires:
                return user
        return None

    def add(self, digest: bytes, user: User, expires: float) -> None:
        self._good[digest] = (self._elapsed() + REMEMBERED_SECONDS, expires, user)
        self._good.move_to_end(digest)
        if len(self._good) > REMEMBERED_MAX:
            self._good.popitem(last=False)


def kid_of(token: str) -> str:
    """The name of the key of a token that looks like one. Raises InvalidToken."""
    parts = token.split(".")
    if len(parts) != 3 or len(token) > TOKEN_BYTES_MAX:
        raise InvalidToken
    try:
        text = pybase64.urlsafe_b64decode(parts[0] + "=" * (-len(parts[0]) % 4))
        header = msgspec.json.decode(text, type=dict[str, Any])
    except (ValueError, RecursionError) as error:  # base64's and msgspec's errors are ValueErrors
        raise InvalidToken from error
    kid, kind = header.get("kid"), header.get("typ", "JWT")
    if not isinstance(kid, str) or not isinstance(kind, str) or kind.lower() not in TYPES:
        raise InvalidToken
    if header.get("alg") != "RS256" or NEVER_FOLLOWED & header.keys():
        raise InvalidToken
    return kid


def scopes_in(claims: dict[str, Any]) -> frozenset[str]:
    """Of `scope`, and of `permissions`, which Auth0 adds when it is set to."""
    scope, permissions = claims.get("scope"), claims.get("permissions")
    found = set(scope.split()) if isinstance(scope, str) else set()
    if isinstance(permissions, list):
        found |= {each for each in permissions if isinstance(each, str)}
    return frozenset(found)


class Keys:
    """The signing keys of an issuer, by their names."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        issuer: str,
        elapsed: Callable[[], float],
        watch: Watch,
    ) -> None:
        self._session = session
        self._url = f"{issuer}.well-known/jwks.json"
        self.elapsed = elapsed
        self._watch = watch
        self._keys: dict[str, RSAKey] = {}
        self._fetched_at: float | None = None
        self._failed_at: float | None = None
        self._fetching = anyio.Lock()

    async def named(self, kid: str) -> RSAKey:
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
        return self._fetched_at is None or self.elapsed() - self._fetched_at > seconds

    def _has_just_failed(self) -> bool:
        spared = RETRY_SECONDS if self._keys else RETRY_SECONDS_WITHOUT
        return self._failed_at is not None and self.elapsed() - self._failed_at < spared

    async def _fetch_unless_just_tried(self, seconds: float) -> None:
        """One at a time; who waited for another's fetch does not fetch again."""
        async with self._fetching:
            if not self._has_just_failed() and self._is_older_than(seconds):
                await self._fetch()

    async def _fetch(self) -> None:
        try:
            found = keys_in(await self._get())
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            self._failed_at = self.elapsed()
            self._watch(KeysUnavailable(type(error).__name__, len(self._keys)))
            return
        self._keys, self._fetched_at, self._failed_at = found, self.elapsed(), None
        self._watch(KeysFetched(len(found)))

    async def _get(self) -> bytes:
        timeout = aiohttp.ClientTimeout(total=FETCH_SECONDS)
        async with self._session.get(self._url, timeout=timeout, allow_redirects=False) as answer:
            if answer.status != 200:
                raise ValueError(answer.status)
            body = bytearray()
            async for piece in answer.content.iter_any():
                body += piece
                if len(body) > JWKS_BYTES_MAX:
                    raise ValueError(len(body))
            return bytes(body)


class Jwks(msgspec.Struct, frozen=True):
    """RFC 7517, section 5."""

    keys: tuple[dict[str, Any], ...]


def keys_in(jwks: bytes) -> dict[str, RSAKey]:
    """Those that can have signed a token for us. Raises ValueError if there is none."""
    found: dict[str, RSAKey] = {}
    for key in msgspec.json.decode(jwks, type=Jwks).keys:
        fits = key.get("kty") == "RSA" and key.get("use", "sig") == "sig"
        if not fits or key.get("alg", "RS256") != "RS256" or not isinstance(key.get("kid"), str):
            continue
        public = RSAKey.import_key({name: key[name] for name in ("kty", "n", "e") if name in key})
        if public.public_key.key_size >= KEY_BITS_MIN:
            found[key["kid"]] = public
    if not found:
        raise ValueError("no key that can sign for us")
    return found
