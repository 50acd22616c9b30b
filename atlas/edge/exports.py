"""The routes of uploads: single exports and batches. Streams are in `streams.py`."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import msgspec
from starlette.responses import Response
from starlette.types import Receive

from atlas.core.errors import AtlasError, IdempotencyKeyReused
from atlas.core.events import EventSink, RecordCountMismatch, RequestRead
from atlas.core.identifiers import API_PREFIX
from atlas.core.messages import ExportMetadata, IdempotencySlot, RawExport, Receipt, User
from atlas.core.ports import Clock
from atlas.edge.api_types import DeclaredFields, Outcome, ReplyContext
from atlas.edge.app import EdgeRoute
from atlas.edge.authentication import RequestAuthenticator
from atlas.edge.batches import BatchParser
from atlas.edge.body_reader import BodyReader, parse_export
from atlas.edge.context import NDJSON, RequestContext
from atlas.edge.error_responses import ErrorResponses
from atlas.edge.flow_client import FlowClient
from atlas.edge.responses import (
    build_batch_reply,
    build_export_reply,
    build_response,
    find_batch_error,
)
from atlas.edge.streams import StreamRoute
from atlas.runtime import Acknowledgement, for_each_concurrently

CHUNKS_AT_ONCE = 16  # of one batch; the others stay in its buffer


@dataclass(slots=True)
class BatchState:
    """The outcomes and declared fields of the chunks of a batch so far."""

    context: RequestContext
    user: User
    key: str | None
    outcomes: list[Acknowledgement[Receipt] | AtlasError]
    declared: list[DeclaredFields | None]


@dataclass(frozen=True, slots=True)
class ExportRoutes:
    """Routes that submit exports to the flow and respond with receipts."""

    authenticator: RequestAuthenticator
    bodies: BodyReader
    flow: FlowClient
    streams: StreamRoute
    batches: BatchParser
    errors: ErrorResponses
    dataset_rid: str
    clock: Clock
    emit: EventSink

    def build_routes(self) -> list[EdgeRoute]:
        export = self.authenticator.protect_upload(self.post_export)
        batch = self.authenticator.protect_upload(self.post_batch)
        return [
            EdgeRoute(f"{API_PREFIX}/export", POST=export),
            EdgeRoute(f"{API_PREFIX}/ingest", POST=export),
            EdgeRoute(f"{API_PREFIX}/export/batch", POST=batch),
        ]

    async def post_export(self, context: RequestContext, user: User, receive: Receive) -> Response:
        if context.media_type == NDJSON:
            return await self.streams.post(context, user, receive)
        acknowledgement, declared, until = await self.submit(context, user, receive)
        outcome = await self.flow.wait_for_commit(acknowledgement, until)
        self.check_counts(context, [outcome], [declared])
        reply = build_export_reply(outcome, self.build_reply_context(context), declared)
        return build_response(reply, [outcome], self.errors)

    async def submit(
        self, context: RequestContext, user: User, receive: Receive
    ) -> tuple[Acknowledgement[Receipt], DeclaredFields, float]:
        """Submit one export, and release its body.

        Returns the acknowledgement, the declared fields, and the deadline for the commit.
        """
        slot = build_idempotency_slot(context.parse_idempotency_key(), 0, 1)
        with self.bodies.reserve_json(user) as reservation:
            parsed, size = await self.bodies.read_json(context, receive, reservation, parse_export)
            until = self.flow.compute_deadline(context)
            self.emit(RequestRead(context.correlation_id, user.sub, 1, size, False))
            declared = parsed.get_declared_fields()
            metadata = build_metadata(context, user, declared, "unknown", slot)
            acknowledgement = self.flow.submit(RawExport(metadata, parsed.get_text()))
            del parsed  # releases the body as soon as the flow has decoded it
            return await acknowledgement, declared, until

    async def post_batch(self, context: RequestContext, user: User, receive: Receive) -> Response:
        batch, until = await self.submit_all(context, user, receive)
        outcomes = [await self.flow.wait_for_outcome(each, until) for each in batch.outcomes]
        for outcome in outcomes:
            if isinstance(outcome, IdempotencyKeyReused):
                raise outcome
        self.check_counts(context, outcomes, batch.declared)
        reply = build_batch_reply(outcomes, batch.declared, self.build_reply_context(context))
        for outcome in outcomes:
            if isinstance(outcome, AtlasError):
                self.errors.emit_refusal(context, outcome, user)
        if error := find_batch_error(outcomes):
            return self.errors.respond(context, error, user, reply)
        return build_response(reply, outcomes, self.errors)

    async def submit_all(
        self, context: RequestContext, user: User, receive: Receive
    ) -> tuple[BatchState, float]:
        """Submit the chunks of a batch, a few at a time. A failure does not affect the others."""
        key = context.parse_idempotency_key()
        with self.bodies.reserve_json(user) as reservation:
            parsed, size = await self.bodies.read_json(
                context, receive, reservation, self.batches.parse
            )
            until = self.flow.compute_deadline(context)
            chunks = self.batches.split_chunks(parsed)
            length = len(chunks)
            batch = BatchState(context, user, key, [AtlasError()] * length, [None] * length)
            self.emit(RequestRead(context.correlation_id, user.sub, length, size, True))
            rest: Iterable[tuple[int, msgspec.Raw]] = enumerate(chunks)
            if key is not None:
                rest = await self.submit_first(batch, chunks)
            submit = partial(self.submit_chunk, batch)
            await for_each_concurrently(submit, rest, CHUNKS_AT_ONCE)
        return batch, until

    async def submit_first(
        self, batch: BatchState, chunks: Sequence[msgspec.Raw]
    ) -> Iterable[tuple[int, msgspec.Raw]]:
        """Submit chunks one by one until one is accepted and binds the key. Returns the rest.

        If all were submitted at once, two batches with one key could refuse each other. Raises
        IdempotencyKeyReused.
        """
        rest = iter(enumerate(chunks))
        for index, chunk in rest:
            await self.submit_chunk(batch, (index, chunk))
            outcome = batch.outcomes[index]
            if isinstance(outcome, IdempotencyKeyReused):
                raise outcome
            if not isinstance(outcome, AtlasError):
                break
        return rest

    async def submit_chunk(self, batch: BatchState, indexed: tuple[int, msgspec.Raw]) -> None:
        index, chunk = indexed
        slot = build_idempotency_slot(batch.key, index, len(batch.declared))
        try:
            parsed = parse_export(chunk)
            batch.declared[index] = declared = parsed.get_declared_fields()
            metadata = build_metadata(batch.context, batch.user, declared, "iPhone", slot)
            acknowledgement = self.flow.submit(RawExport(metadata, parsed.get_text()))
            del parsed
            batch.outcomes[index] = await acknowledgement
        except AtlasError as error:
            batch.outcomes[index] = error.detach()

    def check_counts(
        self,
        context: RequestContext,
        outcomes: Sequence[Outcome],
        declared: Sequence[DeclaredFields | None],
    ) -> None:
        """Emit RecordCountMismatch if a declared count differs from the lines received."""
        for outcome, fields in zip(outcomes, declared, strict=True):
            if isinstance(outcome, Receipt) and fields and fields.find_warnings(outcome.received):
                self.emit(RecordCountMismatch(outcome.id, context.correlation_id, outcome.received))

    def build_reply_context(self, context: RequestContext) -> ReplyContext:
        return ReplyContext(context.correlation_id, self.dataset_rid, self.clock())


def build_metadata(
    context: RequestContext,
    user: User,
    declared: DeclaredFields,
    default_device: str,
    slot: IdempotencySlot | None,
) -> ExportMetadata:
    return ExportMetadata(
        user=user,
        device=declared.device or default_device,
        timestamp=declared.timestamp,
        correlation_id=context.correlation_id,
        binding=slot,
        trace=context.trace,
    )


def build_idempotency_slot(key: str | None, position: int, length: int) -> IdempotencySlot | None:
    """Build the position of an export under the Idempotency-Key of its request, if any."""
    return None if key is None else IdempotencySlot(key, position, length)
