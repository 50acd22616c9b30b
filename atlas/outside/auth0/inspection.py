"""The issuer, looked at: is it there, is it what it should be, has it keys?"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import aiohttp
import msgspec
from joserfc.jwk import RSAKey

from atlas.core.diagnosis import Amiss
from atlas.core.errors import NOT_JSON
from atlas.core.ports import Clock
from atlas.core.sights import Claim, Issued
from atlas.outside.auth0.claims import Judge, sub_in
from atlas.outside.auth0.keys import FETCH_SECONDS, JWKS_BYTES_MAX, Jwks, address, keys_in
from atlas.outside.network import UNREACHED, HttpSession, ahead_seconds, host_of, sent_on, unreached

SETTING = "AUTH0_DOMAIN"


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    kind: str
    body: bytes
    elsewhere: str


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
        answer = await self._get(address(self._issuer))
        seconds = time.monotonic() - began
        self._must_be_keys(answer)
        self._keys, others = sorted_out(answer.body)
        if not self._keys:
            raise Amiss(
                f"The issuer has no key that we take: none of {others} is RSA with RS256, "
                "2048 bits or more, and a kid.",
                "In Auth0, rotate the signing key of the tenant.",
            )
        return Issued(len(self._keys), others, seconds)

    def ahead_seconds(self) -> float | None:
        return self._ahead

    def apart(self, token: str, scope: str, pseudonym: str) -> Sequence[Claim]:
        judge = Judge(self._issuer, self._audience, scope, self._keys, self._now)
        return judge.claims(token, pseudonym)

    def sub_in(self, token: str) -> str | None:
        return sub_in(token)

    async def _get(self, url: str) -> Answer:
        timeout = aiohttp.ClientTimeout(total=FETCH_SECONDS)
        try:
            async with self._session.get(url, timeout=timeout, allow_redirects=False) as answer:
                self._ahead = ahead_seconds(answer.headers.get("Date", ""), self._now())
                body = await answer.content.read(JWKS_BYTES_MAX)
                while piece := await answer.content.read(JWKS_BYTES_MAX - len(body)):
                    body += piece
                location = answer.headers.get("Location", "")
                return Answer(answer.status, answer.content_type, body, location)
        except UNREACHED as error:
            raise unreached(error, self._issuer, SETTING) from error

    def _must_be_keys(self, answer: Answer) -> None:
        host = host_of(self._issuer)
        if 300 <= answer.status < 400:
            there = sent_on(self._issuer, answer.elsewhere) or "nowhere"
            raise Amiss(
                f"{host} sends us on to {there} ({answer.status}).",
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
        if not is_jwks(answer.body):
            raise Amiss(
                f"{host} answers something that is no JWKS ({answer.kind}).",
                f"Is {SETTING} right? Does a proxy answer in its place?",
            )


def is_jwks(body: bytes) -> bool:
    try:
        msgspec.json.decode(body, type=Jwks)
    except NOT_JSON:
        return False
    return True


def sorted_out(jwks: bytes) -> tuple[dict[str, RSAKey], int]:
    """The keys that we take, as the service does; and how many others there are."""
    everything = msgspec.json.decode(jwks, type=Jwks).keys
    try:
        found = keys_in(jwks)
    except ValueError:
        found = {}
    return found, len(everything) - len(found)
