"""What is not in the dataset, as far as the journal knows; and what turns out to be there."""

import sqlite3
from collections.abc import Collection

import msgspec

from atlas.core import names
from atlas.core.people import Standing
from atlas.outside.sqlite.aside import CRASHED
from atlas.outside.sqlite.entries import COLUMNS, Row

PAGE = 1_000
NEWEST = f"SELECT rid FROM export WHERE status = 'committed' ORDER BY number DESC LIMIT {PAGE}"
KNOWN = """
    SELECT rid FROM export WHERE status = 'committed' AND rid IN (SELECT value FROM json_each(:all))
    UNION SELECT rid FROM digest WHERE rid IN (SELECT value FROM json_each(:all))
"""
UNSENT = f"""
    SELECT {COLUMNS}, number FROM export WHERE status = 'accepted' AND number > :after
    UNION ALL
    SELECT {COLUMNS}, number FROM export WHERE status = 'set_aside' AND number > :after
        AND reason IS NOT '{CRASHED}' AND payload IS NOT NULL
    ORDER BY number LIMIT {PAGE}
"""
FOUND = f"""
    UPDATE export SET
        status = 'committed', rid = ?, file = ?, file_bytes = ?, payload = NULL, reason = NULL
    WHERE status IN ('accepted', 'set_aside') AND id IN (SELECT value FROM json_each(?))
    RETURNING {COLUMNS}
"""


def known(db: sqlite3.Connection, transactions: Collection[str]) -> frozenset[str]:
    """No index finds a transaction. As a rule it is one of the last; else all is read, once."""
    asked = frozenset(transactions)
    found = asked.intersection(rid for (rid,) in db.execute(NEWEST))
    if found != asked:
        given = {"all": msgspec.json.encode(list(asked)).decode()}
        found = frozenset(rid for (rid,) in db.execute(KNOWN, given))
    return found


def unsent(db: sqlite3.Connection, after: str) -> list[Row]:
    """The next page; a row that is found in between is still there to go on from."""
    found = db.execute("SELECT number FROM export WHERE id = ?", [after]).fetchone()
    given = {"after": found[0] if found else 0}
    return [Row(*row[:-1]) for row in db.execute(UNSENT, given).fetchall()]


def complete(db: sqlite3.Connection, ids: Collection[str], there: Standing) -> list[Row]:
    file: str | None = there.path
    if names.is_own(there.path):
        file = names.format_of(there.path)
    given = [there.transaction, file, there.bytes, msgspec.json.encode(list(ids)).decode()]
    return [Row(*row) for row in db.execute(FOUND, given).fetchall()]
