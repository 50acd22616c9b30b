"""A schema of the test's own on any PostgreSQL server, for tests that run commands."""

import base64
import os
import secrets
import sys

import anyio
import pytest

from tests.support.filled_journals import KEY
from tests.support.postgres import run_sql

COMMAND = sys.executable, "-m", "atlas"
TEXT_KEY = base64.b64encode(KEY).decode()


@pytest.fixture
def database_server(postgres_servers):
    return postgres_servers.get_any()


@pytest.fixture
def schema_name(database_server):
    """The name of a schema that does not exist yet."""
    name = f"test_{secrets.token_hex(8)}"
    yield name
    run(database_server, "SET lock_timeout = '10s'", f"DROP SCHEMA IF EXISTS {name} CASCADE")


@pytest.fixture
def journal_url(database_server, schema_name):
    return f"{database_server.url}?schema={schema_name}"


def run(database_server, *statements):
    return anyio.run(lambda: run_sql(database_server, *statements))


def run_script(database_server, text):
    """Run many statements at once."""

    async def execute():
        import asyncpg  # noqa: PLC0415 - tests that need it are skipped where it is missing

        connection = await asyncpg.connect(database_server.url)
        await connection.execute(text)
        await connection.close()

    anyio.run(execute)


def environment(journal):
    """Return the environment of a command with this journal."""
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "HOME") if name in os.environ}
    return kept | {"ATLAS_JOURNAL": journal, "ATLAS_JOURNAL_KEY": TEXT_KEY}
