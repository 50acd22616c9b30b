"""Reads all tables of a journal, and fills those of a new one, to check or move a journal.

A move is one transaction, so that nothing of an unfinished one remains.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

import asyncpg

from atlas.core.errors import CommandError, ConfigurationError, JournalInUse, JournalMissing
from atlas.outside.journal.keys import build_key_error
from atlas.outside.journal.transfer import (
    TABLES,
    Counts,
    JournalContents,
    MovedExport,
    MovedIntent,
    Row,
    Table,
    WorkInHandRecord,
    fold_claimed,
    is_secret_moved,
)
from atlas.outside.postgres import guards, keys, schema
from atlas.outside.postgres.connections import Connector
from atlas.outside.postgres.database import Database
from atlas.outside.postgres.moved_rows import (
    EXPORT_COLUMNS,
    ROW,
    build_export,
    list_columns,
    parse_time,
)
from atlas.outside.postgres.preparation import connect, explain

BEGIN = """
    BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = '2s';
    SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = '10min'
"""
AS_OF_NOW = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"
PREFETCH: dict[Table, int] = dict.fromkeys(TABLES, 2_000)
PREFETCH |= {"payload": 50, "unpublished_payload": 50, "report": 200}
IN_HAND = "(SELECT numbers FROM @.lease)::bigint[]"
STATUS = f"CASE WHEN number = ANY({IN_HAND}) THEN 'claimed' ELSE status END"
EXPORT = ROW.replace("status", STATUS)
SEALED = "(SELECT sealed FROM @.payload WHERE payload.number = export.number)"
COLUMNS: dict[Table, list[str]] = {
    "export": EXPORT_COLUMNS,
    "payload": ["number", "sealed"],
    "unpublished": ["number", "rows", "bytes"],
    "unpublished_payload": ["number", "sealed"],
    "binding": ["sender", "key", "position", "length", "export"],
    "digest": ["id", "sender", "rid", "day"],
    "phone": ["sender", "device", "at", "stuck", "sealed"],
    "report": ["sender", "device", "at", "sealed"],
}
SELECT: dict[Table, str] = {
    table: f"SELECT {', '.join(columns)} FROM @.{table}" for table, columns in COLUMNS.items()
}
SELECT |= {
    "export": f"SELECT {EXPORT} FROM @.export ORDER BY number",
    "payload": "SELECT number, sealed FROM @.payload ORDER BY number",
    "phone": "SELECT sender, device, at, stuck, sealed FROM @.phone ORDER BY number",
    "report": "SELECT sender, device, at, sealed FROM @.report ORDER BY number",
}
COUNT = "SELECT status, count(*), sum(bytes)::bigint FROM @.export GROUP BY status"
TOTALS = "SELECT status, sum(exports)::bigint, sum(bytes)::bigint FROM @.total GROUP BY status"
COUNT_PAYLOADS = "SELECT count(*), coalesce(sum(length(sealed)), 0)::bigint FROM @.payload"
RANDOM = f"""
    SELECT {EXPORT}, {SEALED} FROM @.export WHERE number IN (
        (SELECT number FROM @.export ORDER BY random() LIMIT $1)
        UNION (SELECT number FROM @.payload ORDER BY random() LIMIT $1)
    ) ORDER BY number
"""
FIND = f"SELECT {EXPORT}, {SEALED} FROM @.export WHERE number = ANY($1) ORDER BY number"
WAITING = f"""
    SELECT {EXPORT}, {SEALED} FROM @.export
    WHERE status IN ('accepted', 'set_aside') ORDER BY number
"""
ORPHANS = """
    SELECT count(*) FROM @.payload WHERE number NOT IN (
        SELECT number FROM @.export WHERE status IN ('accepted', 'set_aside')
    )
"""
LIVE = f"SELECT count(*) FROM @.replica WHERE {schema.IS_LIVE}"
IS_HELD = "SELECT holder <> '' AND until > clock_timestamp() FROM @.lease FOR UPDATE NOWAIT"
# Other transactions can read meanwhile, and neither store an export nor a key that names one.
LOCK_WRITERS = "LOCK TABLE @.export, @.digest, @.secret IN EXCLUSIVE MODE"
DOUBTFUL = "SELECT count(*) FROM @.export WHERE is_doubtful"
SET_NUMBER = """
    SELECT setval(pg_get_serial_sequence('@.export', 'number'), greatest(max(number), 1),
        max(number) IS NOT NULL)
    FROM @.export
