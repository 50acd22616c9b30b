"""The routes of an export: one, and a batch. Streams have a file of their own."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import anyio
import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from atlas.core.errors import AtlasError, KeyReused
from atlas.core.events import CountsDiffer, RequestRead, Watch
from atlas.core.messages import Binding, Export, Head, Receipt, User
from atlas.core.ports import Clock
from atlas.edge import wire
from atlas.edge.answers import ROOM, answer
from atlas.edge.bodies import Bodies, body
from atlas.edge.bodies.batches import Batches
from atlas.edge.refusals import Refusals, correlation_id
from atlas.edge.senders import Senders
from atlas.edge.streams import Streams
from atlas.edge.waiting import Waiting, idempotency_key
from atlas.runtime import Budget, Pending

BYTES_AT_ONCE = 4 * 1024 * 1024  # of the chunks of a batch; the others stay in its one buffer


@dataclass(slots=True)
class Batch:
    """What has become of its chunks so far, and what was sent along with each."""

    request: Request
    user: User
    key: str | None
    accepted: list[Pending[Receipt] | AtlasError]
    said: list[wire.Said | None]
    room: Budget = field(default_factory=lambda: Budget(BYTES_AT_ONCE))


@dataclass(frozen=True, slots=True)
class Exports:
    """The routes, and the actors behind them."""

    senders: Senders
    bodies: Bodies
    flow: Waiting
    streams: Streams
    batches: Batches
    refusals: Refusals
    dataset_rid: str
    now: Clock
    watch: Watch

    def routes(self) -> list[Route]:
        return [
            Route(f"{ROOM}/export", self.post_export, methods=["POST"]),
            Route(f"{ROOM}/ingest", self.post_export, methods=["POST"]),
            Route(f"{ROOM}/export/batch", self.post_batch, methods=["POST"]),
        ]

    async def post_export(self, request: Request) -> Response:
        user = await self.senders.with_export(request)
        if body.media(request) == body.NDJSON:
            return await self.streams.post(request, user)
        pending, said, until = await self.accept(request, user)
        outcome = await self.flow.committed(pending, until)
        self.compare(request, [outcome], [said])
        reply = wire.export_reply(outcome, self.context(request), said)
        return answer(reply, [outcome], self.refusals)

    async def accept(
        self, request: Request, user: User
    ) -> tuple[Pending[Receipt], wire.Said, float]:
        """A safe export, what was sent along with it, and until when its sender waits.

        Of the body nothing is held any more then.
        """
        key = idempotency_key(request)
        async with self.bodies.json(request, user, wire.ExportBody) as (sent, size):
            until = anyio.current_time() + self.flow.wait_seconds(request)
            self.tell(request, user, 1, size)
            said = sent.said()
            head = self.head(request, user, said, "unknown", bound(key, 0, 1))
            return await self.flow.accepted(Export(head, sent.text())), said, until

    async def post_batch(self, request: Request) -> Response:
        user = await self.senders.with_export(request)
        batch, until = await self.accept_all(request, user)
        outcomes = [await self.flow.outcome(each, until) for each in batch.accepted]
        for outcome in outcomes:
            if isinstance(outcome, KeyReused):
                raise outcome
        self.compare(request, outcomes, batch.said)
        reply = wire.batch_reply(outcomes, batch.said, self.context(request))
        for outcome in outcomes:
            if isinstance(outcome, AtlasError):
                self.refusals.tell(request, outcome)
        if error := wire.batch_error(outcomes):
            return self.refusals.response(request, error, reply)
        return answer(reply, outcomes, self.refusals)

    async def accept_all(self, request: Request, user: User) -> tuple[Batch, float]:
        """All side by side, a few at a time; one that fails does not disturb the others."""
        key = idempotency_key(request)
        async with self.bodies.json(request, user, self.batches.kind) as (sent, size):
            until = anyio.current_time() + self.flow.wait_seconds(request)
            chunks = self.batches.chunks(sent)
            length = len(chunks)
            batch = Batch(request, user, key, [AtlasError()] * length, [None] * length)
            self.tell(request, user, len(chunks), size, is_batch=True)
            first = 0 if key is None else await self.keep_first(batch, chunks)
            async with anyio.create_task_group() as tasks:
                for index, chunk in enumerate(chunks[first:], first):
                    tasks.start_soon(self.keep, batch, index, chunk)
        return batch, until

    async def keep_first(self, batch: Batch, chunks: Sequence[msgspec.Raw]) -> int:
        """Of two batches under one key at once each could refuse the other: the first chunk that
        binds it goes alone. How many have gone; raises KeyReused.
        """
        for index, chunk in enumerate(chunks):
            await self.keep(batch, index, chunk)
            accepted = batch.accepted[index]
            if isinstance(accepted, KeyReused):
                raise accepted
            if not isinstance(accepted, AtlasError):
                return index + 1
        return len(chunks)

    async def keep(self, batch: Batch, index: int, chunk: msgspec.Raw) -> None:
        binding = bound(batch.key, index, len(batch.said))
        async with batch.room.taken(memoryview(chunk).nbytes):
            try:
                sent = body.parse(chunk, wire.ExportBody)
                batch.said[index] = said = sent.said()
                head = self.head(batch.request, batch.user, said, "iPhone", binding)
                batch.accepted[index] = await self.flow.accepted(Export(head, sent.text()))
            except AtlasError as error:
                batch.accepted[index] = error

    def compare(
        self,
        request: Request,
        outcomes: Sequence[wire.Outcome],
        said: Sequence[wire.Said | None],
    ) -> None:
        """Is it what the sender thinks that he has sent?"""
        for outcome, each in zip(outcomes, said, strict=True):
            if isinstance(outcome, Receipt) and each and each.warnings(outcome.received):
                self.watch(CountsDiffer(outcome.id, correlation_id(request), outcome.received))

    def head(
        self,
        request: Request,
        user: User,
        said: wire.Said,
        default_device: str,
        binding: Binding | None,
    ) -> Head:
        return Head(
            user=user,
            device=said.device or default_device,
            timestamp=said.timestamp,
            correlation_id=correlation_id(request),
            binding=binding,
            trace=request.scope["trace"],
        )

    def context(self, request: Request) -> wire.Context:
        return wire.Context(correlation_id(request), self.dataset_rid, self.now())

    def tell(
        self, request: Request, user: User, exports: int, bytes: int, *, is_batch: bool = False
    ) -> None:
        self.watch(RequestRead(correlation_id(request), user.sub, exports, bytes, is_batch))


def bound(key: str | None, position: int, length: int) -> Binding | None:
    """The place of an export under the key of its request, if that has one."""
    return None if key is None else Binding(key, position, length)
