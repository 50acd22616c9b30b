"""A token, taken apart: each thing that it says, and why we take that or do not.

In the order in which one explains the next: what is no JWT has no claims, and an ID token has the
wrong audience, too. Nothing of the token is shown but what is told here, and the sub as a hash.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, TypeGuard

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
    ID_TOKEN_ONLY,
    LEEWAY_SECONDS,
    NEVER_FOLLOWED,
    TOKEN_BYTES_MAX,
    TYPES,
    TokenValidator,
    read_scopes,
)

SHOWN_MAX = 100
JWE_PARTS = 5
LOG_IN = "In the app, log in with the audience of the API, and send the access token."
TAKE_WHOLE_TOKEN = (
    "Take the token from the app once more, whole: three parts with dots between them."
)
CHECK_CLOCK = "Is our clock right? Step 1."
SIGN_WITH_RS256 = "In Auth0, let the API sign with RS256, and take a fresh token."


class TokenExplainer:
    """What `Auth0Identities` takes, said piece by piece. `keys` is None while they are unknown."""

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
        opaque = not_a_jwt(token)
        if opaque is not None:
            return (opaque,)
        header, payload = (decode_part(token, number) for number in (0, 1))
        if header is None or payload is None:
            return (
                reject_claim(
                    "form", "parts that are no JSON", "It was cut or changed.", TAKE_WHOLE_TOKEN
                ),
            )
        results = [
            accept_claim("form", "JWT"),
            *self._explain_header(header),
            self._explain_signature(token, header),
            *self._explain_payload(payload, pseudonym),
        ]
        return (*results, *self._final_verdict(token, header, results))

    def _explain_header(self, header: Mapping[str, Any]) -> Iterator[TokenClaim]:
        algorithm, kind = header.get("alg"), header.get("typ", "JWT")
        yield check_claim(
            "alg", algorithm, algorithm == "RS256", "It is not signed with RS256.", SIGN_WITH_RS256
        )
        is_known = isinstance(kind, str) and kind.lower() in TYPES
        yield check_claim("typ", kind, is_known, "It is another kind of token.", LOG_IN)
        for name in sorted(NEVER_FOLLOWED & header.keys()):
            yield reject_claim(
                name,
                "present",
                "Its header wants to be followed, which we never do.",
                TAKE_WHOLE_TOKEN,
            )

    def _explain_signature(self, token: str, header: Mapping[str, Any]) -> TokenClaim:
        kid = header.get("kid")
        if not isinstance(kid, str):
            return reject_claim("kid", "absent", "It names no key.", LOG_IN)
        if self._keys is None:
            return TokenClaim(
                "kid", to_printable(kid), "unknown", "The keys of the issuer are not known."
            )
        if kid not in self._keys:
            remedy = "Another tenant has signed it, or a key that is revoked: log in again."
            return reject_claim(
                "kid", to_printable(kid), "The issuer has no key of this name.", remedy
            )
        try:
            jws.deserialize_compact(token.encode(), self._keys[kid], algorithms=["RS256"])
        except (JoseError, ValueError):
            why = "Its signature is not by that key."
            return reject_claim("signature", f"kid {to_printable(kid)}", why, TAKE_WHOLE_TOKEN)
        return accept_claim("signature", f"kid {to_printable(kid)}")

    def _explain_payload(
        self, claims: Mapping[str, Any], pseudonym: Callable[[str], str]
    ) -> Iterator[TokenClaim]:
        if only := ID_TOKEN_ONLY & claims.keys():
            why = "It is an ID token, which is for the app alone."
            yield reject_claim("kind", f"has {', '.join(sorted(only))}", why, LOG_IN)
        if "cnf" in claims:
            why = "It is bound to a key of its sender (DPoP, mTLS)."
            remedy = "In Auth0, switch sender constraining off for the API."
            yield reject_claim("cnf", "present", why, remedy)
        yield self._explain_issuer(claims.get("iss"))
        yield self._explain_audience(claims.get("aud"))
        yield from self._explain_times(claims)
        sub = claims.get("sub")
        user_text = pseudonym(sub) if isinstance(sub, str) and sub else None
        yield check_claim(
            "sub",
            user_text,
            user_text is not None,
            "It names nobody: 400 MISSING_IDENTITY.",
            LOG_IN,
        )
        if self._scope:
            yield self._explain_scope(claims)

    def _explain_issuer(self, issuer: object) -> TokenClaim:
        if issuer == self._issuer:
            return accept_claim("iss", to_printable(issuer))
        if isinstance(issuer, str) and issuer.rstrip("/") == self._issuer.rstrip("/"):
            remedy = f"Set AUTH0_ISSUER to {self._issuer}, or let the issuer have its slash."
            return reject_claim(
                "iss", to_printable(issuer), "Its issuer has no slash at the end.", remedy
            )
        remedy = f"The app logs in at another tenant than {self._issuer}: is AUTH0_DOMAIN right?"
        return reject_claim("iss", to_printable(issuer), "It is of another issuer.", remedy)

    def _explain_audience(self, audience: object) -> TokenClaim:
        for_whom = audience if isinstance(audience, list) else [audience]
        if self._audience in for_whom and all(isinstance(each, str) for each in for_whom):
            return accept_claim("aud", to_printable(self._audience))
        if audience is None:
            return reject_claim("aud", "absent", "It is for no audience.", LOG_IN)
        remedy = (
            f"In the app, log in with the audience {self._audience}; "
            "or AUTH0_AUDIENCE is not what the app asks for."
        )
        return reject_claim(
            "aud", ", ".join(map(to_printable, for_whom[:3])), "It is for another audience.", remedy
        )

    def _explain_times(self, claims: Mapping[str, Any]) -> Iterator[TokenClaim]:
        now, expires = self._clock().timestamp(), claims.get("exp")
        if not is_time(expires):
            expiry_text = "absent" if expires is None else "no time"
            yield reject_claim("exp", expiry_text, "It never expires.", LOG_IN)
        elif expires <= int(now) - LEEWAY_SECONDS:
            why = f"It has expired {identifiers.format_duration(now - expires)} ago."
            yield reject_claim(
                "exp", format_time(expires), why, f"Let the app get a fresh one. {CHECK_CLOCK}"
            )
        else:
            yield accept_claim("exp", format_time(expires))
        for name, why in (("nbf", "It is not valid yet."), ("iat", "It is of the future.")):
            value = claims.get(name)
            if value is None:
                continue
            in_time = is_time(value) and value <= int(now) + LEEWAY_SECONDS
            expiry_text = format_time(value) if is_time(value) else "no time"
            yield check_claim(name, expiry_text, in_time, why, CHECK_CLOCK)

    def _explain_scope(self, claims: Mapping[str, Any]) -> TokenClaim:
        has = self._scope in read_scopes(dict(claims))
        remedy = f"In the app, ask for the scope {self._scope} (ATLAS_REQUIRED_SCOPE)."
        scope_text = to_printable(self._scope) if has else f"without {to_printable(self._scope)}"
        return check_claim("scope", scope_text, has, "It lacks the required scope: 403.", remedy)

    def _final_verdict(
        self, token: str, header: Mapping[str, Any], earlier: Sequence[TokenClaim]
    ) -> Iterator[TokenClaim]:
        """What decides in the end is what the service itself says."""
        if self._keys is None or any(claim.verdict == "bad" for claim in earlier):
            return
        try:
            TokenValidator(self._issuer, self._audience, self._clock).validate(
                token, self._keys[header["kid"]]
            )
        except AtlasError as error:
            yield reject_claim("whole", error.code, "It is refused all the same.", TAKE_WHOLE_TOKEN)


def not_a_jwt(token: str) -> TokenClaim | None:
    parts = token.split(".")
    if len(token) > TOKEN_BYTES_MAX:
        return reject_claim(
            "form", "too long", f"It is longer than {TOKEN_BYTES_MAX} bytes.", TAKE_WHOLE_TOKEN
        )
    if len(parts) == JWE_PARTS:
        return reject_claim(
            "form", "encrypted", "It is encrypted (JWE): only Auth0 can read it.", LOG_IN
        )
    if len(parts) != 3:
        return reject_claim(
            "form", "opaque", "It is no JWT: the app logs in without an audience.", LOG_IN
        )
    return None


def decode_part(token: str, number: int) -> dict[str, Any] | None:
    """The header or the claims; None when that is no JSON object."""
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
    outcome: Literal["good", "bad"] = "good" if is_good else "bad"
    return TokenClaim(name, to_printable(value), outcome, *(() if is_good else (reason, remedy)))


def to_printable(value: object) -> str:
    """A value as text that harms no terminal."""
    if value is None:
        return "absent"
    if not isinstance(value, str):
        return f"no text ({type(value).__name__})"
    return "".join(each if each.isprintable() else "?" for each in value[:SHOWN_MAX])


def is_time(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def format_time(seconds: float) -> str:
    try:
        return identifiers.format_timestamp(datetime.fromtimestamp(seconds, UTC))
    except (ValueError, OverflowError, OSError):
        return "no time that there is"
