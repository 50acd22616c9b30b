"""The issuer, looked at: is it there, is it what it should be, has it keys?"""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import msgspec
from joserfc.jwk import RSAKey

from atlas.core.diagnosis import Amiss
from atlas.core.errors import NOT_JSON
from atlas.core.ports import Clock
from atlas.core.sights import Claim, Issued
from atlas.outside.auth0.claims import Judge
from atlas.outside.auth0.keys import FETCH_SECONDS, JWKS_BYTES_MAX, JWKS_PATH, Jwks, keys_in
from atlas.outside.network import Answer, HttpSession, ahead_seconds, fetch, host_of, sent_on

SETTING = "AUTH0_DOMAIN"


class Auth0Inspection:
    """Answers `ports.Issuer`."""

    def __init__(self, session: HttpSession, issuer: str, audience: str, now: Clock) -> None:
        self._session = session
        self._issuer = issuer
        self._audience = audience
        self._now = now
        self._ahead: float | None = None
        self._keys: dict[str, RSAKey] | None = None

    async def look(self) -> Issued:
        if not self._issuer:
            to_do = f"Set {SETTING} to the tenant: atlas.eu.auth0.com"
            raise Amiss(f"{SETTING} is not set.", to_do)
        began = time.monotonic()
        answer = await fetch(
            self._session, self._issuer, JWKS_PATH, SETTING, FETCH_SECONDS, JWKS_BYTES_MAX
        )
        seconds = time.monotonic() - began
        self._ahead = ahead_seconds(answer.headers.get("Date", ""), self._now())
        listed = len(self._listed_in(answer))
        self._keys = {}
        with suppress(ValueError):  # none that we take
            self._keys = keys_in(answer.body)
        if not self._keys:
            raise Amiss(
                f"The issuer has no key that we take: none of {listed} is RSA with RS256, "
                "2048 bits or more, and a kid.",
                "In Auth0, rotate the signing key of the tenant.",
            )
        return Issued(len(self._keys), listed - len(self._keys), seconds)

    def ahead_seconds(self) -> float | None:
        return self._ahead

    def apart(self, token: str, scope: str, pseudonym: Callable[[str], str]) -> Sequence[Claim]:
        judge = Judge(self._issuer, self._audience, scope, self._keys, self._now)
        return judge.claims(token, pseudonym)

    def _listed_in(self, answer: Answer) -> tuple[dict[str, Any], ...]:
        """Return the keys in an answer, whether or not we take them. Raises Amiss."""
        host = host_of(self._issuer)
        if 300 <= answer.status < 400:
            raise Amiss(
                f"{host} sends us on to {sent_on(self._issuer, answer)} ({answer.status}).",
                f"Set {SETTING} to the name of the tenant itself, or AUTH0_ISSUER to its URL.",
            )
        if answer.status == 404:
            raise Amiss(
                f"{host} has no keys at .well-known/jwks.json (404).",
                f"Is {SETTING} the tenant's own name? AUTH0_ISSUER is the issuer of the tokens, "
                "to the letter, without what comes after its last slash.",
            )
        if answer.status != 200:
            raise Amiss(
                f"{host} answers {answer.status} instead of keys.",
                "Look at the status of Auth0, and try again.",
            )
        try:
            return msgspec.json.decode(answer.body, type=Jwks).keys
        except NOT_JSON as error:
            kind = answer.headers.get("Content-Type", "no media type").partition(";")[0]
            raise Amiss(
                f"{host} answers something that is no JWKS ({kind}).",
                f"Is {SETTING} right? Does a proxy answer in its place?",
            ) from error
