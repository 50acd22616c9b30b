"""Explanation, claim by claim, of why a token is accepted or rejected.

The claims are in the order in which one explains the next: a text that is not a JWT has no claims,
and an ID token also has the wrong audience. Only the values below are shown, and the `sub` only as
a hash.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

from atlas.core import identifiers
from atlas.core.errors import AtlasError, SenderConstrainedToken
from atlas.core.inspection import TokenClaim
from atlas.core.ports import Clock
from atlas.outside.auth0.explanations import (
    accept_claim,
    check_claim,
    decode_json_part,
    format_time,
    is_time,
    reject_claim,
    to_printable,
)
from atlas.outside.auth0.policy import TokenPolicy
from atlas.outside.auth0.tokens import (
    ACCEPTED_TYPES,
    AGENT_CLAIM,
    FORBIDDEN_HEADERS,
    ID_TOKEN_CLAIMS,
    LEEWAY_SECONDS,
    TOKEN_BYTES_MAX,
    TokenValidator,
    read_binding,
    read_scopes,
)

JWE_PARTS = 5
LOG_IN = "In the app, log in with the audience of the API, and send the access token."
COPY_AGAIN = "Copy the whole token from the app again: three parts separated by dots."
CHECK_CLOCK = "Is our clock right? See step 1."


class TokenExplainer:
    """Explains if `Auth0Identities` would accept a token. `keys` are those of known issuers."""

    def __init__(
        self,
        policy: TokenPolicy,
        scope: str,
        keys: Mapping[str, Mapping[str, RSAKey]],
        clock: Clock,
    ) -> None:
        self._policy = policy
        self._scope = scope
        self._keys = keys
        self._clock = clock
        self._is_signed = False  # by a key of one of our issuers

    def explain(self, token: str, pseudonym: Callable[[str], str]) -> Sequence[TokenClaim]:
        """Return a verdict on each claim. `pseudonym` hashes the `sub`."""
        malformed = check_form(token)
        if malformed is not None:
            return (malformed,)
        header, payload = (decode_json_part(token, number) for number in (0, 1))
        if header is None or payload is None:
            reason = "It is truncated or changed."
            return (reject_claim("form", "parts that are not JSON", reason, COPY_AGAIN),)
        claims = [
            accept_claim("form", "JWT"),
            *self._explain_header(header),
            self._explain_signature(token, header, payload.get("iss")),
            *self._explain_payload(payload, pseudonym),
        ]
        return (*claims, *self._cross_check(token, header, payload, claims))

    def _explain_header(self, header: Mapping[str, Any]) -> Iterator[TokenClaim]:
        algorithm, kind = header.get("alg"), header.get("typ", "JWT")
        allowed = " or ".join(self._policy.algorithms)
        remedy = f"In Auth0, let the API sign with {allowed}, or change AUTH0_ALGORITHMS."
        is_allowed = algorithm in self._policy.algorithms
        yield check_claim("alg", algorithm, is_allowed, f"It is not signed with {allowed}.", remedy)
        is_accepted = isinstance(kind, str) and kind.lower() in ACCEPTED_TYPES
        yield check_claim("typ", kind, is_accepted, "It is another kind of token.", LOG_IN)
        for name in sorted(FORBIDDEN_HEADERS & header.keys()):
            reason = "Atlas accepts no token with this header."
            yield reject_claim(name, "present", reason, COPY_AGAIN)

    def _find_keys(self, kid: str, issuer: object) -> Mapping[str, RSAKey] | None:
        """Return the keys of the issuer; else of another that has this one; None if unknown."""
        if isinstance(issuer, str) and issuer in self._policy.issuers:
            return self._keys.get(issuer)
        if len(self._keys) < len(self._policy.issuers):
            return None
        return next((keys for keys in self._keys.values() if kid in keys), {})

    def _explain_signature(
        self, token: str, header: Mapping[str, Any], issuer: object
    ) -> TokenClaim:
        kid = header.get("kid")
        if not isinstance(kid, str):
            return reject_claim("kid", "absent", "It names no key.", LOG_IN)
        shown = to_printable(kid)
        keys = self._find_keys(kid, issuer)
        if keys is None:
            return TokenClaim("kid", shown, "unknown", "The keys of the issuer are unknown.")
        if kid not in keys:
            remedy = "Another tenant signed it, or the key has been revoked: log in again."
            return reject_claim("kid", shown, "The issuer has no key with this name.", remedy)
        try:
            jws.deserialize_compact(token.encode(), keys[kid], algorithms=self._policy.algorithms)
        except (JoseError, ValueError):
            reason = "The signature does not match this key."
            return reject_claim("signature", f"kid {shown}", reason, COPY_AGAIN)
        self._is_signed = True
        return accept_claim("signature", f"kid {shown}")

    def _explain_payload(
        self, claims: Mapping[str, Any], pseudonym: Callable[[str], str]
    ) -> Iterator[TokenClaim]:
        if id_claims := ID_TOKEN_CLAIMS & claims.keys():
            reason = "It is an ID token, which is only for the app itself."
            yield reject_claim("kind", f"has {', '.join(sorted(id_claims))}", reason, LOG_IN)
        yield from self._explain_binding(claims)
        if AGENT_CLAIM in claims:
            reason = "An agent acts for the user (auth0.accept_agents is false)."
            remedy = "Let the app log in as the user, or set auth0.accept_agents = true."
            is_accepted = self._policy.accepts_agents
            yield check_claim(AGENT_CLAIM, "present", is_accepted, reason, remedy)
        yield self._explain_issuer(claims.get("iss"))
        yield self._explain_audience(claims.get("aud"))
        yield from self._explain_times(claims)
        sub = claims.get("sub")
        user = pseudonym(sub) if isinstance(sub, str) and sub else None
        reason = "It does not name a user: 400 MISSING_IDENTITY."
        yield check_claim("sub", user, user is not None, reason, LOG_IN)
        if self._scope:
            yield self._explain_scope(claims)

    def _explain_binding(self, claims: Mapping[str, Any]) -> Iterator[TokenClaim]:
        mode = self._policy.proofs.mode
        try:
            thumbprint = read_binding(claims)
        except SenderConstrainedToken:
            reason = "It is bound to a key in a way that Atlas cannot check (mTLS)."
            remedy = "In Auth0, turn sender constraining off for the API, or use DPoP."
            yield reject_claim("cnf", "present", reason, remedy)
            return
        if thumbprint is not None:
            reason = "It is bound to a key of its sender (DPoP), and auth0.dpop is off."
            remedy = "Set ATLAS_DPOP=allowed, or turn sender constraining off in Auth0."
            yield check_claim("cnf", "a key: needs a DPoP proof", mode != "off", reason, remedy)
        elif mode == "required":
            reason = "It is not bound to a key, and auth0.dpop is required."
            remedy = "Set ATLAS_DPOP=allowed, or let the app use DPoP."
            yield reject_claim("cnf", "absent", reason, remedy)

    def _explain_issuer(self, issuer: object) -> TokenClaim:
        shown, issuers = to_printable(issuer), self._policy.issuers
        if issuer in issuers:
            return accept_claim("iss", shown)
        ours = ", ".join(issuers)
        if isinstance(issuer, str) and f"{issuer.rstrip('/')}/" in issuers:
            remedy = f"Set AUTH0_ISSUER to {ours}, or add the slash to the issuer."
            return reject_claim("iss", shown, "Its issuer has no trailing slash.", remedy)
        if self._is_signed:
            reason = "It is from our tenant, under another domain (a custom domain of it)."
            remedy = f"Accept both: AUTH0_ISSUER={','.join([*issuers, shown])}"
            return reject_claim("iss", shown, reason, remedy)
        remedy = f"The app logs in to another tenant than {ours}: is AUTH0_DOMAIN right?"
        return reject_claim("iss", shown, "It is from another issuer.", remedy)

    def _explain_audience(self, audience: object) -> TokenClaim:
        audiences = audience if isinstance(audience, list) else [audience]
        ours = self._policy.audiences
        matching = [each for each in audiences if each in ours]
        if matching and all(isinstance(each, str) for each in audiences):
            return accept_claim("aud", to_printable(matching[0]))
        if audience is None:
            return reject_claim("aud", "absent", "It has no audience.", LOG_IN)
        shown = ", ".join(map(to_printable, audiences[:3]))
        remedy = (
            f"In the app, log in with the audience {' or '.join(ours)}; "
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
        starts, issued = claims.get("nbf"), claims.get("iat")
        if starts is not None:
            is_past = is_time(starts) and starts <= int(now) + LEEWAY_SECONDS
            reason = "It is not valid yet."
            yield check_claim("nbf", format_time(starts), is_past, reason, CHECK_CLOCK)
        if issued is not None:
            is_ahead = is_time(issued) and issued > int(now) + LEEWAY_SECONDS
            shown = (
                f"{format_time(issued)}, ahead of our clock" if is_ahead else format_time(issued)
            )
            yield check_claim("iat", shown, is_time(issued), "It is not a time.", COPY_AGAIN)

    def _explain_scope(self, claims: Mapping[str, Any]) -> TokenClaim:
        scope = to_printable(self._scope)
        if self._scope in read_scopes(claims):
            return accept_claim("scope", scope)
        remedy = f"In the app, request the scope {self._scope} (ATLAS_REQUIRED_SCOPE)."
        return reject_claim(
            "scope", f"without {scope}", "It lacks the required scope: 403.", remedy
        )

    def _cross_check(
        self,
        token: str,
        header: Mapping[str, Any],
        payload: Mapping[str, Any],
        earlier: Sequence[TokenClaim],
    ) -> Iterator[TokenClaim]:
        """Yield a rejection if the service itself rejects a token that looks valid."""
        if not self._is_signed or any(claim.verdict == "bad" for claim in earlier):
            return
        issuer = payload["iss"]
        validator = TokenValidator(issuer, self._policy, self._clock)
        try:
            validator.validate(token, self._keys[issuer][header["kid"]])
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
