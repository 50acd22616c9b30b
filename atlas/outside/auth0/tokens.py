"""Validation of access tokens.

A phone sends the same token many times, so a valid token is cached by its digest, for at most five
minutes and never beyond its expiry. A key that the issuer revokes is therefore accepted for up to
an hour, until the next fetch of the keys, plus five minutes.
"""

import hashlib
import re
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import anyio
import msgspec
import pybase64
from joserfc import jwt
from joserfc.errors import ExpiredTokenError, InvalidClaimError, JoseError
from joserfc.jwk import RSAKey

from atlas.core.credentials import Proof
from atlas.core.errors import (
    AuthUnavailable,
    InvalidToken,
    MissingIdentity,
    ProofRequired,
    SenderConstrainedToken,
    TokenExpired,
)
from atlas.core.messages import User
from atlas.core.ports import Clock
from atlas.outside.auth0.keys import JwksCache
from atlas.outside.auth0.policy import TokenPolicy
from atlas.outside.auth0.proofs import ProofVerifier

LEEWAY_SECONDS = 30
TOKEN_BYTES_MAX = 16 * 1024
ACCEPTED_TYPES = frozenset({"jwt", "at+jwt", "application/at+jwt"})
FORBIDDEN_HEADERS = frozenset({"crit", "jku", "jwk", "x5u", "x5c", "b64"})
ID_TOKEN_CLAIMS = frozenset({"nonce", "at_hash", "c_hash"})
AGENT_CLAIM = "act"  # RFC 8693: another party acts for the user

LONE_SURROGATE = re.compile(r"[\ud800-\udfff]")

CACHED_SECONDS, CACHED_TOKENS_MAX = 300.0, 10_000


class AcceptedToken(NamedTuple):
    """A valid token, without its text. `thumbprint` names the key that it is bound to, if any."""

    user: User
    expires: float
    thumbprint: str | None = None


class TokenOrigin(NamedTuple):
    """The issuer and the key that an unverified token names."""

    issuer: str
    kid: str


class UnverifiedClaims(msgspec.Struct, frozen=True):
    """The claim that selects the keys. It is verified later, with one of those keys."""

    iss: str


class Auth0Identities:
    """Implements `ports.Identities`. Each issuer has its own keys."""

    def __init__(
        self,
        issuers: Mapping[str, JwksCache],
        policy: TokenPolicy,
        clock: Clock,
        monotonic: Callable[[], float],
    ) -> None:
        self._issuers = issuers
        self._policy = policy
        self._cache = TokenCache(lambda: clock().timestamp(), monotonic)
        self._validators = {issuer: TokenValidator(issuer, policy, clock) for issuer in issuers}
        self._proofs = ProofVerifier(policy.proofs, clock)

    async def identify_user(self, token: str, proof: Proof | None = None) -> User:
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        accepted = self._cache.find(digest)
        if accepted is None:
            accepted = await self._validate(token)
            self._cache.add(digest, accepted)
        self._check_binding(accepted, digest, proof)
        return accepted.user

    async def check_ready(self) -> None:
        """Ready with the keys of one issuer: only the tokens of the others must wait."""
        if not self._has_keys():
            async with anyio.create_task_group() as tasks:
                for keys in self._issuers.values():
                    tasks.start_soon(keys.fetch_if_due)
        if not self._has_keys():
            raise AuthUnavailable

    def _has_keys(self) -> bool:
        return any(keys.has_keys for keys in self._issuers.values())

    async def _validate(self, token: str) -> AcceptedToken:
        origin = read_origin(token, self._policy.algorithms)
        if origin.issuer not in self._issuers:
            raise InvalidToken
        key = await self._issuers[origin.issuer].get(origin.kid)
        return self._validators[origin.issuer].validate(token, key)

    def _check_binding(self, accepted: AcceptedToken, digest: bytes, proof: Proof | None) -> None:
        """Check the proof of a bound token, and that an unbound one comes without (RFC 9449)."""
        mode, thumbprint = self._policy.proofs.mode, accepted.thumbprint
        if mode == "off":
            if thumbprint is not None or proof is not None:
                raise SenderConstrainedToken
        elif proof is None:
            if thumbprint is not None or mode == "required":
                raise ProofRequired
        elif thumbprint is None:
            raise InvalidToken
        else:
            self._proofs.verify(proof, digest, thumbprint)


class AccessTokenClaims(jwt.JWTClaimsRegistry):
    """The claims of an access token, by RFC 7519."""

    def validate_iat(self, value: object) -> None:
        """Accept also a time ahead of ours: the token is signed, and our clock may be slow."""
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise InvalidClaimError("iat")


