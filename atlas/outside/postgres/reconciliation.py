"""Compares the journal with the dataset, for example after a failover or a restored backup."""

from collections.abc import Collection, Sequence

from asyncpg import Record

from atlas.core import identifiers
from atlas.core.messages import File, Receipt
from atlas.core.personal_data import DatasetFile
from atlas.outside.journal.entries import CRASH_REASON, ClaimedRow, group_by_file
from atlas.outside.postgres.conclusions import DELETE_PAYLOADS
from atlas.outside.postgres.connections import Session
from atlas.outside.postgres.database import Database
from atlas.outside.postgres.fencing import FencedSteps
from atlas.outside.postgres.lease import WorkInLease
from atlas.outside.postgres.rows import COLUMNS, build_row

PAGE = 1_000
SEARCH_SECONDS = 600.0  # to read all receipts and digests
NEWEST = f"SELECT rid FROM @.export WHERE status = 'committed' ORDER BY number DESC LIMIT {PAGE}"
KNOWN = """
    SELECT rid FROM @.export WHERE status = 'committed' AND rid = ANY($1)
    UNION SELECT rid FROM @.digest WHERE rid = ANY($1)
"""
UNCLAIM = """
    UPDATE @.lease SET numbers = ARRAY(
        SELECT number FROM unnest(numbers) number WHERE number <> ALL($1) ORDER BY number
    )
"""
LIST_DOUBTFUL = "SELECT id FROM @.export WHERE is_doubtful"
CLEAR_DOUBT = "UPDATE @.export SET is_doubtful = false WHERE id = ANY($1)"
HAS_PAYLOAD = "EXISTS (SELECT FROM @.payload WHERE payload.number = export.number)"
UNION = " UNION ALL ".join(
    f"(SELECT number FROM @.export WHERE {condition}"
    f" AND number > (SELECT number FROM earlier) ORDER BY number LIMIT {PAGE})"
    for condition in (
        "status = 'accepted' AND isolation = 0",
        "status = 'accepted' AND isolation > 0",
        f"status = 'set_aside' AND reason IS DISTINCT FROM '{CRASH_REASON}' AND {HAS_PAYLOAD}",
    )
)
# With the conditions of the indexes `mailbox`, `failed` and `aside`, so that no receipts are read
UNCOMMITTED = f"""
    WITH earlier AS (SELECT coalesce(max(number), 0) AS number FROM @.export WHERE id = $1)
    SELECT {COLUMNS} FROM @.export WHERE number = ANY(ARRAY(
        SELECT number FROM ({UNION}) uncommitted ORDER BY number LIMIT {PAGE}
    )) ORDER BY number
"""
MARK_FOUND = f"""
    UPDATE @.export SET status = 'committed', rid = $2, file = $3, file_bytes = $4, reason = NULL,
        is_doubtful = false
    WHERE status IN ('accepted', 'set_aside') AND id = ANY($1)
    RETURNING {COLUMNS}, number
"""


async def mark_found(
    database: Database, ids: Collection[str], dataset_file: DatasetFile
) -> list[Record]:
    """Mark the exports as committed in this file, and return their rows and numbers."""
    path = dataset_file.path
    file = identifiers.detect_format(path) if identifiers.is_single_export(path) else path
    return await database.fetch(
        MARK_FOUND, list(ids), dataset_file.transaction, file, dataset_file.bytes
    )


class PostgresReconciliation(FencedSteps):
    """Implements `ports.Reconciliation`."""

    async def filter_own_transactions(self, transactions: Collection[str]) -> frozenset[str]:
        """Try the latest first: all others take minutes, as there is no index."""
        requested = frozenset(transactions)
        known = requested.intersection(await self._list_newest())
        if known == requested:
            return known
        session = Session(self._connector, SEARCH_SECONDS)
        try:
            rows = await session.run(
                lambda database: database.fetch(KNOWN, list(requested)), is_repeatable=True
            )
        finally:
            await session.close()
        return frozenset(row["rid"] for row in rows)

    async def has_committed_lately(self, transaction: str) -> bool:
        return transaction in await self._list_newest()

    async def list_uncommitted(self, after: str) -> Sequence[File]:
        rows = await self._session.fetch(UNCOMMITTED, after)
        own = [ClaimedRow(build_row(row)._replace(file=None, file_bytes=None)) for row in rows]
        return group_by_file(self._codec, own)

    async def mark_found(
        self, matches: Sequence[tuple[DatasetFile, Collection[str]]]
    ) -> Sequence[Receipt]:
        async def work(database: Database, _: WorkInLease) -> Sequence[Receipt]:
            records: list[Record] = []
            for file, ids in matches:
                records += await mark_found(database, ids, file)
            numbers = [record["number"] for record in records]
            await database.execute(DELETE_PAYLOADS, numbers)
            await database.execute(UNCLAIM, numbers)
            return await self._finish_rows(database, records)

        return await self._run_fenced(work)

    async def list_doubtful(self) -> Collection[str]:
        rows = await self._session.fetch(LIST_DOUBTFUL)
        return [row["id"] for row in rows]

    async def clear_doubt(self, ids: Collection[str]) -> None:
        async def work(database: Database, _: WorkInLease) -> None:
            await database.execute(CLEAR_DOUBT, list(ids))

        await self._run_fenced(work, is_repeatable=True)

    async def _list_newest(self) -> list[str]:
        rows = await self._session.run(lambda database: database.fetch(NEWEST), is_repeatable=True)
        return [row["rid"] for row in rows]
