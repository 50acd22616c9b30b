"""The routes of an export: one, a batch, and their receipts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import anyio
import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from atlas.core import names
from atlas.core.errors import (
    AtlasError,
    Draining,
    KeyReused,
    NotFound,
    Rejected,
    TooManyChunks,
    Unauthenticated,
)
from atlas.core.events import CountsDiffer, RequestRead, Watch
from atlas.core.messages import Binding, Export, Head, Receipt, User
from atlas.core.ports import Clock, Receipts
from atlas.edge import body, wire
from atlas.edge.answers import ROOM, answer
from atlas.edge.refusals import Refusals, correlation_id, json
from atlas.edge.streams import Streams
from atlas.edge.waiting import COUNT, Waiting, idempotency_key
from atlas.runtime import Address

PAGE_MAX = 200


@dataclass(frozen=True, slots=True)
class Terms:
    """What is set for the edge."""

    dataset_rid: str
    body_bytes_max: int
    chunks_max: int


@dataclass(frozen=True, slots=True)
class Exports:
    """The routes, and the actors behind them."""

    users: Address[str, User]
    flow: Waiting
    streams: Streams
    receipts: Receipts
    terms: Terms
    refusals: Refusals
    now: Clock
    watch: Watch
    is_draining: Callable[[], bool]

    def routes(self) -> list[Route]:
        return [
            Route(f"{ROOM}/export", self.post_export, methods=["POST"]),
            Route(f"{ROOM}/ingest", self.post_export, methods=["POST"]),
            Route(f"{ROOM}/export/batch", self.post_batch, methods=["POST"]),
            Route(f"{ROOM}/exports/{{id}}", self.get_receipt, methods=["GET"]),
            Route(f"{ROOM}/exports", self.get_receipts, methods=["GET"]),
        ]

    async def post_export(self, request: Request) -> Response:
        user = await self.sender(request)
        if body.media(request) == body.NDJSON:
            return await self.streams.post(request, user)
        sent = await body.read(request, wire.ExportBody, self.terms.body_bytes_max)
        self.tell(request, user, [sent], is_batch=False)
        export = self.export(request, user, sent, ("unknown", 0, 1))
        outcome = await self.flow.outcome(export, self.flow.wait_seconds(request))
        self.compare(request, [outcome], [sent])
        reply = wire.export_reply(outcome, self.context(request), sent)
        return answer(reply, [outcome], self.refusals)

    async def post_batch(self, request: Request) -> Response:
        user = await self.sender(request)
        chunks = (await body.read(request, wire.BatchBody, self.terms.body_bytes_max)).chunks
        if not chunks:
            raise Rejected("chunks is empty.")
        if len(chunks) > self.terms.chunks_max:
            raise TooManyChunks(f"A batch may have {self.terms.chunks_max} chunks.")
        bodies = [parsed(chunk) for chunk in chunks]
        self.tell(request, user, bodies, is_batch=True)
        exports = [
            self.export(request, user, each, ("iPhone", index, len(chunks)))
            if isinstance(each, wire.ExportBody)
            else each
            for index, each in enumerate(bodies)
        ]
        outcomes = await self.outcomes(request, exports)
        sent = [each if isinstance(each, wire.ExportBody) else None for each in bodies]
        self.compare(request, outcomes, sent)
        reply = wire.batch_reply(outcomes, sent, self.context(request))
        for outcome in outcomes:
            if isinstance(outcome, AtlasError):
                self.refusals.tell(request, outcome)
        if error := wire.batch_error(outcomes):
            return self.refusals.response(request, error, reply)
        return answer(reply, outcomes, self.refusals)

    def compare(
        self,
        request: Request,
        outcomes: Sequence[wire.Outcome],
        bodies: Sequence[wire.ExportBody | None],
    ) -> None:
        """Is it what the sender thinks that he has sent?"""
        for outcome, sent in zip(outcomes, bodies, strict=True):
            if isinstance(outcome, Receipt) and sent and sent.warnings(outcome.received):
                self.watch(CountsDiffer(outcome.id, correlation_id(request), outcome.received))

    async def get_receipt(self, request: Request) -> Response:
        user, id = await self.user(request), request.path_params["id"]
        context = self.context(request)
        if id.startswith(names.WHOLE):
            if parts := await self.receipts.parts(user, id):
                return json(wire.stream_reply(parts, context, id), 200)
        elif receipt := await self.receipts.find(user, id):
            return json(wire.export_reply(receipt, context), 200)
        raise NotFound("You have no receipt with this id.")

    async def get_receipts(self, request: Request) -> Response:
        user = await self.user(request)
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

    async def sender(self, request: Request) -> User:
        """Who sends, while anything new is taken at all."""
        if self.is_draining():
            raise Draining
        return await self.user(request)

    async def user(self, request: Request) -> User:
        """Asked before the body is read: a stranger's megabytes stay in the socket."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Unauthenticated
        with self.flow.deadline():
            user = await self.users.ask(token.strip())
        request.scope["user"] = user.sub
        return user

    def export(
        self, request: Request, user: User, sent: wire.ExportBody, place: tuple[str, int, int]
    ) -> Export:
        """One export of a request, in its place: default device, position, how many there are."""
        default_device, position, length = place
        key = idempotency_key(request)
        head = Head(
            user=user,
            device=sent.text("device") or default_device,
            timestamp=sent.text("timestamp"),
            correlation_id=correlation_id(request),
            binding=None if key is None else Binding(key, position, length),
            trace=request.scope["trace"],
        )
        return Export(head, sent.rawhealthkit.encode("utf-8", "surrogatepass"))

    async def outcomes(
        self, request: Request, exports: Sequence[Export | AtlasError]
    ) -> list[wire.Outcome]:
        """All side by side; one that fails does not disturb the others. Raises KeyReused."""
        found: dict[int, wire.Outcome] = {}
        wait_seconds = self.flow.wait_seconds(request)

        async def keep(index: int, export: Export) -> None:
            try:
                found[index] = await self.flow.outcome(export, wait_seconds)
            except AtlasError as error:
                found[index] = error

        async with anyio.create_task_group() as tasks:
            for index, export in enumerate(exports):
                if isinstance(export, AtlasError):
                    found[index] = export
                else:
                    tasks.start_soon(keep, index, export)
        outcomes = [found[index] for index in range(len(exports))]
        for outcome in outcomes:
            if isinstance(outcome, KeyReused):
                raise outcome
        return outcomes

    def context(self, request: Request) -> wire.Context:
        return wire.Context(correlation_id(request), self.terms.dataset_rid, self.now())

    def tell(
        self,
        request: Request,
        user: User,
        sent: Sequence[wire.ExportBody | AtlasError],
        *,
        is_batch: bool,
    ) -> None:
        size = sum(len(each.rawhealthkit) for each in sent if isinstance(each, wire.ExportBody))
        self.watch(RequestRead(correlation_id(request), user.sub, len(sent), size, is_batch))


def parsed(chunk: msgspec.Raw) -> wire.ExportBody | AtlasError:
    """A chunk, or why it is none: it fails alone."""
    try:
        return body.parse(chunk, wire.ExportBody)
    except Rejected as error:
        return error