class TokenValidator:
    """Validates the signature and the claims of a token of one issuer."""

    def __init__(self, issuer: str, policy: TokenPolicy, clock: Clock) -> None:
        self._algorithms = policy.algorithms
        self._accepts_agents = policy.accepts_agents
        self._claims = AccessTokenClaims(
            now=lambda: int(clock().timestamp()),
            leeway=LEEWAY_SECONDS,
            iss={"essential": True, "value": issuer},
            aud={"essential": True, "values": list(policy.audiences)},
            exp={"essential": True},
        )

    def validate(self, token: str, key: RSAKey) -> AcceptedToken:
        """Return the user of the token, its expiry, and the key that it is bound to.

        Raises TokenExpired, InvalidToken, SenderConstrainedToken, MissingIdentity.
        """
        try:
            claims = jwt.decode(token, key, algorithms=self._algorithms).claims
            self._claims.validate(claims)
            expires = float(claims["exp"])
        except ExpiredTokenError as error:
            raise TokenExpired from error
        # RecursionError: nested too deep; OverflowError: exp out of range
        except (JoseError, ValueError, RecursionError, OverflowError) as error:
            raise InvalidToken from error
        thumbprint = read_binding(claims)
        if ID_TOKEN_CLAIMS & claims.keys():  # an ID token, which is for the app only
            raise InvalidToken
        if AGENT_CLAIM in claims and not self._accepts_agents:
            raise InvalidToken
        sub = claims.get("sub")
        if not isinstance(sub, str) or not sub:
            raise MissingIdentity
        if LONE_SURROGATE.search(sub):  # valid in JSON, but not encodable as UTF-8
            raise InvalidToken
        return AcceptedToken(User(sub, read_scopes(claims)), expires, thumbprint)


def read_binding(claims: Mapping[str, Any]) -> str | None:
    """Return the thumbprint of the key that a token is bound to by DPoP, None if it is unbound.

    Raises SenderConstrainedToken for a binding that Atlas cannot check, such as mTLS (RFC 8705):
    unchecked, a stolen token would be accepted.
    """
    if "cnf" not in claims:
        return None
    match claims["cnf"]:
        case {"jkt": str(thumbprint), **others} if not others:
            return thumbprint
    raise SenderConstrainedToken


class TokenCache:
    """Caches valid tokens by digest. The oldest entries are evicted first."""

    def __init__(self, clock: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._tokens: OrderedDict[bytes, tuple[float, AcceptedToken]] = OrderedDict()

    def find(self, digest: bytes) -> AcceptedToken | None:
        if digest in self._tokens:
            cached_until, accepted = self._tokens[digest]
            is_valid = self._clock() < accepted.expires + LEEWAY_SECONDS
            if self._monotonic() < cached_until and is_valid:
                return accepted
        return None

    def add(self, digest: bytes, accepted: AcceptedToken) -> None:
        self._tokens[digest] = (self._monotonic() + CACHED_SECONDS, accepted)
        self._tokens.move_to_end(digest)
        if len(self._tokens) > CACHED_TOKENS_MAX:
            self._tokens.popitem(last=False)


def read_origin(token: str, algorithms: Collection[str]) -> TokenOrigin:
    """Return the issuer and the key of a token, after checking its form and header.

    Nothing is verified yet. Raises InvalidToken.
    """
    parts = token.split(".")
    if len(parts) != 3 or len(token) > TOKEN_BYTES_MAX:
        raise InvalidToken
    try:
        header = msgspec.json.decode(decode_part(parts[0]), type=dict[str, Any])
        issuer = msgspec.json.decode(decode_part(parts[1]), type=UnverifiedClaims).iss
    except (ValueError, RecursionError) as error:  # base64's and msgspec's errors are ValueErrors
        raise InvalidToken from error
    kid, kind = header.get("kid"), header.get("typ", "JWT")
    if not isinstance(kid, str) or not isinstance(kind, str) or kind.lower() not in ACCEPTED_TYPES:
        raise InvalidToken
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in algorithms:
        raise InvalidToken
    if FORBIDDEN_HEADERS & header.keys():
        raise InvalidToken
    return TokenOrigin(issuer, kid)


def decode_part(text: str) -> bytes:
    return pybase64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def read_scopes(claims: Mapping[str, Any]) -> frozenset[str]:
    """Return the scopes in `scope` and in `permissions`, which Auth0 adds if configured to."""
    scope, permissions = claims.get("scope"), claims.get("permissions")
    scopes = set(scope.split()) if isinstance(scope, str) else set()
    if isinstance(permissions, list):
        scopes |= {each for each in permissions if isinstance(each, str)}
    return frozenset(scopes)
