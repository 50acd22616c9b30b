"""The routes of an export: one, a batch, and their receipts."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import anyio
import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from atlas.core.errors import (
    AtlasError,
    Draining,
    FoundryError,
    KeyReused,
    NotFound,
    Rejected,
    TooManyChunks,
    Unauthenticated,
    Unavailable,
)
from atlas.core.events import CountsDiffer, RequestRead, Watch
from atlas.core.messages import Binding, Export, Head, Receipt, User
from atlas.core.ports import Clock, Receipts
from atlas.edge import body, wire
from atlas.edge.refusals import Refusals, correlation_id, json
from atlas.runtime import Address, Pending

ROOM = "/api/v1/healthkit"
PAGE_MAX = 200
WAIT_SECONDS_MAX = 50.0  # iOS sends again after 60
COUNT = re.compile(r"[0-9]{1,9}")
KEY = re.compile(r"[\x21-\x7e]{1,255}")
PREFERENCE = re.compile(r"\s*([A-Za-z-]+)\s*(?:=\s*\"?([^\";,]*)\"?)?")


@dataclass(frozen=True, slots=True)
class Terms:
    """What is set for the edge. Only a durable journal may answer 202."""

    dataset_rid: str
    reply_seconds: float
    body_bytes_max: int
    chunks_max: int
    is_durable: bool


@dataclass(frozen=True, slots=True)
class Exports:
    """The routes, and the actors behind them."""

    users: Address[str, User]
    exports: Address[Export, Pending[Receipt]]
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
        sent = await body.read(request, wire.ExportBody, self.terms.body_bytes_max)
        self.tell(request, user, [sent], is_batch=False)
        export = self.export(request, user, sent, ("unknown", 0, 1))
        outcome = await self.outcome(export, self.wait_seconds(request))
        self.compare(request, [outcome], [sent])
        reply = wire.export_reply(outcome, self.context(request), sent)
        return self.answer(reply, [outcome])

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
        return self.answer(reply, outcomes)

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
        user = await self.user(request)
        receipt = await self.receipts.find(user, request.path_params["id"])
        if receipt is None:
            raise NotFound("You have no receipt with this id.")
        return json(wire.export_reply(receipt, self.context(request)), 200)

    async def get_receipts(self, request: Request) -> Response:
        user = await self.user(request)
        asked = request.query_params
        limit = asked.get("limit", "50")
        if not (COUNT.fullmatch(limit) and 1 <= int(limit) <= PAGE_MAX):
            raise Rejected(f"limit is a number from 1 to {PAGE_MAX}.")
        page = await self.receipts.page(user, asked.get("key"), int(limit), asked.get("cursor"))
        context = self.context(request)
        shown = tuple(wire.export_reply(receipt, context) for receipt in page.receipts)
        return json(wire.ReceiptsReply(receipts=shown, next_cursor=page.next_cursor), 200)

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
        with self.deadline():
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
        )
        return Export(head, sent.rawhealthkit.encode("utf-8", "surrogatepass"))

    async def outcome(self, export: Export, wait_seconds: float) -> Receipt:
        """The receipt; committed, or, when that takes too long or we end, that it is safe.

        Raises FoundryError where there is no disk to be safe on.
        """
        began = anyio.current_time()
        with self.deadline():
            pending = await self.exports.ask(export)
        receipt = pending.now
        if not self.terms.is_durable:
            wait_seconds = self.terms.reply_seconds
        left = began + wait_seconds - anyio.current_time()
        with anyio.move_on_after(left), suppress(Unavailable):
            later = await pending.later.outcome()
            receipt = msgspec.structs.replace(later, replayed=receipt.replayed)
        if receipt.status != "committed" and not self.terms.is_durable:
            raise FoundryError("Not committed in time. The same request joins it.")
        return receipt

    async def outcomes(
        self, request: Request, exports: Sequence[Export | AtlasError]
    ) -> list[wire.Outcome]:
        """All side by side; one that fails does not disturb the others. Raises KeyReused."""
        found: dict[int, wire.Outcome] = {}
        wait_seconds = self.wait_seconds(request)

        async def keep(index: int, export: Export) -> None:
            try:
                found[index] = await self.outcome(export, wait_seconds)
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

    def wait_seconds(self, request: Request) -> float:
        """How long the sender wants to wait for the commit (RFC 7240)."""
        preferences = ",".join(request.headers.getlist("prefer"))
        found = {match[1].lower(): match[2] for match in PREFERENCE.finditer(preferences)}
        wait = found.get("wait") or ""
        if COUNT.fullmatch(wait):
            return min(float(wait), WAIT_SECONDS_MAX)
        return 0.0 if "respond-async" in found else self.terms.reply_seconds

    @contextmanager
    def deadline(self) -> Iterator[None]:
        """Backpressure ends here: a sender that cannot be served in time is told so."""
        try:
            with anyio.fail_after(self.terms.reply_seconds):
                yield
        except TimeoutError as error:
            raise Unavailable("There is no room in the flow now.") from error

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

    def answer(
        self,
        reply: wire.ExportReply | wire.BatchReply,
        outcomes: Sequence[wire.Outcome],
    ) -> Response:
        """200, 202 or 207, with the headers that tell a client what to do next."""
        status, headers = wire.status_of(outcomes), dict[str, str]()
        safe = [outcome for outcome in outcomes if isinstance(outcome, Receipt)]
        if safe and len(safe) == len(outcomes) and all(each.replayed for each in safe):
            headers["Idempotency-Replayed"] = "true"
        if status == 202:
            waits = next(each for each in safe if each.status != "committed")
            headers["Location"] = f"{ROOM}/exports/{waits.id}"
            headers["Retry-After"] = str(self.refusals.retry_after(Unavailable()))
        return json(reply, status, headers)


def parsed(chunk: msgspec.Raw) -> wire.ExportBody | AtlasError:
    """A chunk, or why it is none: it fails alone."""
    try:
        return body.parse(chunk, wire.ExportBody)
    except Rejected as error:
        return error


def idempotency_key(request: Request) -> str | None:
    """Raises Rejected for what cannot be a key."""
    key = request.headers.get("idempotency-key") or None  # an empty one is none
    if key is not None and not KEY.fullmatch(key):
        raise Rejected("Idempotency-Key has 1 to 255 printable ASCII characters and no space.")
    return key
