"""Prepares the journal for a start: waits for the database, checks it, creates the tables.

Errors are explained without their text, which may name the user or quote a value.
"""

import asyncio
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import asyncpg
from asyncpg.exceptions import TargetServerAttributeNotMatched

from atlas.core.errors import CommandError, ConfigurationError
from atlas.outside.journal.cipher import Cipher
from atlas.outside.postgres import guards, keys, schema
from atlas.outside.postgres.connections import (
    READ_MARK,
    RETRY_SECONDS,
    WAIT_SECONDS,
    Connector,
    is_unreachable,
)
from atlas.outside.postgres.database import Database, run_transaction
from atlas.outside.postgres.errors import DATABASE_ERRORS, OldPrimary, is_conflict

T = TypeVar("T")

QUIET_SECONDS = 2.0  # of waiting before it is announced
UPGRADE_SECONDS = 60.0  # for the locks of an upgrade
# Caused by another program's tables of the same names
FOREIGN_TABLES = (
    asyncpg.DuplicateObjectError,
    asyncpg.DuplicateTableError,
    asyncpg.DuplicateFunctionError,
    asyncpg.UndefinedColumnError,
    asyncpg.UndefinedTableError,
    asyncpg.WrongObjectTypeError,
)
POOLER_ERRORS = (asyncpg.DuplicatePreparedStatementError, asyncpg.InvalidSQLStatementNameError)
EXPLANATIONS: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str], ...] = (
    (asyncpg.InvalidPasswordError, "the user or the password is wrong"),
    (
        asyncpg.InvalidAuthorizationSpecificationError,
        "the server does not admit this user from here, or not without TLS (pg_hba.conf)",
    ),
    (asyncpg.InvalidCatalogNameError, "the database does not exist"),
    (
        asyncpg.InsufficientPrivilegeError,
        "its user lacks rights. GRANT CREATE ON DATABASE, or make it the owner of the schema",
    ),
    (
        TargetServerAttributeNotMatched,
        (
            "the server is a read-only standby: name the primary, or all hosts. "
            "Or default_transaction_read_only is on: turn it off"
        ),
    ),
    (
        asyncpg.UndefinedFunctionError,
        f"the server is too old. Atlas needs PostgreSQL {guards.SERVER_MIN} or newer",
    ),
    (FOREIGN_TABLES, "the schema has tables of another program. Name another schema"),
    (
        asyncpg.LockNotAvailableError,
        "it is being moved or upgraded, or a long transaction holds its tables",
    ),
    (POOLER_ERRORS, "a connection pooler is in between. Set pooled = true in [journal]"),
    (ssl.SSLCertVerificationError, "TLS failed: the certificate of the server is not trusted"),
    (OldPrimary, "an old primary answered, from before a failover"),
    (socket.gaierror, "the name of the host is not known"),
    (
        (ValueError, asyncpg.InterfaceError, asyncpg.UndefinedObjectError),
        "a parameter of the URL is not valid, or names a file that does not exist",
    ),
)


async def prepare(
    connector: Connector,
    journal_keys: Sequence[bytes],
    destination_name: str,
    announce: Callable[[str], None],
) -> Cipher:
    """Check the server, create the tables, and return the cipher of the journal.

    A database that does not answer may start at the same time, so it is waited for, 10 s at most,
    and `announce` gets a line if that takes a while. Then the start fails with CommandError: the
    platform tries again, ever more slowly, and shows that this replica does not run. A process that
    waited for ever would look healthy although, for example, the host in its URL is wrong. Raises
    ConfigurationError at once for an error that another attempt would not fix.
    """
    return await repeat(
        connector.address.shown,
        lambda: try_to_prepare(connector, journal_keys, destination_name),
        announce,
    )


async def connect(connector: Connector) -> Database:
    """Connect, and wait for the database as `prepare` does."""
    return await repeat(connector.address.shown, connector.connect, lambda _: None)


async def repeat(
    shown: str, work: Callable[[], Awaitable[T]], announce: Callable[[str], None]
) -> T:
    """Return the result of the work. It is repeated while its failures may be temporary."""
    began_at, is_announced = time.monotonic(), False
    while True:
        try:
            return await work()
        except (*DATABASE_ERRORS, OldPrimary, ValueError) as error:  # the last: in the URL
            waited = time.monotonic() - began_at
            limit = UPGRADE_SECONDS if is_conflict(error) else WAIT_SECONDS
            if waited >= limit or not (is_unreachable(error) or is_conflict(error)):
                raise build_start_error(shown, error) from error
            if waited >= QUIET_SECONDS and not is_announced:
                is_announced = True
                announce(f"Waiting for the journal at {shown}: {explain(error)}.")
        await asyncio.sleep(RETRY_SECONDS)


async def try_to_prepare(
    connector: Connector, journal_keys: Sequence[bytes], destination_name: str
) -> Cipher:
    shown = connector.address.shown

    async def work(database: Database) -> tuple[Cipher, bytes]:
        await schema.create_or_upgrade(database, shown)
        cipher = await keys.open_cipher(database, journal_keys, shown)
        if destination_name:
            await keys.store_destination(database, cipher, shown, destination_name)
        return cipher, await database.fetch_value(READ_MARK)

    database = await connector.connect()
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            if not connector.is_pooled:
                await guards.require_session(database, shown)
            await guards.require_durability(database, shown)
            cipher, connector.mark = await run_transaction(database, work)
            return cipher
    finally:
        database.connection.terminate()


def build_start_error(shown: str, error: Exception) -> CommandError:
    """Return a CommandError if another attempt may succeed, and a ConfigurationError otherwise."""
    message = f"The journal cannot be opened at {shown}: {explain(error)}."
    is_temporary = is_unreachable(error) or is_conflict(error)
    is_permanent = isinstance(error, TargetServerAttributeNotMatched) or not is_temporary
    return ConfigurationError(message) if is_permanent else CommandError(message)


def explain(error: Exception) -> str:
    """Describe the error without its text."""
    for kind, explanation in EXPLANATIONS:
        if isinstance(error, kind):
            return explanation
    if isinstance(error, asyncpg.PostgresError):
        return f"the server refused (SQLSTATE {error.sqlstate})"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed ({error.reason})"
    if type(error) is ConnectionError:
        return "the server does not offer TLS, which sslmode demands"
    return "the server does not answer"
