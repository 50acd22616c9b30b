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

from atlas.core import names
from atlas.core.errors import NOT_JSON, AtlasError
from atlas.core.ports import Clock
from atlas.core.sights import Claim
from atlas.outside.auth0.tokens import (
    ID_TOKEN_ONLY,
    LEEWAY_SECONDS,
    NEVER_FOLLOWED,
    TOKEN_BYTES_MAX,
    TYPES,
    Rules,
    scopes_in,
)

SHOWN_MAX = 100
JWE_PARTS = 5
LOG_IN = "In the app, log in with the audience of the API, and send the access token."
WHOLE = "Take the token from the app once more, whole: three parts with dots between them."
CLOCK = "Is our clock right? Step 1."
SIGNED = "In Auth0, let the API sign with RS256, and take a fresh token."


class Judge:
    """What `Auth0Identities` takes, said piece by piece. `keys` is None while they are unknown."""

    def __init__(
        self,
        issuer: str,
        audience: str,
        scope: str,
        keys: Mapping[str, RSAKey] | None,
        now: Clock,
    ) -> None:
        self._issuer = issuer
        self._audience = audience
        self._scope = scope
        self._keys = keys
        self._now = now

    def claims(self, token: str, pseudonym: Callable[[str], str]) -> Sequence[Claim]:
        opaque = not_a_jwt(token)
        if opaque is not None:
            return (opaque,)
        header, payload = (part_of(token, number) for number in (0, 1))
        if header is None or payload is None:
            return (bad("form", "parts that are no JSON", "It was cut or changed.", WHOLE),)
        found = [
            good("form", "JWT"),
            *self._of_the_header(header),
            self._signature(token, header),
            *self._of_the_payload(payload, pseudonym),
        ]
        return (*found, *self._at_last(token, header, found))

    def _of_the_header(self, header: Mapping[str, Any]) -> Iterator[Claim]:
        algorithm, kind = header.get("alg"), header.get("typ", "JWT")
        yield verdict(
            "alg", algorithm, algorithm == "RS256", "It is not signed with RS256.", SIGNED
        )
        is_known = isinstance(kind, str) and kind.lower() in TYPES
        yield verdict("typ", kind, is_known, "It is another kind of token.", LOG_IN)
        for name in sorted(NEVER_FOLLOWED & header.keys()):
            yield bad(name, "present", "Its header wants to be followed, which we never do.", WHOLE)

    def _signature(self, token: str, header: Mapping[str, Any]) -> Claim:
        kid = header.get("kid")
        if not isinstance(kid, str):
            return bad("kid", "absent", "It names no key.", LOG_IN)
        if self._keys is None:
            return Claim("kid", shown(kid), "unknown", "The keys of the issuer are not known.")
        if kid not in self._keys:
            to_do = "Another tenant has signed it, or a key that is revoked: log in again."
            return bad("kid", shown(kid), "The issuer has no key of this name.", to_do)
        try:
            jws.deserialize_compact(token.encode(), self._keys[kid], algorithms=["RS256"])
        except (JoseError, ValueError):
            why = "Its signature is not by that key."
            return bad("signature", f"kid {shown(kid)}", why, WHOLE)
        return good("signature", f"kid {shown(kid)}")

    def _of_the_payload(
        self, claims: Mapping[str, Any], pseudonym: Callable[[str], str]
    ) -> Iterator[Claim]:
        if only := ID_TOKEN_ONLY & claims.keys():
            why = "It is an ID token, which is for the app alone."
            yield bad("kind", f"has {', '.join(sorted(only))}", why, LOG_IN)
        if "cnf" in claims:
            why = "It is bound to a key of its sender (DPoP, mTLS)."
            to_do = "In Auth0, switch sender constraining off for the API."
            yield bad("cnf", "present", why, to_do)
        yield self._iss(claims.get("iss"))
        yield self._aud(claims.get("aud"))
        yield from self._times(claims)
        sub = claims.get("sub")
        told = pseudonym(sub) if isinstance(sub, str) and sub else None
        yield verdict(
            "sub", told, told is not None, "It names nobody: 400 MISSING_IDENTITY.", LOG_IN
        )
        if self._scope:
            yield self._required(claims)

    def _iss(self, issuer: object) -> Claim:
        if issuer == self._issuer:
            return good("iss", shown(issuer))
        if isinstance(issuer, str) and issuer.rstrip("/") == self._issuer.rstrip("/"):
            to_do = f"Set AUTH0_ISSUER to {self._issuer}, or let the issuer have its slash."
            return bad("iss", shown(issuer), "Its issuer has no slash at the end.", to_do)
        to_do = f"The app logs in at another tenant than {self._issuer}: is AUTH0_DOMAIN right?"
        return bad("iss", shown(issuer), "It is of another issuer.", to_do)

    def _aud(self, audience: object) -> Claim:
        for_whom = audience if isinstance(audience, list) else [audience]
        if self._audience in for_whom and all(isinstance(each, str) for each in for_whom):
            return good("aud", shown(self._audience))
        if audience is None:
            return bad("aud", "absent", "It is for no audience.", LOG_IN)
        to_do = (
            f"In the app, log in with the audience {self._audience}; "
            "or AUTH0_AUDIENCE is not what the app asks for."
        )
        return bad("aud", ", ".join(map(shown, for_whom[:3])), "It is for another audience.", to_do)

    def _times(self, claims: Mapping[str, Any]) -> Iterator[Claim]:
        now, expires = self._now().timestamp(), claims.get("exp")
        if not is_time(expires):
            told = "absent" if expires is None else "no time"
            yield bad("exp", told, "It never expires.", LOG_IN)
        elif expires <= int(now) - LEEWAY_SECONDS:
            why = f"It has expired {names.lasting(now - expires)} ago."
            yield bad("exp", moment(expires), why, f"Let the app get a fresh one. {CLOCK}")
        else:
            yield good("exp", moment(expires))
        for name, why in (("nbf", "It is not valid yet."), ("iat", "It is of the future.")):
            value = claims.get(name)
            if value is None:
                continue
            in_time = is_time(value) and value <= int(now) + LEEWAY_SECONDS
            told = moment(value) if is_time(value) else "no time"
            yield verdict(name, told, in_time, why, CLOCK)

    def _required(self, claims: Mapping[str, Any]) -> Claim:
        has = self._scope in scopes_in(dict(claims))
        to_do = f"In the app, ask for the scope {self._scope} (ATLAS_REQUIRED_SCOPE)."
        told = shown(self._scope) if has else f"without {shown(self._scope)}"
        return verdict("scope", told, has, "It lacks the required scope: 403.", to_do)

    def _at_last(
        self, token: str, header: Mapping[str, Any], found: Sequence[Claim]
    ) -> Iterator[Claim]:
        """What decides in the end is what the service itself says."""
        if self._keys is None or any(claim.verdict == "bad" for claim in found):
            return
        try:
            Rules(self._issuer, self._audience, self._now).user_in(token, self._keys[header["kid"]])
        except AtlasError as error:
            yield bad("whole", error.code, "It is refused all the same.", WHOLE)


