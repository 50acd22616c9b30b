"""Explanation, claim by claim, of why a token is accepted or rejected.

The claims are in the order in which one explains the next: a text that is not a JWT has no claims,
and an ID token also has the wrong audience. Only the values below are shown, and the `sub` only as
a hash.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeGuard

import msgspec
import pybase64
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

from atlas.core import identifiers
from atlas.core.errors import JSON_ERRORS, AtlasError
from atlas.core.inspection import TokenClaim
from atlas.core.ports import Clock
from atlas.outside.auth0.tokens import (
    ACCEPTED_TYPES,
    FORBIDDEN_HEADERS,
    ID_TOKEN_CLAIMS,
    LEEWAY_SECONDS,
    TOKEN_BYTES_MAX,
    TokenValidator,
    read_scopes,
)

SHOWN_MAX = 100  # characters of a value
JWE_PARTS = 5
LOG_IN = "In the app, log in with the audience of the API, and send the access token."
COPY_AGAIN = "Copy the whole token from the app again: three parts separated by dots."
CHECK_CLOCK = "Is our clock right? See step 1."
SIGN_WITH_RS256 = "In Auth0, let the API sign with RS256, and get a new token."


class TokenExplainer:
    """Explains if `Auth0Identities` would accept a token. `keys` is None if they are unknown."""

    def __init__(
        self,
        issuer: str,
        audience: str,
        scope: str,
        keys: Mapping[str, RSAKey] | None,
        clock: Clock,
    ) -> None:
        self._issuer = issuer
        self._audience = audience
        self._scope = scope
        self._keys = keys
        self._clock = clock

    def explain(self, token: str, pseudonym: Callable[[str], str]) -> Sequence[TokenClaim]:
        """Return a verdict on each claim. `pseudonym` hashes the `sub`."""
        malformed = check_form(token)
        if malformed is not None:
            return (malformed,)
        header, payload = (decode_part(token, number) for number in (0, 1))
        if header is None or payload is None:
            reason = "It is truncated or changed."
            return (reject_claim("form", "parts that are not JSON", reason, COPY_AGAIN),)
        claims = [
            accept_claim("form", "JWT"),
            *self._explain_header(header),
            self._explain_signature(token, header),
            *self._explain_payload(payload, pseudonym),
        ]
        return (*claims, *self._cross_check(token, header, claims))

    def _explain_header(self, header: Mapping[str, Any]) -> Iterator[TokenClaim]:
        algorithm, kind = header.get("alg"), header.get("typ", "JWT")
        reason = "It is not signed with RS256."
        yield check_claim("alg", algorithm, algorithm == "RS256", reason, SIGN_WITH_RS256)
        is_accepted = isinstance(kind, str) and kind.lower() in ACCEPTED_TYPES
        yield check_claim("typ", kind, is_accepted, "It is another kind of token.", LOG_IN)
        for name in sorted(FORBIDDEN_HEADERS & header.keys()):
            reason = "Atlas accepts no token with this header."
            yield reject_claim(name, "present", reason, COPY_AGAIN)

    def _explain_signature(self, token: str, header: Mapping[str, Any]) -> TokenClaim:
        kid = header.get("kid")
        if not isinstance(kid, str):
            return reject_claim("kid", "absent", "It names no key.", LOG_IN)
        shown = to_printable(kid)
        if self._keys is None:
            return TokenClaim("kid", shown, "unknown", "The keys of the issuer are unknown.")
        if kid not in self._keys:
            remedy = "Another tenant signed it, or the key has been revoked: log in again."
            return reject_claim("kid", shown, "The issuer has no key with this name.", remedy)
        try:
            jws.deserialize_compact(token.encode(), self._keys[kid], algorithms=["RS256"])
        except (JoseError, ValueError):
            reason = "The signature does not match this key."
            return reject_claim("signature", f"kid {shown}", reason, COPY_AGAIN)
        return accept_claim("signature", f"kid {shown}")

    def _explain_payload(
        self, claims: Mapping[str, Any], pseudonym: Callable[[str], str]
    ) -> Iterator[TokenClaim]:
        if id_claims := ID_TOKEN_CLAIMS & claims.keys():
            reason = "It is an ID token, which is only for the app itself."
            yield reject_claim("kind", f"has {', '.join(sorted(id_claims))}", reason, LOG_IN)
        if "cnf" in claims:
            reason = "It is bound to a key of its sender (DPoP, mTLS)."
            remedy = "In Auth0, turn sender constraining off for the API."
            yield reject_claim("cnf", "present", reason, remedy)
        yield self._explain_issuer(claims.get("iss"))
        yield self._explain_audience(claims.get("aud"))
        yield from self._explain_times(claims)
        sub = claims.get("sub")
        user = pseudonym(sub) if isinstance(sub, str) and sub else None
        reason = "It does not name a user: 400 MISSING_IDENTITY."
        yield check_claim("sub", user, user is not None, reason, LOG_IN)
        if self._scope:
            yield self._explain_scope(claims)

    def _explain_issuer(self, issuer: object) -> TokenClaim:
        shown = to_printable(issuer)
        if issuer == self._issuer:
            return accept_claim("iss", shown)
        if isinstance(issuer, str) and issuer.rstrip("/") == self._issuer.rstrip("/"):
            remedy = f"Set AUTH0_ISSUER to {self._issuer}, or add the slash to the issuer."
            return reject_claim("iss", shown, "Its issuer has no trailing slash.", remedy)
        remedy = f"The app logs in to another tenant than {self._issuer}: is AUTH0_DOMAIN right?"
        return reject_claim("iss", shown, "It is from another issuer.", remedy)

    def _explain_audience(self, audience: object) -> TokenClaim:
        audiences = audience if isinstance(audience, list) else [audience]
        if self._audience in audiences and all(isinstance(each, str) for each in audiences):
            return accept_claim("aud", to_printable(self._audience))
        if audience is None:
            return reject_claim("aud", "absent", "It has no audience.", LOG_IN)
        shown = ", ".join(map(to_printable, audiences[:3]))
        remedy = (
            f"In the app, log in with the audience {self._audience}; "
            "or set AUTH0_AUDIENCE to the audience that the app requests."
        )
        return reject_claim("aud", shown, "It is for another audience.", remedy)

    def _explain_times(self, claims: Mapping[str, Any]) -> Iterator[TokenClaim]:
        now, expires = self._clock().timestamp(), claims.get("exp")
        if not is_time(expires):
            yield reject_claim("exp", format_time(expires), "It never expires.", LOG_IN)
        elif expires <= int(now) - LEEWAY_SECONDS:
            reason = f"It expired {identifiers.format_duration(now - expires)} ago."
            remedy = f"Let the app get a new token. {CHECK_CLOCK}"
            yield reject_claim("exp", format_time(expires), reason, remedy)
        else:
            yield accept_claim("exp", format_time(expires))
        for name, reason in (("nbf", "It is not valid yet."), ("iat", "It is from the future.")):
            value = claims.get(name)
            if value is not None:
                is_past = is_time(value) and value <= int(now) + LEEWAY_SECONDS
                yield check_claim(name, format_time(value), is_past, reason, CHECK_CLOCK)

    def _explain_scope(self, claims: Mapping[str, Any]) -> TokenClaim:
        scope = to_printable(self._scope)
        if self._scope in read_scopes(claims):
            return accept_claim("scope", scope)
        remedy = f"In the app, request the scope {self._scope} (ATLAS_REQUIRED_SCOPE)."
        return reject_claim(
            "scope", f"without {scope}", "It lacks the required scope: 403.", remedy
        )

    def _cross_check(
        self, token: str, header: Mapping[str, Any], earlier: Sequence[TokenClaim]
    ) -> Iterator[TokenClaim]:
        """Yield a rejection if the service itself rejects a token that looks valid."""
        if self._keys is None or any(claim.verdict == "bad" for claim in earlier):
            return
        validator = TokenValidator(self._issuer, self._audience, self._clock)
        try:
            validator.validate(token, self._keys[header["kid"]])
        except AtlasError as error:
            reason = "Atlas rejects it all the same."
            yield reject_claim("whole", error.code, reason, COPY_AGAIN)


def check_form(token: str) -> TokenClaim | None:
    """Return a rejection if the token does not have the form of a JWT."""
    parts = token.count(".") + 1
    if len(token) > TOKEN_BYTES_MAX:
        reason = f"It is longer than {TOKEN_BYTES_MAX} bytes."
        return reject_claim("form", "too long", reason, COPY_AGAIN)
    if parts == JWE_PARTS:
        reason = "It is encrypted (JWE): only Auth0 can read it."
        return reject_claim("form", "encrypted", reason, LOG_IN)
    if parts != 3:
        reason = "It is not a JWT: the app logs in without an audience."
        return reject_claim("form", "opaque", reason, LOG_IN)
    return None


def decode_part(token: str, number: int) -> dict[str, Any] | None:
    """Return the header (0) or the claims (1); None if they are not a JSON object."""
    text = token.split(".")[number]
    try:
        decoded = pybase64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        return msgspec.json.decode(decoded, type=dict[str, Any])
    except (*JSON_ERRORS, ValueError):
        return None


def accept_claim(name: str, value: str) -> TokenClaim:
    return TokenClaim(name, value, "good")


def reject_claim(name: str, value: str, reason: str, remedy: str) -> TokenClaim:
    return TokenClaim(name, value, "bad", reason, remedy)


def check_claim(name: str, value: object, is_good: bool, reason: str, remedy: str) -> TokenClaim:
    shown = to_printable(value)
    return accept_claim(name, shown) if is_good else reject_claim(name, shown, reason, remedy)


def to_printable(value: object) -> str:
    """Return a value as text that is safe to print to a terminal."""
    if value is None:
        return "absent"
    if not isinstance(value, str):
        return f"not a string ({type(value).__name__})"
    return "".join(each if each.isprintable() else "?" for each in value[:SHOWN_MAX])


def is_time(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def format_time(value: object) -> str:
    if not is_time(value):
        return "absent" if value is None else "not a time"
    try:
        return identifiers.format_timestamp(datetime.fromtimestamp(value, UTC))
    except (ValueError, OverflowError, OSError):
        return "out of range"
