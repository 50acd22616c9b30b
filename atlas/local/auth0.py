"""An Auth0 emulator: signing keys, tokens for any user, and faults of both.

    GET  /.well-known/jwks.json, /.well-known/openid-configuration
    POST /oauth/token                  {"grant_type": "client_credentials", "client_id", "sub"?}
    GET  /stand-in/tokens?sub=         a token as text, for a shell; also &expires_in=-60&jkt=
    POST /stand-in/tokens              {"sub", "expires_in", "claims", "header", "key", "jkt"}
    POST /stand-in/rotate              the next key signs; the one before stays until revoked
    POST /stand-in/revoke-previous
    POST, GET /stand-in/outage         {"on": true, "status": 503 or "cut", "html", "no keys", null,
                                        "seconds": 2.0, "count": 20}
    POST /stand-in/clock               {"ahead_seconds": 3600}: the skew of its Date headers
    GET  /stand-in/state

Unlike Auth0, it issues tokens for any user: the field `sub` names the user.
"""

import asyncio
import os
import secrets
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec
from aiohttp import web
from joserfc import jwt
from joserfc.jwk import RSAKey

from atlas.local.http import drop_connection, json_response, parse_request, write_date_header

AUDIENCE = "https://api.atlas.ai"
DAY_SECONDS = 86_400
KEY_BITS = 2048


