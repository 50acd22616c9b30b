"""The routes of receipts: how the caller's own exports stand."""

from dataclasses import dataclass

import msgspec
from starlette.datastructures import QueryParams
from starlette.responses import Response
from starlette.types import Receive

from atlas.core import names, ports
from atlas.core.errors import NotFound, Rejected
from atlas.core.messages import User
from atlas.core.names import API_PREFIX
from atlas.edge import wire
from atlas.edge.app import Path
from atlas.edge.authentication import RequestAuthenticator
from atlas.edge.context import COUNT, RequestContext
from atlas.edge.error_responses import json
from atlas.edge.responses import export_reply, stream_reply

PAGE_MAX = 200


@dataclass(frozen=True, slots=True)
class Receipts:
    """The routes of receipts."""

    authenticator: RequestAuthenticator
    receipts: ports.Receipts
    dataset_rid: str
    now: ports.Clock

    def paths(self) -> list[Path]:
        protect = self.authenticator.protect
        return [
            Path(f"{API_PREFIX}/exports/{{id}}", GET=protect(self.get_receipt)),
            Path(f"{API_PREFIX}/exports", GET=protect(self.get_receipts)),
        ]

    async def get_receipt(self, context: RequestContext, user: User, _receive: Receive) -> Response:
        id, reply_context = context.params["id"], self.reply_context(context)
        if id.startswith(names.WHOLE):
            if parts := await self.receipts.parts(user, id):
                return json(stream_reply(parts, reply_context, id), 200)
        elif receipt := await self.receipts.find(user, id):
            return json(export_reply(receipt, reply_context), 200)
        raise NotFound("You have no receipt with this id.")

    async def get_receipts(
        self, context: RequestContext, user: User, _receive: Receive
    ) -> Response:
        asked = QueryParams(context.query)
        limit = asked.get("limit", "50")
        if not (COUNT.fullmatch(limit) and 1 <= int(limit) <= PAGE_MAX):
            raise Rejected(f"limit is a number from 1 to {PAGE_MAX}.")
        key = asked.get("key")
        page = await self.receipts.page(user, key, int(limit), asked.get("cursor"))
        whole = names.whole_id(user, key) if key is not None else ""
        is_stream = bool(whole and await self.receipts.parts(user, whole))
        reply_context = self.reply_context(context)
        reply = wire.ReceiptsReply(
            receipts=tuple(export_reply(each, reply_context) for each in page.receipts),
            next_cursor=page.next_cursor,
            receipt_id=whole if is_stream else msgspec.UNSET,
        )
        return json(reply, 200)

    def reply_context(self, context: RequestContext) -> wire.Context:
        return wire.Context(context.correlation_id, self.dataset_rid, self.now())
