"""All that the journal keeps of one person, and how it forgets them.

Deleted rows leave their bytes in free pages and in the log; those of committed exports have done so
long before. So the whole file is written anew behind a purge. That it is due is noted in the same
commit: when we are killed in between, it is made up for.

One thing is kept, under the keyed hash: which files of others hold rows of theirs. No rule of ours
takes those out, so whoever has to must be able to ask again.
"""

import sqlite3
from collections.abc import Sequence

import msgspec

from atlas.core import identifiers
from atlas.core.errors import Unavailable
from atlas.core.messages import User
from atlas.core.personal_data import JournalHoldings, PurgeResult, SetAsideExport, SharedFile
from atlas.outside.sqlite.group_commit import GroupCommit, run_in_commit
from atlas.outside.sqlite.row_codec import RowCodec
from atlas.outside.sqlite.search import PUBLIC_STATUS

EXPORTS = f"SELECT {PUBLIC_STATUS}, count(*) FROM export WHERE user = ? GROUP BY 1 ORDER BY 1"
SHARED = f"""
    SELECT file, count(*) FROM export
    WHERE user = ? AND status = 'committed' AND file IS NOT NULL AND file NOT IN {identifiers.FORMATS}
    GROUP BY file ORDER BY file
"""
ASIDE = """
    SELECT id, bytes, coalesce(reason, '') FROM export
    WHERE user = ? AND status = 'set_aside' ORDER BY number
"""
DIGESTS = "SELECT coalesce(rid, ''), count(*) FROM digest WHERE user = ? GROUP BY 1"
CLAIMED = "SELECT 1 FROM export WHERE user = ? AND status = 'claimed'"
WAITING = "SELECT id FROM export WHERE user = ? AND status IN ('accepted', 'set_aside')"
DUE = "INSERT OR REPLACE INTO secret VALUES ('rewrite', randomblob(8))"
IS_DUE = "SELECT value FROM secret WHERE name = 'rewrite'"
DONE = "DELETE FROM secret WHERE name = 'rewrite' AND value = ?"  # not of who came meanwhile
KEEP = "INSERT OR REPLACE INTO secret VALUES (?, ?)"
FORGET = "DELETE FROM secret WHERE name = ?"
KEPT = "SELECT value FROM secret WHERE name = ?"

_shared = msgspec.msgpack.Decoder(tuple[SharedFile, ...])


class SqlitePersonalData:
    """Answers `ports.PersonRecords`."""

    def __init__(self, commits: GroupCommit, entries: RowCodec) -> None:
        self._commits = commits
        self._entries = entries

    @run_in_commit
    def read_holdings(self, db: sqlite3.Connection, user: User) -> JournalHoldings:
        given = [self._entries.seal.hash_user(user.sub)]
        return JournalHoldings(
            user=given[0][: identifiers.PSEUDONYM_CHARACTERS],
            exports=dict(db.execute(EXPORTS, given).fetchall()),
            shared=(
                *read_purge_note(db, *given),
                *(SharedFile(*row) for row in db.execute(SHARED, given)),
            ),
            aside=tuple(SetAsideExport(*row) for row in db.execute(ASIDE, given)),
            digests=dict(db.execute(DIGESTS, given).fetchall()),
        )

    @run_in_commit
    def purge(
        self, db: sqlite3.Connection, user: User, shared: Sequence[SharedFile]
    ) -> PurgeResult:
        given = [self._entries.seal.hash_user(user.sub)]
        if db.execute(CLAIMED, given).fetchone():
            raise Unavailable("Some of it is on its way to Foundry just now: ask again later.")
        rows = dict(db.execute(EXPORTS, given).fetchall())
        waiting = tuple(id for (id,) in db.execute(WAITING, given))
        (before,) = db.execute("PRAGMA secure_delete").fetchone()
        db.execute("PRAGMA secure_delete = ON")
        for table in ("binding", "digest"):
            rows[table] = db.execute(f"DELETE FROM {table} WHERE user = ?", given).rowcount
        db.execute("DELETE FROM export WHERE user = ?", given)
        db.execute(f"PRAGMA secure_delete = {before}")
        found = {kind: count for kind, count in rows.items() if count}
        if found:
            db.execute(DUE)
        db.execute(FORGET, [build_note_name(*given)])
        if shared:
            db.execute(KEEP, [build_note_name(*given), msgspec.msgpack.encode(shared)])
        return PurgeResult(given[0][: identifiers.PSEUDONYM_CHARACTERS], found, waiting)

    async def rewrite(self) -> None:
        due = await self._commits.run(lambda db: db.execute(IS_DUE).fetchone())
        if due is not None:
            await self._commits.vacuum()
            await self._commits.run(lambda db: db.execute(DONE, due).rowcount)


def read_purge_note(db: sqlite3.Connection, user: str) -> tuple[SharedFile, ...]:
    """What an earlier purge has left."""
    row = db.execute(KEPT, [build_note_name(user)]).fetchone()
    return _shared.decode(*row) if row else ()


def build_note_name(user: str) -> str:
    return f"shared {user}"
