"""Whose token it is: what must hold of a token that a phone brings.

A phone sends one token again and again: what was found good is remembered for five minutes at most,
by its digest, and never for longer than the token lasts. So a key that the issuer withdraws is good
for five minutes more than we know of it, and we look for that once an hour.
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
TYPES = frozenset({"jwt", "at+jwt", "application/at+jwt"})
NEVER_FOLLOWED = frozenset({"crit", "jku", "jwk", "x5u", "x5c", "b64"})
ID_TOKEN_ONLY = frozenset({"nonce", "at_hash", "c_hash"})

LONE_SURROGATE = re.compile(r"[\ud800-\udfff]")

CACHED_SECONDS, CACHED_TOKENS_MAX = 300.0, 10_000


class Auth0Identities:
    """Answers `ports.Identities`."""

    def __init__(self, keys: JwksCache, issuer: str, audience: str, clock: Clock) -> None:
        self._keys = keys
        self._good = TokenCache(lambda: clock().timestamp(), keys.monotonic)
        self._rules = TokenValidator(issuer, audience, clock)

    async def identify_user(self, token: str) -> User:
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        user = self._good.find(digest)
        if user is None:
            key = await self._keys.get(read_kid(token))
            user, expires = self._rules.validate(token, key)
            self._good.add(digest, user, expires + LEEWAY_SECONDS)
        return user

    async def check_ready(self) -> None:
        await self._keys.ready()


class TokenValidator:
    """What must hold of the claims of a token for us."""

    def __init__(self, issuer: str, audience: str, clock: Clock) -> None:
        self._claims = jwt.JWTClaimsRegistry(
            now=lambda: int(clock().timestamp()),
            leeway=LEEWAY_SECONDS,
            iss={"essential": True, "value": issuer},
            aud={"essential": True, "value": audience},
            exp={"essential": True},
        )

    def validate(self, token: str, key: RSAKey) -> tuple[User, float]:
        """Whose token this is, and when it expires.

        Raises TokenExpired, InvalidToken, SenderConstrainedToken, MissingIdentity.
        """
        try:
            claims = jwt.decode(token, key, algorithms=["RS256"]).claims
            self._claims.validate(claims)
            expires = float(claims["exp"])
        except ExpiredTokenError as error:
            raise TokenExpired from error
        except (JoseError, ValueError, RecursionError, OverflowError) as error:  # too deep, too far
            raise InvalidToken from error
        reject_sender_constrained(claims)
        if ID_TOKEN_ONLY & claims.keys():  # not for us
            raise InvalidToken
        sub = claims.get("sub")
        if not isinstance(sub, str) or not sub:
            raise MissingIdentity
        if LONE_SURROGATE.search(sub):  # JSON can spell it, and nobody can write it down
            raise InvalidToken
        return User(sub, read_scopes(claims)), expires


def reject_sender_constrained(claims: Mapping[str, Any]) -> None:
    """Raises SenderConstrainedToken for one that only the holder of a key may bring (RFC 7800, RFC 9449).

    Whoever comes to take such tokens asks for the proof here: taken without, a token that was
    stolen would be as good as if nobody had bound it. Only a good signature gets as far as this.
    """
    if "cnf" in claims:
        raise SenderConstrainedToken


class TokenCache:
    """The users of tokens that were good, for a while; the oldest make room."""

    def __init__(self, clock: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._good: OrderedDict[bytes, tuple[float, float, User]] = OrderedDict()

    def find(self, digest: bytes) -> User | None:
        if digest in self._good:
            until, expires, user = self._good[digest]
            if self._monotonic() < until and self._clock() < expires:
                return user
        return None

    def add(self, digest: bytes, user: User, expires: float) -> None:
        self._good[digest] = (self._monotonic() + CACHED_SECONDS, expires, user)
        self._good.move_to_end(digest)
        if len(self._good) > CACHED_TOKENS_MAX:
            self._good.popitem(last=False)


def read_kid(token: str) -> str:
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


def read_scopes(claims: dict[str, Any]) -> frozenset[str]:
    """Of `scope`, and of `permissions`, which Auth0 adds when it is set to."""
    scope, permissions = claims.get("scope"), claims.get("permissions")
    scopes = set(scope.split()) if isinstance(scope, str) else set()
    if isinstance(permissions, list):
        scopes |= {each for each in permissions if isinstance(each, str)}
    return frozenset(scopes)
