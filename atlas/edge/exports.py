"""The routes for one export and for a batch. Streams are in `streams.py`."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec
from starlette.responses import Response
from starlette.types import Receive

from atlas.core.errors import AtlasError, KeyReused
from atlas.core.events import CountsDiffer, RequestRead, Watch
from atlas.core.messages import Binding, Export, Head, Receipt, User
from atlas.core.names import API_PREFIX
from atlas.core.ports import Clock
from atlas.edge import wire
from atlas.edge.app import Path
from atlas.edge.authentication import RequestAuthenticator
from atlas.edge.batches import Batches
from atlas.edge.body_reader import BodyReader, parse_export
from atlas.edge.context import NDJSON, RequestContext
from atlas.edge.error_responses import ErrorResponses
from atlas.edge.flow_client import FlowClient
from atlas.edge.responses import batch_error, batch_reply, export_reply, respond
from atlas.edge.streams import Streams
from atlas.runtime import Acknowledgement, for_each_concurrently

CHUNKS_AT_ONCE = 16  # of a batch; the others stay in its buffer


@dataclass(slots=True)
class BatchState:
    """The outcomes and declared fields of the chunks of a batch so far."""

    context: RequestContext
    user: User
    key: str | None
    outcomes: list[Acknowledgement[Receipt] | AtlasError]
    declared: list[wire.DeclaredFields | None]


@dataclass(frozen=True, slots=True)
class Exports:
    """Routes that hand exports to the flow, and answer with receipts."""

    authenticator: RequestAuthenticator
    bodies: BodyReader
    flow: FlowClient
    streams: Streams
    batches: Batches
    errors: ErrorResponses
    dataset_rid: str
    now: Clock
    watch: Watch

    def paths(self) -> list[Path]:
        export = self.authenticator.protect_upload(self.post_export)
        batch = self.authenticator.protect_upload(self.post_batch)
        return [
            Path(f"{API_PREFIX}/export", POST=export),
            Path(f"{API_PREFIX}/ingest", POST=export),
            Path(f"{API_PREFIX}/export/batch", POST=batch),
        ]

    async def post_export(self, context: RequestContext, user: User, receive: Receive) -> Response:
        if context.media_type == NDJSON:
            return await self.streams.post(context, user, receive)
        pending, declared, until = await self.submit(context, user, receive)
        outcome = await self.flow.wait_for_commit(pending, until)
        self.check_counts(context, [outcome], [declared])
        reply = export_reply(outcome, self.reply_context(context), declared)
        return respond(reply, [outcome], self.errors)

    async def submit(
        self, context: RequestContext, user: User, receive: Receive
    ) -> tuple[Acknowledgement[Receipt], wire.DeclaredFields, float]:
        """Submit one export. Returns its acknowledgement, its declared fields, and until when its
        sender waits. Nothing of the body is held any more then.
        """
        key = context.idempotency_key()
        with self.bodies.reserve_json(user) as reservation:
            sent, size = await self.bodies.read_json(context, receive, reservation, parse_export)
            until = self.flow.deadline(context)
            self.watch(RequestRead(context.correlation_id, user.sub, 1, size, False))
            declared = sent.declared_fields()
            head = head_of(context, user, declared, "unknown", idempotency_slot(key, 0, 1))
            pending = self.flow.submit(Export(head, sent.text()))
            del sent  # the flow keeps what it needs of it
            return await pending, declared, until

    async def post_batch(self, context: RequestContext, user: User, receive: Receive) -> Response:
        batch, until = await self.submit_all(context, user, receive)
        outcomes = [await self.flow.wait_for_outcome(each, until) for each in batch.outcomes]
        for outcome in outcomes:
            if isinstance(outcome, KeyReused):
                raise outcome
        self.check_counts(context, outcomes, batch.declared)
        reply = batch_reply(outcomes, batch.declared, self.reply_context(context))
        for outcome in outcomes:
            if isinstance(outcome, AtlasError):
                self.errors.emit(context, outcome, user)
        if error := batch_error(outcomes):
            return self.errors.respond(context, error, user, reply)
        return respond(reply, outcomes, self.errors)

    async def submit_all(
        self, context: RequestContext, user: User, receive: Receive
    ) -> tuple[BatchState, float]:
        """Submit the chunks of a batch, a few at a time. A failure does not affect the others."""
        key = context.idempotency_key()
        with self.bodies.reserve_json(user) as reservation:
            parse = self.batches.parse
            sent, size = await self.bodies.read_json(context, receive, reservation, parse)
            until = self.flow.deadline(context)
            chunks = self.batches.chunks(sent)
            length = len(chunks)
            batch = BatchState(context, user, key, [AtlasError()] * length, [None] * length)
            self.watch(RequestRead(context.correlation_id, user.sub, length, size, True))
            rest: Iterable[tuple[int, msgspec.Raw]] = enumerate(chunks)
            if key is not None:
                rest = await self.submit_first(batch, chunks)

            async def submit(indexed: tuple[int, msgspec.Raw]) -> None:
                await self.submit_chunk(batch, *indexed)

            await for_each_concurrently(submit, rest, CHUNKS_AT_ONCE)
        return batch, until

    async def submit_first(
        self, batch: BatchState, chunks: Sequence[msgspec.Raw]
    ) -> Iterable[tuple[int, msgspec.Raw]]:
        """Submit chunks one by one until one is accepted and binds the key. Returns the others.

        If they were submitted together, two batches under one key could refuse each other. Raises
        KeyReused.
        """
        rest = iter(enumerate(chunks))
        for index, chunk in rest:
            await self.submit_chunk(batch, index, chunk)
            outcome = batch.outcomes[index]
            if isinstance(outcome, KeyReused):
                raise outcome
            if not isinstance(outcome, AtlasError):
                break
        return rest

    async def submit_chunk(self, batch: BatchState, index: int, chunk: msgspec.Raw) -> None:
        slot = idempotency_slot(batch.key, index, len(batch.declared))
        try:
            sent = parse_export(chunk)
            batch.declared[index] = declared = sent.declared_fields()
            head = head_of(batch.context, batch.user, declared, "iPhone", slot)
            pending = self.flow.submit(Export(head, sent.text()))
            del sent
            batch.outcomes[index] = await pending
        except AtlasError as error:
            batch.outcomes[index] = error.detached()

    def check_counts(
        self,
        context: RequestContext,
        outcomes: Sequence[wire.Outcome],
        declared: Sequence[wire.DeclaredFields | None],
    ) -> None:
        """Emit CountsDiffer if the sender has counted other lines than were received."""
        for outcome, each in zip(outcomes, declared, strict=True):
            if isinstance(outcome, Receipt) and each and each.warnings(outcome.received):
                self.watch(CountsDiffer(outcome.id, context.correlation_id, outcome.received))

    def reply_context(self, context: RequestContext) -> wire.Context:
        return wire.Context(context.correlation_id, self.dataset_rid, self.now())


def head_of(
    context: RequestContext,
    user: User,
    declared: wire.DeclaredFields,
    default_device: str,
    slot: Binding | None,
) -> Head:
    return Head(
        user=user,
        device=declared.device or default_device,
        timestamp=declared.timestamp,
        correlation_id=context.correlation_id,
        binding=slot,
        trace=context.trace,
    )


def idempotency_slot(key: str | None, position: int, length: int) -> Binding | None:
    """The position of an export under the Idempotency-Key of its request, if it has one."""
    return None if key is None else Binding(key, position, length)
