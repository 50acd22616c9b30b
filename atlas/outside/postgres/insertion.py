"""Inserts exports: many with one statement, or checked one by one in a transaction.

The latter is for exports with a key, and for those that may be stored already.

The transaction is committed with a message even if nothing changes, because a replay is an
answer that rests on a commit, which a standby may not have yet.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from asyncpg import Record

from atlas.core.errors import AtlasError
from atlas.core.messages import ExportMetadata, Receipt
from atlas.outside.journal import bindings
from atlas.outside.journal.capacity import CapacityLimits, build_full_error, count_excess
from atlas.outside.journal.entries import build_reduced_receipt, build_replayed, is_replaceable
from atlas.outside.postgres.bindings import read_bindings, store_bindings
from atlas.outside.postgres.database import COMMIT_MESSAGE, Database
from atlas.outside.postgres.recent import RecentExport
from atlas.outside.postgres.rows import COLUMNS, build_row
from atlas.outside.postgres.sealing import SealedColumns, SealedExport, Sealer

# Sorted by id: two statements that wait for each other would deadlock.
APPEND = """
    WITH given AS (
        SELECT * FROM unnest(
            $1::text[], $2::text[], $3::timestamptz[], $4::integer[], $5::integer[], $6::bigint[],
            $7::bigint[], $8::bytea[], $9::bytea[]
        ) given (id, sender, at, ingested, rejected, bytes, moment, label, sealed)
    ), kept AS (
        INSERT INTO @.export (id, sender, at, ingested, rejected, bytes, moment, label, is_doubtful)
        SELECT id, sender, at, ingested, rejected, bytes, moment, label, $10 FROM given
        WHERE NOT EXISTS (SELECT FROM @.digest WHERE digest.id = given.id)
        ORDER BY id ON CONFLICT DO NOTHING RETURNING number, id
    ), filled AS (
        INSERT INTO @.payload (number, sealed)
        SELECT kept.number, given.sealed FROM kept JOIN given USING (id)
    ), enqueued AS (
        INSERT INTO @.unpublished (number, rows, bytes)
        SELECT kept.number, given.ingested, given.bytes FROM kept JOIN given USING (id) WHERE $11
    )
    SELECT id, NULL::bigint AS exports, NULL::bigint AS bytes FROM kept
    UNION ALL
    SELECT NULL, sum(exports)::bigint, sum(bytes)::bigint FROM @.total
    WHERE status IN ('accepted', 'set_aside')
"""
FIND = f"SELECT {COLUMNS}, reason FROM @.export WHERE id = ANY($1)"
DIGESTS = "SELECT id, rid FROM @.digest WHERE id = ANY($1)"
STORED = """
    SELECT coalesce(sum(exports), 0)::bigint AS exports, coalesce(sum(bytes), 0)::bigint AS bytes,
        (SELECT drained FROM @.lease) AS drained
    FROM @.total WHERE status IN ('accepted', 'set_aside')
"""
DELETE = "DELETE FROM @.export WHERE id = ANY($1) AND status IN ('abandoned', 'set_aside')"
LATEST_MOMENT = """
    SELECT max(moment) FROM @.export WHERE sender = $1 AND moment BETWEEN $2 AND $2 + 60000