def not_a_jwt(token: str) -> Claim | None:
    parts = token.split(".")
    if len(token) > TOKEN_BYTES_MAX:
        return bad("form", "too long", f"It is longer than {TOKEN_BYTES_MAX} bytes.", WHOLE)
    if len(parts) == JWE_PARTS:
        return bad("form", "encrypted", "It is encrypted (JWE): only Auth0 can read it.", LOG_IN)
    if len(parts) != 3:
        return bad("form", "opaque", "It is no JWT: the app logs in without an audience.", LOG_IN)
    return None


def part_of(token: str, number: int) -> dict[str, Any] | None:
    """The header or the claims; None when that is no JSON object."""
    text = token.split(".")[number]
    try:
        decoded = pybase64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        return msgspec.json.decode(decoded, type=dict[str, Any])
    except (*NOT_JSON, ValueError):
        return None


def good(name: str, value: str) -> Claim:
    return Claim(name, value, "good")


def bad(name: str, value: str, reason: str, to_do: str) -> Claim:
    return Claim(name, value, "bad", reason, to_do)


def verdict(name: str, value: object, is_good: bool, reason: str, to_do: str) -> Claim:
    outcome: Literal["good", "bad"] = "good" if is_good else "bad"
    return Claim(name, shown(value), outcome, *(() if is_good else (reason, to_do)))


def shown(value: object) -> str:
    """A value as text that harms no terminal."""
    if value is None:
        return "absent"
    if not isinstance(value, str):
        return f"no text ({type(value).__name__})"
    return "".join(each if each.isprintable() else "?" for each in value[:SHOWN_MAX])


def is_time(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def moment(seconds: float) -> str:
    try:
        return names.timestamp(datetime.fromtimestamp(seconds, UTC))
    except (ValueError, OverflowError, OSError):
        return "no time that there is"
