"""The routes of receipts: the state of the caller's own exports."""

from dataclasses import dataclass

import msgspec
from starlette.datastructures import QueryParams
from starlette.responses import Response
from starlette.types import Receive

from atlas.core import identifiers, ports
from atlas.core.errors import NotFound, Rejected
from atlas.core.identifiers import API_PREFIX
from atlas.core.messages import User
from atlas.edge.api_types import ReceiptsReply, ReplyContext
from atlas.edge.app import EdgeRoute
from atlas.edge.authentication import RequestAuthenticator
from atlas.edge.context import COUNT, RequestContext
from atlas.edge.error_responses import build_json_response
from atlas.edge.responses import build_export_reply, build_stream_reply

PAGE_MAX = 200


@dataclass(frozen=True, slots=True)
class ReceiptRoutes:
    """Routes that find one receipt, or list them."""

    authenticator: RequestAuthenticator
    receipts: ports.ReceiptQueries
    dataset_rid: str
    clock: ports.Clock

    def build_routes(self) -> list[EdgeRoute]:
        protect = self.authenticator.protect
        return [
            EdgeRoute(f"{API_PREFIX}/exports/{{id}}", GET=protect(self.get_receipt)),
            EdgeRoute(f"{API_PREFIX}/exports", GET=protect(self.get_receipts)),
        ]

    async def get_receipt(self, context: RequestContext, user: User, _receive: Receive) -> Response:
        id, reply_context = context.params["id"], self.build_reply_context(context)
        if id.startswith(identifiers.STREAM_ID_PREFIX):
            if parts := await self.receipts.list_parts(user, id):
                return build_json_response(build_stream_reply(parts, reply_context, id), 200)
        elif receipt := await self.receipts.find(user, id):
            return build_json_response(build_export_reply(receipt, reply_context), 200)
        raise NotFound("You have no receipt with this id.")

    async def get_receipts(
        self, context: RequestContext, user: User, _receive: Receive
    ) -> Response:
        query = QueryParams(context.query)
        limit = query.get("limit", "50")
        if not (COUNT.fullmatch(limit) and 1 <= int(limit) <= PAGE_MAX):
            raise Rejected(f"limit must be a number from 1 to {PAGE_MAX}.")
        key = query.get("key")
        page = await self.receipts.list_page(user, key, int(limit), query.get("cursor"))
        stream_id = identifiers.derive_stream_id(user, key) if key is not None else ""
        is_stream = bool(stream_id and await self.receipts.list_parts(user, stream_id))
        reply_context = self.build_reply_context(context)
        reply = ReceiptsReply(
            receipts=tuple(build_export_reply(each, reply_context) for each in page.receipts),
            next_cursor=page.next_cursor,
            receipt_id=stream_id if is_stream else msgspec.UNSET,
        )
        return build_json_response(reply, 200)

    def build_reply_context(self, context: RequestContext) -> ReplyContext:
        return ReplyContext(context.correlation_id, self.dataset_rid, self.clock())
