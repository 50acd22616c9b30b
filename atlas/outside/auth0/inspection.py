"""Checks of the issuers for `atlas diagnose`: can they be reached, are their keys usable?"""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import msgspec
from joserfc.jwk import RSAKey

from atlas.core.diagnosis import CheckFailed
from atlas.core.errors import JSON_ERRORS
from atlas.core.inspection import IssuerKeys, TokenClaim
from atlas.core.ports import Clock
from atlas.outside.auth0.claims import TokenExplainer
from atlas.outside.auth0.keys import (
    FETCH_SECONDS,
    JWKS_BYTES_MAX,
    JWKS_PATH,
    Jwks,
    parse_signing_keys,
)
from atlas.outside.auth0.policy import TokenPolicy
from atlas.outside.auth0.proof_claims import explain_proof
from atlas.outside.network import (
    HttpSession,
    ProbeReply,
    extract_host,
    extract_redirect_host,
    fetch,
    measure_clock_skew,
)

SETTING = "AUTH0_DOMAIN"


class Auth0Inspection:
    """Implements `ports.IssuerInspector`."""

    def __init__(self, session: HttpSession, policy: TokenPolicy, clock: Clock) -> None:
        self._session = session
        self._policy = policy
        self._clock = clock
        self._clock_skew: float | None = None
        self._keys: dict[str, dict[str, RSAKey]] = {}  # by issuer, of those that answered

    async def fetch_keys(self, issuer: str) -> IssuerKeys:
        if not issuer:
            remedy = f"Set {SETTING} to the tenant: atlas.eu.auth0.com"
            raise CheckFailed(f"{SETTING} is not set.", remedy)
        started_at = time.monotonic()
        response = await fetch(
            self._session, issuer, JWKS_PATH, SETTING, FETCH_SECONDS, JWKS_BYTES_MAX
        )
        seconds = time.monotonic() - started_at
        skew = measure_clock_skew(response.headers.get("Date", ""), self._clock())
        self._clock_skew = skew if self._clock_skew is None else self._clock_skew
        listed = len(parse_listed_keys(issuer, response))
        keys = dict[str, RSAKey]()
        with suppress(ValueError):  # no usable key
            keys = parse_signing_keys(response.body)
        self._keys[issuer] = keys
        if not keys:
            raise CheckFailed(
                f"The issuer has no usable key: none of {listed} is RSA for RS256 or PS256 with "
                "2048 bits or more and a kid.",
                "In Auth0, rotate the signing key of the tenant.",
            )
        return IssuerKeys(len(keys), listed - len(keys), seconds)

    def measure_clock_skew(self) -> float | None:
        return self._clock_skew

    def explain(
        self, token: str, scope: str, pseudonym: Callable[[str], str]
    ) -> Sequence[TokenClaim]:
        explainer = TokenExplainer(self._policy, scope, self._keys, self._clock)
        return explainer.explain(token, pseudonym)

    def explain_proof(self, proof: str, token: str, base: str) -> Sequence[TokenClaim]:
        return explain_proof(proof, token, base, self._policy.proofs, self._clock)


def parse_listed_keys(issuer: str, response: ProbeReply) -> tuple[Any, ...]:
    """Return all keys in a response, usable or not. Raises CheckFailed."""
    host = extract_host(issuer)
    if 300 <= response.status < 400:
        target = extract_redirect_host(issuer, response)
        raise CheckFailed(
            f"{host} redirects to {target} ({response.status}).",
            f"Set {SETTING} to the tenant's own domain, or AUTH0_ISSUER to its URL.",
        )
    if response.status == 404:
        raise CheckFailed(
            f"{host} has no keys at .well-known/jwks.json (404).",
            f"Is {SETTING} the tenant's own domain? AUTH0_ISSUER must be exactly the issuer of "
            "the tokens, up to its last slash.",
        )
    if response.status != 200:
        raise CheckFailed(
            f"{host} answers {response.status} instead of keys.",
            "Check Auth0's status page, and try again.",
        )
    try:
        return msgspec.json.decode(response.body, type=Jwks).keys
    except JSON_ERRORS as error:
        media_type = response.headers.get("Content-Type", "no media type").partition(";")[0]
        raise CheckFailed(
            f"{host} does not answer with a JWKS ({media_type}).",
            f"Is {SETTING} right? Does a proxy answer instead?",
        ) from error
