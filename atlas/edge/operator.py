"""The listener for operators: never public, and where `atlas exports` asks."""

import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from atlas.core.errors import AtlasError, NotFound, Rejected
from atlas.core.messages import Status
from atlas.core.ports import Ledger
from atlas.edge.refusals import json

PAGE_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Operator:
    """`hosts` are the names that it answers to: a page in somebody's browser has another."""

    ledger: Ledger
    token: str
    hosts: frozenset[str]

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/exports", self.guarded(self.list), methods=["GET"]),
                Route("/exports/{id}", self.guarded(self.show), methods=["GET"]),
            ],
            exception_handlers={AtlasError: refuse},
        )

    def guarded(
        self, route: Callable[[Request], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def guard(request: Request) -> Response:
            host = request.headers.get("host", "").rpartition(":")[0].strip("[]")
            if host not in self.hosts:
                return json({"error": "Host is not one of this listener's names."}, 421)
            if self.token and not hmac.compare_digest(bearer(request.headers), self.token.encode()):
                return json({"error": "The operator token is missing or wrong."}, 401)
            return await route(request)

        return guard

    async def list(self, request: Request) -> Response:
        asked = request.query_params
        status, limit, before = asked.get("status"), asked.get("limit"), asked.get("before")
        try:
            listing = await self.ledger.listing(
                msgspec.convert(status, Status | None),
                min(int(limit or 50), PAGE_MAX),
                int(before) if before else None,
            )
        except ValueError as error:  # msgspec's ValidationError is one, too
            raise Rejected("status, limit or before is not what it can be.") from error
        return json(listing, 200)

    async def show(self, request: Request) -> Response:
        entry = await self.ledger.entry(request.path_params["id"])
        if entry is None:
            raise NotFound("No export in the journal has this id, or more than one begins so.")
        return json(entry, 200)


async def refuse(_request: Request, error: Exception) -> Response:
    status = error.status if isinstance(error, AtlasError) else 500
    return json({"error": str(error)}, status)


def bearer(headers: Headers) -> bytes:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip().encode() if scheme.lower() == "bearer" else b""
