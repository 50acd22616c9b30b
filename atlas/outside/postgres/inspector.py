"""Reports the condition of the journal: waiting exports, totals, open transactions."""

import asyncio
from collections.abc import Sequence

import asyncpg
from asyncpg import Record
from msgspec.structs import replace

from atlas.core import identifiers
from atlas.core.inspection import (
    COUNTED_EXPORTS_MAX,
    CommittedRows,
    DatabaseHealth,
    ExportTotals,
    JournalHealth,
)
from atlas.outside.journal.capacity import CapacityLimits
from atlas.outside.journal.entries import build_entry
from atlas.outside.journal.row_codec import RowCodec
from atlas.outside.postgres.connections import Connector, Session
from atlas.outside.postgres.database import COMMIT_MESSAGE, Database
from atlas.outside.postgres.errors import CONNECTION_ERRORS, build_error
from atlas.outside.postgres.guards import read_settings
from atlas.outside.postgres.ledger import COMPARE, OLDEST, SELECT
from atlas.outside.postgres.observation import SIZE, DatabaseObserver, utc_now
from atlas.outside.postgres.phones import read_ages
from atlas.outside.postgres.rows import build_ledger_row
from atlas.outside.postgres.stream import read_backlog

# The part of a reason from the instance id on differs for each response. The newest one is shown.
REASONS = """
    SELECT (array_agg(coalesce(reason, 'no reason') ORDER BY turn DESC))[1] AS reason,
        count(*) AS exports
    FROM @.export WHERE {} GROUP BY split_part(coalesce(reason, ''), ' (errorInstanceId', 1)
    ORDER BY 1
"""
IS_SET_ASIDE = "status = 'set_aside'"
IS_FAILED = "status = 'accepted' AND isolation > 0"
LAST = f"{SELECT} WHERE status = 'committed' ORDER BY number DESC LIMIT 1"
COMMITTED = f"""
    SELECT count(*) AS exports, coalesce(sum(ingested), 0) AS rows,
        (array_agg(rid ORDER BY number))[1] AS oldest
    FROM (
        SELECT number, ingested, rid FROM @.export WHERE status = 'committed'
        ORDER BY number DESC LIMIT {COUNTED_EXPORTS_MAX}
    ) AS newest
"""
TRANSACTION = "SELECT transaction FROM @.lease"
INTENTS = "SELECT count(*) FROM @.intent"
IS_LED = "SELECT until > clock_timestamp() FROM @.lease"
CONNECTIONS_OF_REPLICA = 5  # intake, outbox, lease, reads and notifications
NOTIFICATION_SECONDS = 2.0


class PostgresInspector:
    """Implements `ports.JournalInspector`."""

    def __init__(
        self,
        session: Session,
        codec: RowCodec,
        limits: CapacityLimits,
        connector: Connector,
        observer: DatabaseObserver,
    ) -> None:
        self._session = session
        self._codec = codec
        self._limits = limits
        self._connector = connector
        self._observer = observer

    async def inspect(self) -> JournalHealth:
        health = await self._session.transact(self._inspect, is_repeatable=True)
        are_notifications_delayed = not self._connector.is_pooled and (
            self._observer.are_notifications_delayed() or not await self._is_notified()
        )

        async def work(database: Database) -> DatabaseHealth:
            return await self._inspect_database(
                database, are_notifications_delayed=are_notifications_delayed
            )

        return replace(health, database=await self._session.run(work, is_repeatable=True))

    def pseudonym(self, sub: str) -> str:
        return identifiers.pseudonymize(self._codec.cipher.user_key, sub)

    async def _inspect(self, database: Database) -> JournalHealth:
        await database.fetch_value(COMMIT_MESSAGE)
        last = await database.fetch_row(LAST)
        totals = await database.fetch(COMPARE)
        transaction = await database.fetch_value(TRANSACTION)
        return JournalHealth(
            path=self._connector.address.shown,
            bytes=await database.fetch_value(SIZE, database.schema),
            waiting=find_total(totals, "accepted", "stored"),
            set_aside=find_total(totals, "set_aside", "stored"),
            actual=(
                find_total(totals, "accepted", "counted"),
                find_total(totals, "set_aside", "counted"),
            ),
            capacity=ExportTotals(self._limits.exports, self._limits.bytes),
            disk_free=None,
            disk_free_min=0,
            oldest=await database.fetch_value(OLDEST),
            set_aside_reasons=await count_reasons(database, IS_SET_ASIDE),
            failed=await count_reasons(database, IS_FAILED),
            open_transactions=() if transaction is None else (transaction,),
            attempts=await database.fetch_value(INTENTS),
            phones=tuple(await read_ages(database, utc_now())),
            last=None if last is None else build_entry(build_ledger_row(last), self._codec),
            unpublished=await read_backlog(database),
            committed=await read_committed(database),
        )

    async def _inspect_database(
        self, database: Database, *, are_notifications_delayed: bool
    ) -> DatabaseHealth:
        settings, observer = await read_settings(database), self._observer
        state = await observer.read_state(database)
        return DatabaseHealth(
            version=settings.version,
            defect=settings.find_defect(),
            standbys=settings.standbys,
            has_checksums=settings.checksums == "on",
            connections=None if self._connector.is_pooled else settings.connections_max,
            connections_of_replica=CONNECTIONS_OF_REPLICA,
            clock_skew_seconds=await observer.measure_skew(database),
            oldest_transaction_seconds=state.oldest_transaction_seconds,
            are_notifications_delayed=are_notifications_delayed,
            is_led=bool(await database.fetch_value(IS_LED)),
            replicas=state.replicas,
        )

    async def _is_notified(self) -> bool:
        """Listen over a connection of its own, and notify it over another."""
        arrived = asyncio.Event()
        try:
            listening = await self._connector.connect()
        except (asyncpg.PostgresError, *CONNECTION_ERRORS) as error:
            raise build_error(error) from error
        try:
            channel = f"{listening.schema}_inspection"
            await listening.connection.add_listener(channel, lambda *_: arrived.set())
            await self._session.run(lambda database: database.notify("inspection"))
            async with asyncio.timeout(NOTIFICATION_SECONDS):
                await arrived.wait()
        except (TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return False
        finally:
            listening.connection.terminate()
        return True


async def read_committed(database: Database) -> CommittedRows:
    (row,) = await database.fetch(COMMITTED)
    return CommittedRows(row["exports"], int(row["rows"]), row["oldest"] or "")


async def count_reasons(database: Database, condition: str) -> dict[str, int]:
    """Count exports by reason, ignoring instance ids; the newest one of each kind is shown."""
    rows = await database.fetch(REASONS.format(condition))
    return {row["reason"]: row["exports"] for row in rows}


def find_total(totals: Sequence[Record], status: str, kind: str) -> ExportTotals:
    """Return a total of this status: the `stored` one or the `counted` one."""
    for row in totals:
        if row["status"] == status:
            return ExportTotals(int(row[kind]), int(row[f"{kind}_bytes"]))
    return ExportTotals(0, 0)
