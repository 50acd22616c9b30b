"""The listener for operators: never public, and where `atlas exports` asks."""

import hmac
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Annotated

import msgspec
from msgspec import Meta, Struct
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from atlas.core.errors import AtlasError, NotFound, Rejected
from atlas.core.messages import Abandoned, Entry, Status
from atlas.core.ports import Aside, Ledger, Replays
from atlas.edge.refusals import json

PAGE_MAX = 1_000
HOST_AND_PORT = re.compile(r"(\[[^\]]*\]|[^:]*)(?::[0-9]*)?")


class Asked(Struct):
    """The query of /exports."""

    status: Status | None = None
    limit: Annotated[int, Meta(ge=1)] = 50
    before: Annotated[int, Meta(ge=1, le=2**62)] | None = None


@dataclass(frozen=True, slots=True)
class Operator:
    """`hosts` are the names that it answers to, beside addresses: a page in somebody's browser,
    which wants to read what is here, came by a name of its own.
    """

    ledger: Ledger
    aside: Aside
    replays: Replays
    token: str
    hosts: frozenset[str]

    def app(self) -> Starlette:
        app = Starlette(
            routes=[
                Route("/exports", self.guarded(self.list), methods=["GET"]),
                Route("/exports/replay", self.guarded(self.replay_all), methods=["POST"]),
                Route("/exports/{id:path}/replay", self.guarded(self.replay), methods=["POST"]),
                Route("/exports/{id:path}/abandon", self.guarded(self.abandon), methods=["POST"]),
                Route("/exports/{id:path}", self.guarded(self.show), methods=["GET"]),
            ],
            exception_handlers={AtlasError: refuse, HTTPException: no_route},
        )
        app.router.redirect_slashes = False
        return app

    def guarded(
        self, route: Callable[[Request], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def guard(request: Request) -> Response:
            if not self.is_ours(request.headers.get("host", "")):
                return json({"error": "Host is not one of this listener's names."}, 421)
            if self.token and not hmac.compare_digest(bearer(request.headers), self.token.encode()):
                why = {"error": "The operator token is missing or wrong."}
                return json(why, 401, {"WWW-Authenticate": "Bearer"})
            if "origin" in request.headers and request.method != "GET":
                return json({"error": "A page in a browser changes nothing here."}, 403)
            return await route(request)

        return guard

    def is_ours(self, host: str) -> bool:
        name = HOST_AND_PORT.fullmatch(host)
        return name is not None and (name[1] in self.hosts or is_address(name[1].strip("[]")))

    async def list(self, request: Request) -> Response:
        try:
            asked = msgspec.convert(dict(request.query_params), Asked, strict=False)
        except msgspec.ValidationError as error:
            raise Rejected("status, limit or before is not what it can be.") from error
        limit = min(asked.limit, PAGE_MAX)
        listing = await self.ledger.listing(asked.status, limit, asked.before)
        return json(listing, 200)

    async def show(self, request: Request) -> Response:
        return json(await self.entry(request), 200)

    async def entry(self, request: Request) -> Entry:
        """The one of the path. Raises NotFound."""
        id = request.path_params["id"]
        entry = await self.ledger.entry(id) if id else None
        if entry is None:
            raise NotFound("No export in the journal has this id, or more than one begins so.")
        return entry

    async def replay(self, request: Request) -> Response:
        entry = await self.entry(request)
        return json(await self.replays.one(entry.receipt.id), 200)

    async def replay_all(self, _request: Request) -> Response:
        return json(await self.replays.all(), 200)

    async def abandon(self, request: Request) -> Response:
        entry = await self.entry(request)
        return json(Abandoned(await self.aside.abandon(entry.receipt.id)), 200)


async def no_route(_request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 404
    return json({"error": "There is nothing at this address that answers so."}, status)


async def refuse(_request: Request, error: Exception) -> Response:
    status = error.status if isinstance(error, AtlasError) else 500
    return json({"error": str(error)}, status)


def is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def bearer(headers: Headers) -> bytes:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip().encode() if scheme.lower() == "bearer" else b""
