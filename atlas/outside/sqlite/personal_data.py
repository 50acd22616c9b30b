"""The data of one person in the journal, and its erasure.

Deleted rows leave their bytes in free pages and in the write-ahead log. So do rows that were
deleted earlier, at a commit. So after a purge the whole file is rewritten. The same commit
records that a rewrite is due, so that it is not lost if the process is killed in between.
"""

import sqlite3
from collections.abc import Sequence

from atlas.core import identifiers
from atlas.core.errors import Unavailable
from atlas.core.messages import User
from atlas.core.personal_data import JournalHoldings, PurgeResult, SetAsideExport, SharedFile
from atlas.outside.journal.personal_data import (
    build_shared_key,
    decode_shared_files,
    encode_shared_files,
)
from atlas.outside.journal.phones import PhoneCodec
from atlas.outside.journal.retention import NEIGHBOUR_DAYS
from atlas.outside.journal.row_codec import RowCodec
from atlas.outside.sqlite.group_commit import GroupCommit, run_in_commit
from atlas.outside.sqlite.phones import SqlitePhoneWriter, list_phones
from atlas.outside.sqlite.retention import read_horizon
from atlas.outside.sqlite.search import PUBLIC_STATUS

EXPORTS = f"SELECT {PUBLIC_STATUS}, count(*) FROM export WHERE user = ? GROUP BY 1 ORDER BY 1"
SHARED = f"""
    SELECT file, count(*) FROM export
    WHERE user = ? AND status = 'committed'
        AND file IS NOT NULL AND file NOT IN {identifiers.FORMATS}
    GROUP BY file ORDER BY file
"""
SET_ASIDE = """
    SELECT id, bytes, coalesce(reason, '') FROM export
    WHERE user = ? AND status = 'set_aside' ORDER BY number
"""
DIGESTS = "SELECT coalesce(rid, ''), count(*) FROM digest WHERE user = ? GROUP BY 1"
NEIGHBOURS = "SELECT DISTINCT rid FROM digest WHERE day < ? AND rid IS NOT NULL"
CLAIMED = "SELECT 1 FROM export WHERE user = ? AND status = 'claimed'"
WAITING = "SELECT id FROM export WHERE user = ? AND status IN ('accepted', 'set_aside')"
COUNT_REPORTS = "SELECT count(*) FROM report WHERE user = ?"
REQUEST_REWRITE = "INSERT OR REPLACE INTO secret VALUES ('rewrite', randomblob(8))"
READ_REWRITE = "SELECT value FROM secret WHERE name = 'rewrite'"
# compares the value, because a purge during the rewrite may have requested another one
CLEAR_REWRITE = "DELETE FROM secret WHERE name = 'rewrite' AND value = ?"
STORE = "INSERT OR REPLACE INTO secret VALUES (?, ?)"
DELETE = "DELETE FROM secret WHERE name = ?"
READ = "SELECT value FROM secret WHERE name = ?"


class SqlitePersonalData:
    """Implements `ports.PersonalDataStore`."""

    def __init__(self, commits: GroupCommit, codec: RowCodec, phones: SqlitePhoneWriter) -> None:
        self._commits = commits
        self._codec = codec
        self._phones = phones

    @run_in_commit
    def read_holdings(self, db: sqlite3.Connection, user: User) -> JournalHoldings:
        hashed = self._codec.cipher.hash_user(user.sub)
        self._phones.store_deferred(db)
        return JournalHoldings(
            user=hashed[: identifiers.PSEUDONYM_CHARACTERS],
            exports=dict(db.execute(EXPORTS, [hashed]).fetchall()),
            shared=(
                *read_shared_files(db, hashed),
                *(SharedFile(*row) for row in db.execute(SHARED, [hashed])),
            ),
            aside=tuple(SetAsideExport(*row) for row in db.execute(SET_ASIDE, [hashed])),
            digests=dict(db.execute(DIGESTS, [hashed]).fetchall()),
            incomplete=read_incomplete(db),
            phones=list_phones(db, PhoneCodec(self._codec.cipher), hashed),
            reports=db.execute(COUNT_REPORTS, [hashed]).fetchone()[0],
        )

    @run_in_commit
    def purge(
        self, db: sqlite3.Connection, user: User, shared: Sequence[SharedFile]
    ) -> PurgeResult:
        hashed = self._codec.cipher.hash_user(user.sub)
        if db.execute(CLAIMED, [hashed]).fetchone():
            raise Unavailable("Some exports of this user are being uploaded. Try again later.")
        counts = dict(db.execute(EXPORTS, [hashed]).fetchall())
        waiting = tuple(id for (id,) in db.execute(WAITING, [hashed]))
        (before,) = db.execute("PRAGMA secure_delete").fetchone()
        db.execute("PRAGMA secure_delete = ON")
        for table in ("binding", "digest", "phone", "report"):
            counts[table] = db.execute(f"DELETE FROM {table} WHERE user = ?", [hashed]).rowcount
        self._phones.forget(hashed)
        db.execute("DELETE FROM export WHERE user = ?", [hashed])
        db.execute(f"PRAGMA secure_delete = {before}")
        purged = {kind: count for kind, count in counts.items() if count}
        if purged:
            db.execute(REQUEST_REWRITE)
        db.execute(DELETE, [build_shared_key(hashed)])
        if shared:
            db.execute(STORE, [build_shared_key(hashed), encode_shared_files(shared)])
        return PurgeResult(hashed[: identifiers.PSEUDONYM_CHARACTERS], purged, waiting)

    async def rewrite(self) -> None:
        request = await self._commits.run(lambda db: db.execute(READ_REWRITE).fetchone())
        if request is not None:
            await self._commits.vacuum()
            await self._commits.run(lambda db: db.execute(CLEAR_REWRITE, request).rowcount)


def read_incomplete(db: sqlite3.Connection) -> frozenset[str] | None:
    """Return the known transactions some of whose digests may be deleted; None if all are kept."""
    horizon = read_horizon(db)
    if horizon is None:
        return None
    return frozenset(rid for (rid,) in db.execute(NEIGHBOURS, [horizon + NEIGHBOUR_DAYS]))


def read_shared_files(db: sqlite3.Connection, hashed_user: str) -> Sequence[SharedFile]:
    """Return the shared files that an earlier purge recorded."""
    row = db.execute(READ, [build_shared_key(hashed_user)]).fetchone()
    return decode_shared_files(row[0] if row else None)