"""
STORE_IN_HAND = "UPDATE @.lease SET numbers = $1, transaction = $2"
STORE_INTENT = "INSERT INTO @.intent (epoch, kind, head, at) VALUES (0, $1, $2, $3)"
# A replica that was frozen meanwhile finds no table of that name, and stores nothing.
RETIRE = "ALTER TABLE @.export RENAME TO export_moved"


class PostgresTables:
    """Implements `JournalTables`, `MoveSource` and `MoveTarget` in an open transaction."""

    def __init__(
        self, database: Database, shown: str, data_key: bytes, *, is_new: bool = False
    ) -> None:
        self._database = database
        self.shown = shown
        self.data_key = data_key
        self.is_new = is_new
        self._claimed: list[int] = []

    async def count(self) -> JournalContents:
        database = self._database
        exports = await self._count_by_status(COUNT)
        payloads = await database.fetch_row(COUNT_PAYLOADS)
        return JournalContents(
            newest=await database.fetch_value("SELECT coalesce(max(number), 0) FROM @.export"),
            exports=fold_claimed(exports),
            totals=fold_claimed(await self._count_by_status(TOTALS)),
            claimed=await database.fetch_value("SELECT cardinality(numbers) FROM @.lease"),
            payloads=(0, 0) if payloads is None else (payloads[0], payloads[1]),
            unpublished=(
                await database.fetch_value("SELECT count(*) FROM @.unpublished"),
                await database.fetch_value("SELECT count(*) FROM @.unpublished_payload"),
            ),
            bindings=await database.fetch_value("SELECT count(*) FROM @.binding"),
            digests=await database.fetch_value("SELECT count(*) FROM @.digest"),
            phones=await database.fetch_value("SELECT count(*) FROM @.phone"),
            reports=await database.fetch_value("SELECT count(*) FROM @.report"),
        )

    async def read(self, table: Table) -> AsyncIterator[Row]:
        async for record in self._database.iterate(SELECT[table], PREFETCH[table]):
            yield build_export(record) if table == "export" else tuple(record)

    async def read_rest(self) -> WorkInHandRecord:
        database = self._database
        secrets = await database.fetch("SELECT name, value FROM @.secret")
        intents = await database.fetch("SELECT kind, head, at FROM @.intent ORDER BY at")
        newest = {(row["kind"], row["head"]): row["at"].isoformat() for row in intents}
        return WorkInHandRecord(
            {row["name"]: row["value"] for row in secrets if is_secret_moved(row["name"])},
            [MovedIntent(kind, head, at) for (kind, head), at in sorted(newest.items())],
            await database.fetch_value("SELECT transaction FROM @.lease"),
        )

    async def sample(self, limit: int) -> Sequence[tuple[MovedExport, bytes | None]]:
        records = await self._database.fetch(RANDOM, limit)
        return [(build_export(record), record[-1]) for record in records]

    async def find(self, numbers: Sequence[int]) -> Sequence[tuple[MovedExport, bytes | None]]:
        records = await self._database.fetch(FIND, list(numbers))
        return [(build_export(record), record[-1]) for record in records]

    async def read_waiting(self) -> AsyncIterator[tuple[MovedExport, bytes | None]]:
        async for record in self._database.iterate(WAITING, PREFETCH["payload"]):
            yield build_export(record), record[-1]

    async def count_orphans(self) -> int:
        orphans: int = await self._database.fetch_value(ORPHANS)
        return orphans

    async def write(self, table: Table, rows: Sequence[Row]) -> None:
        if table == "export":
            exports = [MovedExport(*row) for row in rows]  # type: ignore[arg-type]
            self._claimed += [each.number for each in exports if each.status == "claimed"]
            rows = [list_columns(each) for each in exports]
        await self._database.copy(table, COLUMNS[table], rows)

    async def write_rest(self, rest: WorkInHandRecord) -> None:
        database = self._database
        for name, value in rest.secrets.items():
            await database.execute(keys.STORE, name, value)
        for kind, head, at in rest.intents:
            await database.execute(STORE_INTENT, kind, head, parse_time(at))
        await database.execute(STORE_IN_HAND, self._claimed, rest.transaction)
        await database.fetch_value(SET_NUMBER)
        await database.execute("ANALYZE @.export; ANALYZE @.payload; ANALYZE @.digest")

    async def commit(self) -> None:
        await self._database.execute("COMMIT")

    async def retire(self, target: str) -> str:
        await self._database.execute(keys.STORE, schema.MOVED, target.encode())
        await self._database.execute(RETIRE)
        await self._database.execute("COMMIT")
        return f"the table export_moved in {self.shown}"

    async def _count_by_status(self, select: str) -> dict[str, Counts]:
        return {row[0]: (row[1], row[2]) for row in await self._database.fetch(select)}


@asynccontextmanager
async def open_snapshot(
    connector: Connector, journal_keys: Sequence[bytes]
) -> AsyncIterator[PostgresTables]:
    """Open a journal as of now, beside running replicas, without changing it."""
    async with open_transaction(connector) as database:
        await database.execute(AS_OF_NOW)
        yield await open_tables(database, connector.address.shown, journal_keys)


@asynccontextmanager
async def open_source(
    connector: Connector, journal_keys: Sequence[bytes]
) -> AsyncIterator[PostgresTables]:
    """Open a journal that is to be moved, and keep others out. Raises JournalInUse."""
    shown = connector.address.shown
    async with open_transaction(connector) as database:
        await require_unused(database, shown)
        if await database.fetch_value(DOUBTFUL):
            raise CommandError(
                f"Exports in {shown} have to be compared with the dataset after a failover: "
                "start Atlas once, and stop it when it has done that."
            )
        yield await open_tables(database, shown, journal_keys)


@asynccontextmanager
async def open_target(
    connector: Connector, journal_keys: Sequence[bytes], data_key: bytes
) -> AsyncIterator[PostgresTables]:
    """Create a journal with this data key, or open the existing one to compare it."""
    shown = connector.address.shown
    async with open_transaction(connector) as database:
        await guards.require_durability(database, shown)
        if await schema.has_tables(database):
            if await database.fetch_value(schema.READ_MOVED) is not None:
                raise CommandError(f"{shown} has the remains of an earlier move: drop that schema.")
            existing = await keys.find_data_key(database, journal_keys)
            yield PostgresTables(database, shown, existing or b"")
            return
        await schema.create_or_upgrade(database, shown)
        await keys.store_copies(database, data_key, journal_keys)
        yield PostgresTables(database, shown, data_key, is_new=True)


async def require_unused(database: Database, shown: str) -> None:
    """Keep others out until the transaction ends. Raises JournalInUse, ConfigurationError."""
    await schema.require_writable(database, shown)
    await schema.lock_schema(database)
    await database.execute(LOCK_WRITERS)
    if await database.fetch_value(LIVE) or await database.fetch_value(IS_HELD):
        users = f"Replicas or commands used {shown} in the last 15 s"
        raise JournalInUse(f"{users}: stop them, and try again.")


async def require_journal(connector: Connector) -> None:
    """Raise JournalMissing, and ConfigurationError if no journal can be kept there."""
    async with open_transaction(connector) as database:
        await guards.require_durability(database, connector.address.shown)
        await database.fetch_row(schema.READ_VERSION)


@asynccontextmanager
async def open_transaction(connector: Connector) -> AsyncIterator[Database]:
    """Open a connection with a transaction, which is rolled back at the end."""
    with explain_errors(connector.address.shown):
        database = await connect(connector)
        try:
            await database.execute(BEGIN)
            yield database
        finally:
            database.connection.terminate()


async def open_tables(
    database: Database, shown: str, journal_keys: Sequence[bytes]
) -> PostgresTables:
    """Return the tables of an existing journal. Raises ConfigurationError."""
    if await schema.require_writable(database, shown) < schema.VERSION:
        raise CommandError(
            f"{shown} has the tables of an earlier version of Atlas: start this version once."
        )
    data_key = await keys.find_data_key(database, journal_keys)
    if data_key is None:
        raise build_key_error(shown)
    return PostgresTables(database, shown, data_key)


@contextmanager
def explain_errors(shown: str) -> Iterator[None]:
    """Convert errors of the database into a line for the operator, without their text."""
    try:
        yield
    except asyncpg.LockNotAvailableError as error:
        raise JournalInUse(f"{shown} is in use: stop all replicas and commands.") from error
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError) as error:
        raise JournalMissing(
            f"There is no journal at {shown}: the first start of atlas serve creates it."
        ) from error
    except asyncpg.InsufficientPrivilegeError as error:
        raise ConfigurationError(f"The user of {shown} lacks a privilege.") from error
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise CommandError(f"The journal {shown} failed: {explain(error)}.") from error
