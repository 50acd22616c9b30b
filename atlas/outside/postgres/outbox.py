"""Hands exports to the uploader; each step of the commit protocol is one fenced transaction."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress

import msgspec

from atlas.core import identifiers
from atlas.core.commits import Backlog, Conclusion, Intent, Lane, WorkInHand
from atlas.core.errors import CorruptEntry
from atlas.core.messages import (
    BranchSnapshot,
    CommitGroup,
    File,
    FileFormat,
    GroupLimits,
    Receipt,
    TransactionKind,
    User,
)
from atlas.outside.journal import call_order
from atlas.outside.journal.entries import group_by_file
from atlas.outside.postgres import claims, conclusions
from atlas.outside.postgres.database import Database
from atlas.outside.postgres.lease import WorkInLease
from atlas.outside.postgres.reconciliation import PostgresReconciliation
from atlas.outside.postgres.rows import COLUMNS, build_claimed_row, build_row

SELECT_CLAIMED = f"""
    SELECT {COLUMNS}, isolation, tries FROM @.export WHERE number = ANY($1) ORDER BY number
"""
CLAIMED_BY_ID = f"""
    SELECT {COLUMNS}, isolation, tries FROM @.export
    WHERE number = ANY($1) AND id = ANY($2) ORDER BY number
"""
CLAIMED_IDS = "SELECT number, id FROM @.export WHERE number = ANY($1)"
CLAIMED_NUMBERS = "SELECT numbers FROM @.lease"
READ = f"""
    SELECT {COLUMNS}, (SELECT sealed FROM @.payload WHERE payload.number = export.number)
    FROM @.export WHERE id = ANY($1) ORDER BY number
"""
RECORD_FILE = """
    UPDATE @.export SET file = $3, file_bytes = $4 WHERE number = ANY($1) AND id = ANY($2)
"""
# With the condition of the index `filed`: no parameter implies it
IS_SHARED_PATH_TAKEN = """
    SELECT EXISTS (SELECT FROM @.export WHERE file = $1 AND file LIKE '%/%' AND id <> ALL($2))
"""
IS_MOMENT_TAKEN = "SELECT EXISTS (SELECT FROM @.export WHERE sender = $1 AND moment = $2)"
MOVE = "UPDATE @.export SET moment = $2, label = $3 WHERE id = $1"
RECORD_INTENT = """
    INSERT INTO @.intent (epoch, kind, head, at) VALUES ($1, $2, $3, $4)
    ON CONFLICT (epoch, kind, head) DO UPDATE SET at = $4, noted_at = clock_timestamp()
