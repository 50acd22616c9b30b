"""Errors of the database, and what they mean for a caller.

The text of an error is never passed on, because it may quote a value.
"""

import copy

import asyncpg

from atlas.core.errors import AtlasError, JournalAway, JournalFull

DISK_FULL = "53100"
# The statement had no effect and can be sent again: deadlock, serialization, lock timeout, and a
# reference to an export that was deleted meanwhile.
CONFLICTS = {"40P01", "40001", "55P03", "23503"}
# The server is going away or is not the primary: another connection may find a better one.
GONE_CLASSES = ("08", "57")
GONE = {"25006", "25P03", "53300", "XX000"}
CONNECTION_ERRORS = (OSError, EOFError, asyncpg.InterfaceError, asyncpg.InternalClientError)
DATABASE_ERRORS = (asyncpg.PostgresError, *CONNECTION_ERRORS)


class OldPrimary(JournalAway):
    """The server that answered was the primary before a failover: its successor may answer soon."""


def is_connection_lost(error: BaseException) -> bool:
    """True if the connection can no longer be used."""
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        return state.startswith(GONE_CLASSES) or state in GONE
    return isinstance(error, (*CONNECTION_ERRORS, OldPrimary))


def is_conflict(error: BaseException) -> bool:
    return isinstance(error, asyncpg.PostgresError) and error.sqlstate in CONFLICTS


def is_journal_missing(error: BaseException) -> bool:
    return isinstance(error, asyncpg.UndefinedTableError | asyncpg.InvalidSchemaNameError)


def build_error(error: BaseException) -> AtlasError:
    """Return the error for a sender."""
    if isinstance(error, OldPrimary):
        return copy.copy(error)
    if isinstance(error, asyncpg.PostgresError):
        if error.sqlstate == DISK_FULL:
            return JournalFull("The disk of the journal's database is full.")
        return JournalAway(f"The journal's database failed (SQLSTATE {error.sqlstate}).")
    return JournalAway("The journal's database cannot be reached.")