"""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class IntakeRequest:
    """An export to be stored; without `sealed`, only the question whether it is stored.

    `has_been_sent`: an earlier statement with it was lost, and may have stored it.
    """

    head: ExportMetadata
    id: str
    sender: str
    sealed: SealedExport | None = None
    has_been_sent: bool = False


@dataclass(slots=True)
class IntakeOutcome:
    """The receipts or errors by id, and the exports that these requests have stored."""

    results: dict[str, Receipt | AtlasError | None] = field(default_factory=dict)
    stored: list[RecentExport] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class IntakeWriter:
    """Stores exports in one transaction. No two of the requests have the same id.

    `is_streamed`: their rows are published to a stream, too.
    """

    sealer: Sealer
    limits: CapacityLimits
    is_streamed: bool = False

    async def write(self, database: Database, requests: Sequence[IntakeRequest]) -> IntakeOutcome:
        await database.fetch_value(COMMIT_MESSAGE)
        decision = await self._decide(database, requests)
        if decision.replaced:
            await database.execute(DELETE, decision.replaced)
        stored = await self._insert(database, decision)
        bound = [
            (each.sender, binding)
            for each in requests
            if isinstance(decision.results.get(each.id), Receipt)
            and each.id not in decision.reduced  # a binding refers to a whole receipt
            for binding in bindings.build_bindings(self.sealer.codec.cipher, each.head, each.id)
        ]
        await store_bindings(database, bound)
        recent = [
            RecentExport(
                sealed.list_columns(), [binding for _, binding in bound if binding.export == id]
            )
            for id, sealed in {**find_own(requests, decision), **stored}.items()
        ]
        return IntakeOutcome(decision.results, recent)

    async def _decide(
        self, database: Database, requests: Sequence[IntakeRequest]
    ) -> "IntakeDecision":
        cipher, decision = self.sealer.codec.cipher, IntakeDecision()
        names = {each.id: bindings.list_keys(cipher, each.head) for each in requests}
        bound = await read_bindings(
            database, [(each.sender, key) for each in requests for key in names[each.id]]
        )
        ids = [each.id for each in requests]
        found = {row["id"]: row for row in await database.fetch(FIND, ids)}
        digests = {row["id"]: row["rid"] for row in await database.fetch(DIGESTS, ids)}
        totals = await read_totals(database)
        for request in requests:
            try:
                own = [each for key in names[request.id] for each in bound[request.sender, key]]
                bindings.require_unused(cipher, request.head, request.id, own)
                row = found.get(request.id)
                is_new = self._decide_one(request, row, digests, totals, decision)
            except AtlasError as error:
                decision.results[request.id] = error
                continue
            if is_new or isinstance(decision.results.get(request.id), Receipt):
                for each in bindings.build_bindings(cipher, request.head, request.id):
                    bound[request.sender, each.key].append(each)
        return decision

    def _decide_one(
        self,
        request: IntakeRequest,
        row: Record | None,
        digests: dict[str, str | None],
        totals: "Totals",
        decision: "IntakeDecision",
    ) -> bool:
        """Decide on one request. Return True if it is to be stored. Raises JournalFull."""
        if row is not None and not is_replaceable(build_row(row), row["reason"]):
            receipt = build_replayed(self.sealer.codec, build_row(row))
            decision.results[request.id] = choose_receipt(request, row, receipt)
            return False
        if request.sealed is None:
            decision.results[request.id] = None
            return False
        if request.id in digests:
            receipt = build_reduced_receipt(request.sealed.export, digests[request.id])
            decision.results[request.id] = receipt
            decision.reduced.add(request.id)
            return False
        totals.take(self.limits, request.sealed.export.table.size)
        if row is not None:
            decision.replaced.append(request.id)
        decision.new.append(request)
        return True

    async def _insert(
        self, database: Database, decision: "IntakeDecision"
    ) -> dict[str, SealedExport]:
        """Store the new exports, and return them. A path that is taken is moved."""
        stored = dict[str, SealedExport]()
        waiting = {each.id: each for each in decision.new}
        exports = {each.id: each.sealed for each in decision.new if each.sealed is not None}
        while exports:
            rows = [each.list_columns() for each in exports.values()]
            kept = await append(database, rows, is_streamed=self.is_streamed)
            for id in kept.ids:
                stored[id] = exports.pop(id)
                decision.results[id] = stored[id].build_receipt()
            if exports:
                for row in await database.fetch(FIND, list(exports)):  # another replica stored it
                    del exports[row["id"]]
                    receipt = build_replayed(self.sealer.codec, build_row(row))
                    decision.results[row["id"]] = choose_receipt(waiting[row["id"]], row, receipt)
                exports = await self._move(database, exports)
                for id, moved in exports.items():
                    waiting[id].sealed = moved  # to be recognized if the answer is lost
        return stored

    async def _move(
        self, database: Database, exports: dict[str, SealedExport]
    ) -> dict[str, SealedExport]:
        """Give each export a path behind the latest one of its sender."""
        moved, latest = dict[str, SealedExport](), dict[str, int]()
        for id, sealed in exports.items():
            sender = sealed.fixed.user
            if sender not in latest:
                taken = await database.fetch_value(LATEST_MOMENT, sender, sealed.moment)
                latest[sender] = sealed.moment if taken is None else taken
            latest[sender] = max(latest[sender], sealed.moment) + 1
            moved[id] = self.sealer.move(sealed, EPOCH + timedelta(milliseconds=latest[sender]))
        return moved


@dataclass(slots=True)
class IntakeDecision:
    """The results that are known before anything is stored, and the exports to be stored.

    `reduced`: the ids of those of which only the digest is left.
    """

    results: dict[str, Receipt | AtlasError | None] = field(default_factory=dict)
    new: list[IntakeRequest] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    reduced: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Totals:
    """The uncommitted exports, and the bytes that are committed per second."""

    exports: int
    bytes: int
    drained: float

    def take(self, limits: CapacityLimits, size: int) -> None:
        """Add an export. Raises JournalFull if it does not fit."""
        excess = count_excess(limits, self.exports, self.bytes, size)
        if excess is not None:
            raise build_full_error(limits, excess, self.drained)
        self.exports += 1
        self.bytes += size


@dataclass(frozen=True, slots=True)
class Appended:
    """The ids of exports that were stored now, and the totals before."""

    ids: list[str]
    exports: int
    bytes: int


async def append(
    database: Database,
    exports: Sequence[SealedColumns],
    *,
    is_doubtful: bool = False,
    is_streamed: bool = False,
) -> Appended:
    """Store exports whose ids and paths are free; leave the others out. In one statement."""
    columns = list(zip(*exports, strict=True))
    *rows, totals = await database.fetch(APPEND, *columns, is_doubtful, is_streamed)
    return Appended([row["id"] for row in rows], totals["exports"], totals["bytes"])


async def read_totals(database: Database) -> Totals:
    row = await database.fetch_row(STORED)
    return Totals(*row) if row is not None else Totals(0, 0, 0.0)


def find_own(
    requests: Sequence[IntakeRequest], decision: IntakeDecision
) -> dict[str, SealedExport]:
    """Return the exports that an earlier statement, whose answer was lost, has stored."""
    own = {}
    for each in requests:
        receipt = decision.results.get(each.id)
        if isinstance(receipt, Receipt) and not receipt.replayed and each.sealed is not None:
            own[each.id] = each.sealed
    return own


def choose_receipt(request: IntakeRequest, row: Record, replayed: Receipt) -> Receipt:
    """Return `replayed`, or a first receipt if this request itself has stored the export."""
    sealed = request.sealed
    if sealed is not None and request.has_been_sent and sealed.label == row["label"]:
        return sealed.build_receipt()
    return replayed
