"""What is not in the dataset, as far as the journal knows; and what turns out to be there."""

import sqlite3
from collections.abc import Collection, Sequence

import msgspec

from atlas.core import names
from atlas.core.people import Standing
from atlas.outside.sqlite.aside import CRASHED
from atlas.outside.sqlite.entries import COLUMNS, Row

PAGE = 1_000
LAST = "SELECT rid FROM export WHERE status = 'committed' ORDER BY number DESC LIMIT 1"
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


def last(db: sqlite3.Connection) -> str | None:
    found = db.execute(LAST).fetchone()
    return found[0] if found else None


def unsent(db: sqlite3.Connection, after: str) -> list[Row]:
    """The next page; a row that is found in between is still there to go on from."""
    found = db.execute("SELECT number FROM export WHERE id = ?", [after]).fetchone()
    given = {"after": found[0] if found else 0}
    return [Row(*row[:-1]) for row in db.execute(UNSENT, given).fetchall()]


def complete(db: sqlite3.Connection, ids: Collection[str], there: Standing) -> Sequence[Row]:
    file: str | None = there.path
    if names.is_own(there.path):
        file = names.format_of(there.path)
    given = [there.transaction, file, there.bytes, msgspec.json.encode(list(ids)).decode()]
    return [Row(*row) for row in db.execute(FOUND, given).fetchall()]
