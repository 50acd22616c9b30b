"""Validation of access tokens.

A phone sends the same token many times, so a valid token is cached by its digest, for at most five
minutes and never beyond its expiry. A key that the issuer revokes is therefore accepted for up to
an hour, until the next fetch of the keys, plus five minutes.
"""

import hashlib
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import pybase64
from joserfc import jwt
from joserfc.errors import ExpiredTokenError, JoseError
from joserfc.jwk import RSAKey

from atlas.core.errors import InvalidToken, MissingIdentity, SenderConstrainedToken, TokenExpired
from atlas.core.messages import User
from atlas.core.ports import Clock
from atlas.outside.auth0.keys import JwksCache

LEEWAY_SECONDS = 30
TOKEN_BYTES_MAX = 16 * 1024
ACCEPTED_TYPES = frozenset({"jwt", "at+jwt", "application/at+jwt"})
FORBIDDEN_HEADERS = frozenset({"crit", "jku", "jwk", "x5u", "x5c", "b64"})
ID_TOKEN_CLAIMS = frozenset({"nonce", "at_hash", "c_hash"})

LONE_SURROGATE = re.compile(r"[\ud800-\udfff]")

CACHED_SECONDS, CACHED_TOKENS_MAX = 300.0, 10_000


class Auth0Identities:
    """Implements `ports.Identities`."""

    def __init__(self, keys: JwksCache, issuer: str, audience: str, clock: Clock) -> None:
        self._keys = keys
        self._cache = TokenCache(lambda: clock().timestamp(), keys.monotonic)
        self._validator = TokenValidator(issuer, audience, clock)

    async def identify_user(self, token: str) -> User:
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        user = self._cache.find(digest)
        if user is None:
            key = await self._keys.get(read_kid(token))
            user, expires = self._validator.validate(token, key)
            self._cache.add(digest, user, expires + LEEWAY_SECONDS)
        return user

    async def check_ready(self) -> None:
        await self._keys.ready()


class TokenValidator:
    """Validates the signature and the claims of a token."""

    def __init__(self, issuer: str, audience: str, clock: Clock) -> None:
        self._claims = jwt.JWTClaimsRegistry(
            now=lambda: int(clock().timestamp()),
            leeway=LEEWAY_SECONDS,
            iss={"essential": True, "value": issuer},
            aud={"essential": True, "value": audience},
            exp={"essential": True},
        )

    def validate(self, token: str, key: RSAKey) -> tuple[User, float]:
        """Return the user of the token, and its expiry in seconds since the epoch.

        Raises TokenExpired, InvalidToken, SenderConstrainedToken, MissingIdentity.
        """
        try:
            claims = jwt.decode(token, key, algorithms=["RS256"]).claims
            self._claims.validate(claims)
            expires = float(claims["exp"])
        except ExpiredTokenError as error:
            raise TokenExpired from error
        # RecursionError: nested too deep; OverflowError: exp out of range
        except (JoseError, ValueError, RecursionError, OverflowError) as error:
            raise InvalidToken from error
        reject_sender_constrained(claims)
        if ID_TOKEN_CLAIMS & claims.keys():  # an ID token, which is for the app only
            raise InvalidToken
        sub = claims.get("sub")
        if not isinstance(sub, str) or not sub:
            raise MissingIdentity
        if LONE_SURROGATE.search(sub):  # valid in JSON, but not encodable as UTF-8
            raise InvalidToken
        return User(sub, read_scopes(claims)), expires


def reject_sender_constrained(claims: Mapping[str, Any]) -> None:
    """Raise SenderConstrainedToken if the token is bound to a key (RFC 7800, RFC 9449).

    Without checking the proof of possession, which belongs here, a stolen token would be accepted.
    The signature has been verified before.
    """
    if "cnf" in claims:
        raise SenderConstrainedToken


class TokenCache:
    """Caches the users of valid tokens. The oldest entries are evicted first."""

    def __init__(self, clock: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._users: OrderedDict[bytes, tuple[float, float, User]] = OrderedDict()

    def find(self, digest: bytes) -> User | None:
        if digest in self._users:
            cached_until, expires, user = self._users[digest]
            if self._monotonic() < cached_until and self._clock() < expires:
                return user
        return None

    def add(self, digest: bytes, user: User, expires: float) -> None:
        self._users[digest] = (self._monotonic() + CACHED_SECONDS, expires, user)
        self._users.move_to_end(digest)
        if len(self._users) > CACHED_TOKENS_MAX:
            self._users.popitem(last=False)


def read_kid(token: str) -> str:
    """Return the `kid` of a token, after checking its form and header. Raises InvalidToken."""
    parts = token.split(".")
    if len(parts) != 3 or len(token) > TOKEN_BYTES_MAX:
        raise InvalidToken
    try:
        text = pybase64.urlsafe_b64decode(parts[0] + "=" * (-len(parts[0]) % 4))
        header = msgspec.json.decode(text, type=dict[str, Any])
    except (ValueError, RecursionError) as error:  # base64's and msgspec's errors are ValueErrors
        raise InvalidToken from error
    kid, kind = header.get("kid"), header.get("typ", "JWT")
    if not isinstance(kid, str) or not isinstance(kind, str) or kind.lower() not in ACCEPTED_TYPES:
        raise InvalidToken
    if header.get("alg") != "RS256" or FORBIDDEN_HEADERS & header.keys():
        raise InvalidToken
    return kid


def read_scopes(claims: Mapping[str, Any]) -> frozenset[str]:
    """Return the scopes in `scope` and in `permissions`, which Auth0 adds if configured to."""
    scope, permissions = claims.get("scope"), claims.get("permissions")
    scopes = set(scope.split()) if isinstance(scope, str) else set()
    if isinstance(permissions, list):
        scopes |= {each for each in permissions if isinstance(each, str)}
    return frozenset(scopes)