"""
READ_INTENTS = "SELECT kind, head, at FROM @.intent ORDER BY at"
# Those of earlier leaders stay: one that was frozen may still begin a transaction.
CLEAR_INTENTS = "DELETE FROM @.intent WHERE epoch = $1"
HAS_INTENT = "SELECT EXISTS (SELECT FROM @.intent WHERE epoch = $1)"
RECORD_OPEN = "UPDATE @.lease SET transaction = $1"
CONCLUDE = "UPDATE @.lease SET numbers = '{}', transaction = NULL, drained = $1"


class PostgresOutbox(PostgresReconciliation):
    """Implements `ports.Outbox`."""

    async def confirm_lead(self) -> None:
        await self._session.transact(self._lease.check, is_repeatable=True)

    async def read_backlog(self, limits: GroupLimits) -> Backlog:
        return await self._session.run(
            lambda database: claims.read_backlog(database, limits), is_repeatable=True
        )

    async def read_in_hand(self) -> WorkInHand:
        async def work(database: Database, in_hand: WorkInLease) -> WorkInHand:
            group = await self._read_claimed(database)
            return WorkInHand(group, in_hand.transaction, await read_intents(database))

        return await self._run_fenced(work, is_repeatable=True)

    async def claim(
        self, limits: GroupLimits, snapshot: BranchSnapshot, lane: Lane
    ) -> CommitGroup | None:
        async def work(database: Database, in_hand: WorkInLease) -> CommitGroup | None:
            require_nothing_in_hand(in_hand)
            await claims.claim(database, limits, lane)
            group = await self._read_claimed(database)
            if group is not None:
                await self._record_intent(database, snapshot, "APPEND")
            return group

        return await self._run_fenced(work)

    async def record_intent(self, snapshot: BranchSnapshot, kind: TransactionKind) -> None:
        async def work(database: Database, in_hand: WorkInLease) -> None:
            require_nothing_in_hand(in_hand)
            await self._record_intent(database, snapshot, kind)

        await self._run_fenced(work)

    async def record_open(self, transaction: str, limits: GroupLimits) -> CommitGroup:
        async def work(database: Database, in_hand: WorkInLease) -> CommitGroup:
            if in_hand.transaction != transaction:
                has_intent = await database.fetch_value(HAS_INTENT, self._lease.epoch)
                call_order.require_intent(has_intent=has_intent, recorded=in_hand.transaction)
                await claims.claim_late(database, limits)
                await database.execute(CLEAR_INTENTS, self._lease.epoch)
                await database.execute(RECORD_OPEN, transaction)
            return await self._read_claimed(database) or CommitGroup(())

        return await self._run_fenced(work, is_repeatable=True)

    async def record_file(
        self, ids: Collection[str], format: FileFormat, size: int, *, is_shared: bool
    ) -> File:
        async def work(database: Database, in_hand: WorkInLease) -> File:
            named = list(ids)
            rows = await database.fetch(CLAIMED_BY_ID, in_hand.numbers, named)
            claimed = [build_claimed_row(row) for row in rows]
            call_order.require_claimed(len(claimed), len(ids), is_shared=is_shared)
            name: str = format
            if is_shared:
                first_path = self._codec.decrypt_fields(claimed[0].row).path
                name = await find_free_group_path(database, first_path, format, named)
            await database.execute(RECORD_FILE, in_hand.numbers, named, name, size)
            filed = [
                each._replace(row=each.row._replace(file=name, file_bytes=size)) for each in claimed
            ]
            (file,) = group_by_file(self._codec, filed)
            return file

        return await self._run_fenced(work, is_repeatable=True)

    async def conclude(self, conclusion: Conclusion) -> Sequence[Receipt]:
        async def work(database: Database, in_hand: WorkInLease) -> Sequence[Receipt]:
            is_in_hand = in_hand.transaction is not None or bool(in_hand.numbers)
            call_order.require_recorded(
                conclusion.transaction, recorded=in_hand.transaction, is_in_hand=is_in_hand
            )
            ids = await database.fetch(CLAIMED_IDS, in_hand.numbers)
            claimed = {row["number"]: row["id"] for row in ids}
            for id, verdict in conclusion.verdicts.items():
                if verdict.kind == "moved" and id in claimed.values():
                    await self._move(database, id)
            records = await conclusions.apply_conclusion(database, conclusion, claimed)
            receipts = await self._finish_rows(database, records)
            await database.execute(CONCLUDE, self._rate.measure())
            return receipts

        return await self._run_fenced(work)

    async def clear_intents(self) -> None:
        async def work(database: Database, _: WorkInLease) -> None:
            await database.execute(CLEAR_INTENTS, self._lease.epoch)

        await self._run_fenced(work, is_repeatable=True)

    async def read(self, ids: Collection[str]) -> Mapping[str, bytes]:
        payloads = {}
        rows = await self._session.fetch(READ, list(ids))
        for record in rows:
            row = build_row(record)
            with suppress(CorruptEntry):
                self._codec.decrypt_fields(row)  # only to check: they hold the path
                payloads[row.id] = self._codec.decrypt_compressed(row, record["sealed"])
        return payloads

    async def _record_intent(
        self, database: Database, snapshot: BranchSnapshot, kind: TransactionKind
    ) -> None:
        """Record an intent. It replaces an earlier one on the same head, which it covers."""
        epoch = self._lease.epoch
        await database.execute(RECORD_INTENT, epoch, kind, snapshot.head, snapshot.at)

    async def _read_claimed(self, database: Database) -> CommitGroup | None:
        numbers = await database.fetch_value(CLAIMED_NUMBERS)
        rows = await database.fetch(SELECT_CLAIMED, numbers)
        claimed = [build_claimed_row(row) for row in rows]
        return CommitGroup(group_by_file(self._codec, claimed)) if claimed else None

    async def _move(self, database: Database, id: str) -> None:
        """Give a claimed export a later path; with an earlier one, two exports could swap paths."""
        record = await database.fetch_row(f"SELECT {COLUMNS} FROM @.export WHERE id = $1", id)
        if record is None:
            return
        row = build_row(record)
        try:
            fields = self._codec.decrypt_fields(row)
        except CorruptEntry:
            return  # reported when it is claimed again
        at = identifiers.parse_path_time(fields.path)
        moment, is_taken = 0, True
        while is_taken:
            at += identifiers.MILLISECOND
            moment = identifiers.count_milliseconds(at)
            is_taken = await database.fetch_value(IS_MOMENT_TAKEN, row.user, moment)
        path = identifiers.build_path(User(fields.sub), at)
        label = self._codec.encrypt_fields(row, msgspec.structs.replace(fields, path=path))
        await database.execute(MOVE, id, moment, label)


def require_nothing_in_hand(in_hand: WorkInLease) -> None:
    is_in_hand = bool(in_hand.numbers) or in_hand.transaction is not None
    call_order.require_nothing_in_hand(is_in_hand=is_in_hand)


async def read_intents(database: Database) -> tuple[Intent, ...]:
    rows = await database.fetch(READ_INTENTS)
    return tuple(Intent(row["kind"], BranchSnapshot(row["head"], row["at"])) for row in rows)


async def find_free_group_path(
    database: Database, first_path: str, format: FileFormat, ids: list[str]
) -> str:
    """Return the first free path for the shared file of a group.

    `first_path` is that of its first export. `ids` are the exports of the group: their own shared
    path counts as free, so that recording the file can be repeated.
    """
    for path in identifiers.group_paths(first_path, format):
        if not await database.fetch_value(IS_SHARED_PATH_TAKEN, path, ids):
            return path
    raise AssertionError("there is always another path")
