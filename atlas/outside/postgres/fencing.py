"""Steps of the uploader: transactions that fail if another replica leads."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

from asyncpg import Record

from atlas.core.messages import Receipt
from atlas.outside.journal.capacity import CommitRate
from atlas.outside.journal.row_codec import RowCodec
from atlas.outside.postgres.connections import Connector, Session
from atlas.outside.postgres.database import Database
from atlas.outside.postgres.lease import Lease, WorkInLease
from atlas.outside.postgres.retention import ReceiptPruner
from atlas.outside.postgres.rows import build_row

T = TypeVar("T")
Work = Callable[[Database, WorkInLease], Awaitable[T]]


class FencedSteps:
    """The base of the outbox: its session, and the lease that fences it."""

    def __init__(
        self,
        session: Session,
        lease: Lease,
        codec: RowCodec,
        pruner: ReceiptPruner,
        rate: CommitRate,
        connector: Connector,
    ) -> None:
        self._session = session
        self._lease = lease
        self._codec = codec
        self._pruner = pruner
        self._rate = rate
        self._connector = connector

    async def _run_fenced(self, work: Work[T], *, is_repeatable: bool = False) -> T:
        """Run a transaction that fails with Deposed if another replica leads."""

        async def check_and_work(database: Database) -> T:
            return await work(database, await self._lease.check(database))

        return await self._session.transact(check_and_work, is_repeatable=is_repeatable)

    async def _finish_rows(
        self, database: Database, records: Iterable[Record]
    ) -> Sequence[Receipt]:
        """Return the receipts of ended exports; count committed ones, and prune old receipts."""
        rows = [build_row(record) for record in records]
        committed = [row.size for row in rows if row.status == "committed"]
        if committed:
            self._rate.record(sum(committed))
            await self._pruner.prune(database, len(committed))
        ended = [row for row in rows if row.status in {"committed", "set_aside"}]
        if ended:
            await database.notify("settled")
        return [self._codec.build_receipt(row) for row in ended]
