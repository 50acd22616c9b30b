"""The routes of receipts: how the caller's own exports stand."""

from dataclasses import dataclass

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from atlas.core import names, ports
from atlas.core.errors import NotFound, Rejected
from atlas.edge import wire
from atlas.edge.answers import ROOM
from atlas.edge.refusals import correlation_id, json
from atlas.edge.senders import Senders
from atlas.edge.waiting import COUNT

PAGE_MAX = 200


@dataclass(frozen=True, slots=True)
class Receipts:
    senders: Senders
    receipts: ports.Receipts
    dataset_rid: str
    now: ports.Clock

    def routes(self) -> list[Route]:
        return [
            Route(f"{ROOM}/exports/{{id}}", self.get_receipt, methods=["GET"]),
            Route(f"{ROOM}/exports", self.get_receipts, methods=["GET"]),
        ]

    async def get_receipt(self, request: Request) -> Response:
        user, id = await self.senders.known(request), request.path_params["id"]
        context = self.context(request)
        if id.startswith(names.WHOLE):
            if parts := await self.receipts.parts(user, id):
                return json(wire.stream_reply(parts, context, id), 200)
        elif receipt := await self.receipts.find(user, id):
            return json(wire.export_reply(receipt, context), 200)
        raise NotFound("You have no receipt with this id.")

    async def get_receipts(self, request: Request) -> Response:
        user = await self.senders.known(request)
        asked = request.query_params
        limit = asked.get("limit", "50")
        if not (COUNT.fullmatch(limit) and 1 <= int(limit) <= PAGE_MAX):
            raise Rejected(f"limit is a number from 1 to {PAGE_MAX}.")
        key = asked.get("key")
        page = await self.receipts.page(user, key, int(limit), asked.get("cursor"))
        whole = names.whole_id(user, key) if key is not None else ""
        is_stream = bool(whole and await self.receipts.parts(user, whole))
        context = self.context(request)
        reply = wire.ReceiptsReply(
            receipts=tuple(wire.export_reply(receipt, context) for receipt in page.receipts),
            next_cursor=page.next_cursor,
            receipt_id=whole if is_stream else msgspec.UNSET,
        )
        return json(reply, 200)

    def context(self, request: Request) -> wire.Context:
        return wire.Context(correlation_id(request), self.dataset_rid, self.now())
