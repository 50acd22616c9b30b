"""An Auth0 for a laptop: signing keys, tokens for anybody, and what goes wrong with both.

    GET  /.well-known/jwks.json, /.well-known/openid-configuration
    POST /oauth/token                  {"grant_type": "client_credentials", "client_id", "sub"?}
    GET  /stand-in/tokens?sub=         a token as text, for a shell
    POST /stand-in/tokens              {"sub", "expires_in", "claims", "header", "key"}
    POST /stand-in/rotate              the next key signs; the one before stays until revoked
    POST /stand-in/revoke-previous
    POST /stand-in/outage              {"on": true, "status": 503 or "cut", "html", "no keys"}
    POST /stand-in/clock               {"ahead_seconds": 3600}: what its answers say the time is
    GET  /stand-in/state

Only the stand-in signs for whoever asks: a field `sub` gives a token of that user.
"""

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

from atlas.local.http import cut, dated, json, read

AUDIENCE = "https://api.atlas.ai"
DAY_SECONDS = 86_400
KEY_BITS = 2048


@dataclass(slots=True)
class Ring:
    """The keys: the one that signs, the one that will, and perhaps the one that did."""

    current: RSAKey
    next: RSAKey
    previous: RSAKey | None = None

    @classmethod
    def new(cls) -> "Ring":
        return cls(new_key(), new_key())

    @classmethod
    def kept_in(cls, file: Path) -> "Ring":
        """The same at every start, so that a token outlives a restart."""
        if file.exists():
            keys = msgspec.json.decode(file.read_bytes(), type=list[dict[str, Any]])
            return cls(*(RSAKey.import_key(key) for key in keys))
        ring = cls.new()
        ring.keep_in(file)
        return ring

    def keep_in(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as out:
            out.write(msgspec.json.encode([key.as_dict(private=True) for key in self.all()]))

    def all(self) -> list[RSAKey]:
        return [self.current, self.next] + ([self.previous] if self.previous else [])

    def rotate(self) -> None:
        self.previous, self.current, self.next = self.current, self.next, new_key()


def new_key() -> RSAKey:
    kid = secrets.token_urlsafe(12)
    return RSAKey.generate_key(KEY_BITS, {"kid": kid, "use": "sig", "alg": "RS256"})


class Wish(msgspec.Struct, forbid_unknown_fields=True):
    """A token of any kind. In claims and header, null takes out what a good token has."""

    sub: str | None = "auth0|local"
    expires_in: int = DAY_SECONDS
    claims: dict[str, Any] = {}
    header: dict[str, Any] = {}
    key: Literal["current", "next", "previous", "stranger"] = "current"


class Outage(msgspec.Struct, forbid_unknown_fields=True):
    """What befalls whoever asks for the keys."""

    on: bool = True
    status: int | Literal["cut", "html", "no keys"] = 503


class Clock(msgspec.Struct, forbid_unknown_fields=True):
    """How far it is before ours."""

    ahead_seconds: float = 0.0


@dataclass(slots=True)
class Auth0:
    """One tenant. The issuer ends in a slash, as Auth0's do."""

    issuer: str
    audience: str = AUDIENCE
    ring: Ring = field(default_factory=Ring.new)
    keys_file: Path | None = None
    now: Callable[[], float] = time.time
    outage: Outage = field(default_factory=lambda: Outage(on=False))
    clock: Clock = field(default_factory=Clock)
    asked: Counter[str] = field(default_factory=Counter)

    def token(self, wish: Wish) -> str:
        issued = int(self.now())
        claims: dict[str, Any] = {
            "iss": self.issuer,
            "sub": wish.sub,
            "aud": self.audience,
            "iat": issued,
            "exp": issued + wish.expires_in,
            "azp": "local",
            "scope": "openid profile",
        }
        key = new_key() if wish.key == "stranger" else getattr(self.ring, wish.key)
        header = {"alg": "RS256", "typ": "JWT", "kid": key.kid}
        return jwt.encode(
            without_nulls(header | wish.header),
            without_nulls(claims | wish.claims),
            key,
            default_type=None,
        )


def without_nulls(given: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value is not None}


def application(auth0: Auth0) -> web.Application:
    """The stand-in, to be served at its issuer's address."""
    tenant, app = Tenant(auth0), web.Application()
    app.router.add_get("/.well-known/jwks.json", tenant.jwks)
    app.router.add_get("/.well-known/openid-configuration", tenant.discovery)
    app.router.add_post("/oauth/token", tenant.oauth)
    app.router.add_get("/stand-in/tokens", tenant.plain)
    app.router.add_post("/stand-in/tokens", tenant.wish)
    app.router.add_post("/stand-in/rotate", tenant.rotate)
    app.router.add_post("/stand-in/revoke-previous", tenant.revoke)
    app.router.add_post("/stand-in/outage", tenant.go_out)
    app.router.add_post("/stand-in/clock", tenant.set_clock)
    app.on_response_prepare.append(lambda _, answer: dated(answer, auth0.clock.ahead_seconds))
    app.router.add_get("/stand-in/state", tenant.state)
    return app


class Tenant:
    """One method an endpoint."""

    def __init__(self, auth0: Auth0) -> None:
        self._auth0 = auth0

    async def jwks(self, request: web.Request) -> web.Response:
        self._auth0.asked["jwks"] += 1
        outage = self._auth0.outage
        if outage.on and outage.status == "cut":
            return cut(request)
        if outage.on and outage.status == "html":
            return web.Response(text="<html>Log in</html>", content_type="text/html")
        if outage.on and outage.status == "no keys":
            return json({"keys": [{"kty": "EC", "kid": "1", "alg": "ES256"}]})
        if outage.on:
            headers = {"Location": "/login"} if 300 <= int(outage.status) < 400 else {}
            return web.Response(status=int(outage.status), headers=headers)
        return json({"keys": [key.as_dict(private=False) for key in self._auth0.ring.all()]})

    async def discovery(self, _request: web.Request) -> web.Response:
        issuer = self._auth0.issuer
        found = {"jwks_uri": ".well-known/jwks.json", "token_endpoint": "oauth/token"}
        return json({"issuer": issuer} | {name: issuer + path for name, path in found.items()})

    async def oauth(self, request: web.Request) -> web.Response:
        if request.content_type == "application/json":
            asked = msgspec.json.decode(await request.read(), type=dict[str, Any])
        else:
            asked = {name: str(value) for name, value in (await request.post()).items()}
        if asked.get("grant_type") != "client_credentials":
            told = {"error": "unsupported_grant_type", "error_description": "client_credentials"}
            return json(told, 403)
        machine = f"{asked.get('client_id', 'local')}@clients"
        self._auth0.asked["token"] += 1
        token = self._auth0.token(Wish(sub=asked.get("sub") or machine))
        return json({"access_token": token, "token_type": "Bearer", "expires_in": DAY_SECONDS})

    async def plain(self, request: web.Request) -> web.Response:
        self._auth0.asked["token"] += 1
        wish = Wish(sub=request.query["sub"]) if "sub" in request.query else Wish()
        return web.Response(text=self._auth0.token(wish))

    async def wish(self, request: web.Request) -> web.Response:
        wish = await read(request, Wish)
        if wish.key == "previous" and self._auth0.ring.previous is None:
            raise web.HTTPBadRequest(text="There is no previous key.")
        self._auth0.asked["token"] += 1
        return json({"access_token": self._auth0.token(wish)})

    async def rotate(self, _request: web.Request) -> web.Response:
        self._auth0.ring.rotate()
        return self._kept()

    async def revoke(self, _request: web.Request) -> web.Response:
        self._auth0.ring.previous = None
        return self._kept()

    async def go_out(self, request: web.Request) -> web.Response:
        self._auth0.outage = await read(request, Outage)
        return json({})

    async def set_clock(self, request: web.Request) -> web.Response:
        self._auth0.clock = await read(request, Clock)
        return json({})

    async def state(self, _request: web.Request) -> web.Response:
        kids = [key.kid for key in self._auth0.ring.all()]
        return json({"asked": self._auth0.asked, "kids": kids})

    def _kept(self) -> web.Response:
        if self._auth0.keys_file is not None:
            self._auth0.ring.keep_in(self._auth0.keys_file)
        return json({"kids": [key.kid for key in self._auth0.ring.all()]})
