"""The issuer, looked at: is it there, is it what it should be, has it keys?"""

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
    """Answers `ports.Issuer`."""

    def __init__(self, session: HttpSession, issuer: str, audience: str, clock: Clock) -> None:
        self._session = session
        self._issuer = issuer
        self._audience = audience
        self._clock = clock
        self._ahead: float | None = None
        self._keys: dict[str, RSAKey] | None = None

    async def fetch_keys(self) -> IssuerKeys:
        if not self._issuer:
            remedy = f"Set {SETTING} to the tenant: atlas.eu.auth0.com"
            raise CheckFailed(f"{SETTING} is not set.", remedy)
        began = time.monotonic()
        answer = await fetch(
            self._session, self._issuer, JWKS_PATH, SETTING, FETCH_SECONDS, JWKS_BYTES_MAX
        )
        seconds = time.monotonic() - began
        self._ahead = measure_clock_skew(answer.headers.get("Date", ""), self._clock())
        listed = len(self._listed_in(answer))
        self._keys = {}
        with suppress(ValueError):  # none that we take
            self._keys = parse_signing_keys(answer.body)
        if not self._keys:
            raise CheckFailed(
                f"The issuer has no key that we take: none of {listed} is RSA with RS256, "
                "2048 bits or more, and a kid.",
                "In Auth0, rotate the signing key of the tenant.",
            )
        return IssuerKeys(len(self._keys), listed - len(self._keys), seconds)

    def measure_clock_skew(self) -> float | None:
        return self._ahead

    def explain(
        self, token: str, scope: str, pseudonym: Callable[[str], str]
    ) -> Sequence[TokenClaim]:
        judge = TokenExplainer(self._issuer, self._audience, scope, self._keys, self._clock)
        return judge.explain(token, pseudonym)

    def _listed_in(self, answer: ProbeReply) -> tuple[dict[str, Any], ...]:
        """Return the keys in an answer, whether or not we take them. Raises Amiss."""
        host = extract_host(self._issuer)
        if 300 <= answer.status < 400:
            raise CheckFailed(
                f"{host} sends us on to {extract_redirect_host(self._issuer, answer)} ({answer.status}).",
                f"Set {SETTING} to the name of the tenant itself, or AUTH0_ISSUER to its URL.",
            )
        if answer.status == 404:
            raise CheckFailed(
                f"{host} has no keys at .well-known/jwks.json (404).",
                f"Is {SETTING} the tenant's own name? AUTH0_ISSUER is the issuer of the tokens, "
                "to the letter, without what comes after its last slash.",
            )
        if answer.status != 200:
            raise CheckFailed(
                f"{host} answers {answer.status} instead of keys.",
                "Look at the status of Auth0, and try again.",
            )
        try:
            return msgspec.json.decode(answer.body, type=Jwks).keys
        except JSON_ERRORS as error:
            kind = answer.headers.get("Content-Type", "no media type").partition(";")[0]
            raise CheckFailed(
                f"{host} answers something that is no JWKS ({kind}).",
                f"Is {SETTING} right? Does a proxy answer in its place?",
            ) from error