@dataclass(slots=True)
class KeyRing:
    """The signing key, the next one, and the previous one until it is revoked."""

    current: RSAKey
    next: RSAKey
    previous: RSAKey | None = None

    @classmethod
    def generate(cls) -> "KeyRing":
        return cls(generate_key(), generate_key())

    @classmethod
    def load(cls, file: Path) -> "KeyRing":
        """Load the keys, or generate them once, so that tokens remain valid after a restart."""
        if file.exists():
            keys = msgspec.json.decode(file.read_bytes(), type=list[dict[str, Any]])
            return cls(*(RSAKey.import_key(key) for key in keys))
        ring = cls.generate()
        ring.save(file)
        return ring

    def save(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as out:
            out.write(msgspec.json.encode([key.as_dict(private=True) for key in self.list_keys()]))

    def list_keys(self) -> list[RSAKey]:
        return [self.current, self.next] + ([self.previous] if self.previous else [])

    def rotate(self) -> None:
        self.previous, self.current, self.next = self.current, self.next, generate_key()


def generate_key() -> RSAKey:
    kid = secrets.token_urlsafe(12)
    return RSAKey.generate_key(KEY_BITS, {"kid": kid, "use": "sig", "alg": "RS256"})


class TokenRequest(msgspec.Struct, forbid_unknown_fields=True):
    """A token to issue. A null in `claims` or `header` removes the usual value.

    It is bound to the key with the thumbprint `jkt` (DPoP), if there is one.
    """

    sub: str | None = "auth0|local"
    expires_in: int = DAY_SECONDS
    claims: dict[str, Any] = {}
    header: dict[str, Any] = {}
    key: Literal["current", "next", "previous", "stranger"] = "current"
    jkt: str = ""


class Outage(msgspec.Struct, forbid_unknown_fields=True):
    """The response to requests for the keys during an outage; null is the usual one.

    It takes `seconds`. After `count` requests the outage is over, 0 is never.
    """

    on: bool = True
    status: int | Literal["cut", "html", "no keys"] | None = 503
    seconds: float = 0.0
    count: int = 0

    def spend(self) -> None:
        """Count a request."""
        if self.on and self.count:
            self.count -= 1
            self.on = self.count > 0


class ClockSkew(msgspec.Struct, forbid_unknown_fields=True):
    """The difference between its clock and that of the system."""

    ahead_seconds: float = 0.0


@dataclass(slots=True)
class Auth0Emulator:
    """One tenant. The issuer ends with a slash, like those of Auth0."""

    issuer: str
    audience: str = AUDIENCE
    ring: KeyRing = field(default_factory=KeyRing.generate)
    keys_file: Path | None = None
    time_source: Callable[[], float] = time.time
    outage: Outage = field(default_factory=lambda: Outage(on=False))
    clock: ClockSkew = field(default_factory=ClockSkew)
    request_counts: Counter[str] = field(default_factory=Counter)

    def issue_token(self, token_request: TokenRequest) -> str:
        issued = int(self.time_source())
        claims: dict[str, Any] = {
            "iss": self.issuer,
            "sub": token_request.sub,
            "aud": self.audience,
            "iat": issued,
            "exp": issued + token_request.expires_in,
            "azp": "local",
            "scope": "openid profile",
            "cnf": {"jkt": token_request.jkt} if token_request.jkt else None,
        }
        key = (
            generate_key()
            if token_request.key == "stranger"
            else getattr(self.ring, token_request.key)
        )
        header = {"alg": "RS256", "typ": "JWT", "kid": key.kid}
        return jwt.encode(
            drop_nulls(header | token_request.header),
            drop_nulls(claims | token_request.claims),
            key,
            default_type=None,
        )


def drop_nulls(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def build_application(auth0: Auth0Emulator) -> web.Application:
    """Build the application, to be served at the address of its issuer."""
    tenant, app = Auth0Endpoints(auth0), web.Application()
    app.router.add_get("/.well-known/jwks.json", tenant.get_jwks)
    app.router.add_get("/.well-known/openid-configuration", tenant.get_discovery)
    app.router.add_post("/oauth/token", tenant.post_token)
    app.router.add_get("/stand-in/tokens", tenant.issue_default_token)
    app.router.add_post("/stand-in/tokens", tenant.issue_custom_token)
    app.router.add_post("/stand-in/rotate", tenant.rotate_keys)
    app.router.add_post("/stand-in/revoke-previous", tenant.revoke_previous_key)
    app.router.add_post("/stand-in/outage", tenant.start_outage)
    app.router.add_get("/stand-in/outage", tenant.get_outage)
    app.router.add_post("/stand-in/clock", tenant.set_clock)
    app.on_response_prepare.append(
        lambda _, answer: write_date_header(answer, auth0.clock.ahead_seconds)
    )
    app.router.add_get("/stand-in/state", tenant.get_state)
    return app


class Auth0Endpoints:
    """One method for each endpoint."""

    def __init__(self, auth0: Auth0Emulator) -> None:
        self._auth0 = auth0

    async def get_jwks(self, request: web.Request) -> web.Response:
        self._auth0.request_counts["jwks"] += 1
        outage = self._auth0.outage
        status = outage.status if outage.on else None
        seconds = outage.seconds if outage.on else 0.0
        outage.spend()
        await asyncio.sleep(seconds)
        match status:
            case None:
                keys = [key.as_dict(private=False) for key in self._auth0.ring.list_keys()]
                return json_response({"keys": keys})
            case "cut":
                return drop_connection(request)
            case "html":
                return web.Response(text="<html>Log in</html>", content_type="text/html")
            case "no keys":
                return json_response({"keys": [{"kty": "EC", "kid": "1", "alg": "ES256"}]})
            case _:
                headers = {"Location": "/login"} if 300 <= status < 400 else {}
                return web.Response(status=status, headers=headers)

    async def get_discovery(self, _request: web.Request) -> web.Response:
        issuer = self._auth0.issuer
        document = {"jwks_uri": ".well-known/jwks.json", "token_endpoint": "oauth/token"}
        return json_response(
            {"issuer": issuer} | {name: issuer + path for name, path in document.items()}
        )

    async def post_token(self, request: web.Request) -> web.Response:
        if request.content_type == "application/json":
            body = msgspec.json.decode(await request.read(), type=dict[str, Any])
        else:
            body = {name: str(value) for name, value in (await request.post()).items()}
        if body.get("grant_type") != "client_credentials":
            error_body = {
                "error": "unsupported_grant_type",
                "error_description": "client_credentials",
            }
            return json_response(error_body, 403)
        machine = f"{body.get('client_id', 'local')}@clients"
        self._auth0.request_counts["token"] += 1
        token = self._auth0.issue_token(TokenRequest(sub=body.get("sub") or machine))
        return json_response(
            {"access_token": token, "token_type": "Bearer", "expires_in": DAY_SECONDS}
        )

    async def issue_default_token(self, request: web.Request) -> web.Response:
        try:
            wanted = msgspec.convert(dict(request.query), TokenRequest, strict=False)
        except msgspec.ValidationError as error:
            raise web.HTTPBadRequest(text=str(error)) from error
        return web.Response(text=self._issue_token(wanted))

    async def issue_custom_token(self, request: web.Request) -> web.Response:
        token = self._issue_token(await parse_request(request, TokenRequest))
        return json_response({"access_token": token})

    def _issue_token(self, token_request: TokenRequest) -> str:
        if token_request.key == "previous" and self._auth0.ring.previous is None:
            raise web.HTTPBadRequest(text="There is no previous key.")
        self._auth0.request_counts["token"] += 1
        return self._auth0.issue_token(token_request)

    async def rotate_keys(self, _request: web.Request) -> web.Response:
        self._auth0.ring.rotate()
        return self._save_keys()

    async def revoke_previous_key(self, _request: web.Request) -> web.Response:
        self._auth0.ring.previous = None
        return self._save_keys()

    async def start_outage(self, request: web.Request) -> web.Response:
        self._auth0.outage = await parse_request(request, Outage)
        return json_response({})

    async def get_outage(self, _request: web.Request) -> web.Response:
        return json_response(self._auth0.outage)

    async def set_clock(self, request: web.Request) -> web.Response:
        self._auth0.clock = await parse_request(request, ClockSkew)
        return json_response({})

    async def get_state(self, _request: web.Request) -> web.Response:
        kids = [key.kid for key in self._auth0.ring.list_keys()]
        return json_response({"asked": self._auth0.request_counts, "kids": kids})

    def _save_keys(self) -> web.Response:
        if self._auth0.keys_file is not None:
            self._auth0.ring.save(self._auth0.keys_file)
        return json_response({"kids": [key.kid for key in self._auth0.ring.list_keys()]})
