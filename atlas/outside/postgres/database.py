"""Statements in the schema of the journal, and transactions."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from functools import cache
from typing import Any, TypeVar

import asyncpg

from atlas.core.errors import JournalAway
from atlas.outside.journal.texts import make_storable
from atlas.outside.postgres.errors import DATABASE_ERRORS
from atlas.outside.postgres.hosts import Connection

T = TypeVar("T")

# Whatever the default of the role is: at another level, replicas refuse each other's exports.
# A frozen replica must not hold locks; a takeover must not wait for one.
BEGIN = """
    BEGIN ISOLATION LEVEL READ COMMITTED;
    SET LOCAL idle_in_transaction_session_timeout = '5s'; SET LOCAL lock_timeout = '2s'
"""
# A read, and a commit without changes, do not wait for a standby; this message does.
COMMIT_MESSAGE = "SELECT pg_logical_emit_message(true, 'atlas', '')"
NOTIFY = "SELECT pg_notify($1, '')"


class Database:
    """A connection, with statements in which `@.` stands for the schema.

    A text that PostgreSQL does not take is not an error, and finds nothing.
    """

    def __init__(self, connection: Connection, schema: str) -> None:
        self.connection = connection
        self._qualify = cache(lambda text: text.replace("@.", f'"{schema}".'))
        self.schema = schema

    async def fetch(self, statement: str, *args: object) -> list[asyncpg.Record]:
        values = build_arguments(args)
        return await self.convert_error(self.connection.fetch(self._qualify(statement), *values))

    async def fetch_row(self, statement: str, *args: object) -> asyncpg.Record | None:
        values = build_arguments(args)
        return await self.convert_error(self.connection.fetchrow(self._qualify(statement), *values))

    async def fetch_value(self, statement: str, *args: object) -> Any:
        values = build_arguments(args)
        return await self.convert_error(self.connection.fetchval(self._qualify(statement), *values))

    async def notify(self, topic: str) -> None:
        """Notify the replicas that listen to this topic, once the transaction is committed."""
        await self.fetch_value(NOTIFY, f"{self.schema}_{topic}")

    async def convert_error(self, call: Awaitable[T]) -> T:
        """Await a call. Raises InterfaceError if the connection was terminated meanwhile.

        The driver then fails with AttributeError, because it has dropped its protocol.
        """
        try:
            return await call
        except AttributeError as error:
            if not self.connection.is_closed():
                raise
            raise asyncpg.InterfaceError("The connection was terminated.") from error

    async def execute_tagged(self, statement: str, *args: object) -> str:
        """Execute a statement, and return its tag, such as COMMIT."""
        values = build_arguments(args)
        return await self.convert_error(self.connection.execute(self._qualify(statement), *values))

    async def execute(self, statement: str, *args: object) -> int:
        """Execute one statement with arguments, or several without. Return the number of rows."""
        tag = await self.execute_tagged(statement, *args)
        return int(tag.rpartition(" ")[2]) if tag[-1:].isdigit() else 0

    async def iterate(self, statement: str, prefetch: int) -> AsyncIterator[asyncpg.Record]:
        """Yield the rows of a long result, in a transaction."""
        async for row in self.connection.cursor(self._qualify(statement), prefetch=prefetch):
            yield row

    async def copy(
        self, table: str, columns: Sequence[str], rows: Iterable[Sequence[object]]
    ) -> None:
        """Add rows by COPY."""
        await self.connection.copy_records_to_table(
            table, schema_name=self.schema, columns=columns, records=rows
        )


def build_arguments(args: Iterable[object]) -> list[object]:
    return [make_storable(each) if isinstance(each, str) else each for each in args]


async def run_transaction(database: Database, work: Callable[[Database], Awaitable[T]]) -> T:
    await database.execute(BEGIN)
    is_committed = False
    try:
        result = await work(database)
        # COMMIT of a failed transaction is a ROLLBACK, and no error
        if await database.execute_tagged("COMMIT") != "COMMIT":
            raise JournalAway("The journal's database rolled a transaction back.")
        is_committed = True
        return result
    finally:
        if not is_committed:
            with suppress(*DATABASE_ERRORS):
                await database.execute("ROLLBACK")
