"""The journal, as operators list it, show it, and have it sent again."""

from dataclasses import dataclass
from typing import Annotated

import msgspec
from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from atlas.core.errors import NotFound, Rejected
from atlas.core.messages import Abandoned, Entry, ListedStatus
from atlas.core.ports import Aside, Ledger, Replays
from atlas.edge.error_responses import json
from atlas.edge.operator.guard import Guard

PAGE_MAX = 1_000
FIND_CHARACTERS_MAX = 128  # as many as a correlation id may have


class Asked(Struct):
    """The query of /exports."""

    status: ListedStatus | None = None
    limit: Annotated[int, Meta(ge=1)] = 50
    before: Annotated[int, Meta(ge=1, le=2**62)] | None = None
    find: Annotated[str, Meta(min_length=1, max_length=FIND_CHARACTERS_MAX)] | None = None


@dataclass(frozen=True, slots=True)
class Exports:
    """One method a route."""

    ledger: Ledger
    aside: Aside
    replays: Replays

    def routes(self, guard: Guard) -> list[Route]:
        return [
            guard.route("GET", "/exports", self.list),
            guard.route("POST", "/exports/replay", self.replay_all),
            guard.route("POST", "/exports/{id:path}/replay", self.replay),
            guard.route("POST", "/exports/{id:path}/abandon", self.abandon),
            guard.route("GET", "/exports/{id:path}", self.show),
        ]

    async def list(self, request: Request) -> Response:
        try:
            asked = msgspec.convert(dict(request.query_params), Asked, strict=False)
        except msgspec.ValidationError as error:
            raise Rejected("status, limit, before or find is not what it can be.") from error
        limit = min(asked.limit, PAGE_MAX)
        listing = await self.ledger.listing(asked.status, limit, asked.before, asked.find)
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
