"""How a journal is: what waits and for how long, whether it balances, what is noted as begun."""

import shutil
import sqlite3
from collections.abc import Collection
from pathlib import Path

from atlas.core import names
from atlas.core.errors import Unavailable
from atlas.core.sights import Amount, Condition
from atlas.outside.sqlite.commits import Commits, run_in_commit
from atlas.outside.sqlite.entries import Entries
from atlas.outside.sqlite.ledger import SELECT, TOUCH, entry_of, oldest
from atlas.outside.sqlite.room import Bounds

WAITS, ASIDE = ("accepted", "claimed"), ("set_aside",)
INSTANCE = " (errorInstanceId"  # from here on, a reason is of one answer alone
KIND = f"substr(reason, 1, instr(reason || '{INSTANCE}', '{INSTANCE}') - 1)"
# reason is that of the row with the highest turn, the newest: https://sqlite.org/lang_select.html,
# "bare columns in an aggregate query"
REASONS = f"""
    SELECT coalesce(reason, 'no reason'), count(*), max(turn) FROM export
    WHERE {{}} GROUP BY {KIND} ORDER BY 1
"""
IS_ASIDE = "status = 'set_aside'"
IS_FAILED = "status IN ('accepted', 'claimed') AND isolation > 0"
LAST = f"{SELECT} WHERE status = 'committed' ORDER BY number DESC LIMIT 1"
INTENTS = "SELECT count(*) FROM intent"


class SqliteCheckup:
    """Answers `ports.Checkup`, for the process that owns the journal; None is one in memory."""

    def __init__(
        self, commits: Commits, entries: Entries, bounds: Bounds, path: Path | None
    ) -> None:
        self._commits = commits
        self._entries = entries
        self._bounds = bounds
        self._path = path

    @run_in_commit
    def condition(self, db: sqlite3.Connection) -> Condition:
        for statement in TOUCH:
            db.execute(statement)
        try:
            return condition(db, self._entries, self._bounds, self._path)
        except OSError as error:
            why = f"The folder of the journal cannot be looked at: {error.strerror}."
            raise Unavailable(why) from error

    def pseudonym(self, sub: str) -> str:
        return names.pseudonym(self._entries.seal.user_key, sub)


def condition(
    db: sqlite3.Connection,
    entries: Entries,
    bounds: Bounds,
    path: Path | None,
    notes: tuple[str, ...] = (),
) -> Condition:
    last = db.execute(LAST).fetchone()
    return Condition(
        place="memory" if path is None else str(path),
        bytes=0 if path is None else path.stat().st_size,
        waiting=noted(db, WAITS),
        set_aside=noted(db, ASIDE),
        counted=(counted(db, WAITS), counted(db, ASIDE)),
        room=Amount(bounds.exports, bounds.bytes),
        disk_free=None if path is None else shutil.disk_usage(path.parent).free,
        disk_free_min=bounds.free_bytes,
        oldest=oldest(db),
        aside=reasons(db, IS_ASIDE),
        failed=reasons(db, IS_FAILED),
        begun=tuple(rid for (rid,) in db.execute("SELECT rid FROM open_transaction").fetchall()),
        attempts=db.execute(INTENTS).fetchone()[0],
        last=entry_of(last, entries) if last else None,
        copies=() if path is None else copies(path),
        notes=notes,
    )


def reasons(db: sqlite3.Connection, condition: str) -> dict[str, int]:
    """Count exports by reason; each kind of reason has the instance id of its newest one."""
    return {reason: count for reason, count, _ in db.execute(REASONS.format(condition))}


def noted(db: sqlite3.Connection, statuses: Collection[str]) -> Amount:
    """As the totals say it."""
    select = "SELECT coalesce(sum(exports), 0), coalesce(sum(bytes), 0) FROM total WHERE status = ?"
    return summed([Amount(*db.execute(select, [each]).fetchone()) for each in statuses])


def counted(db: sqlite3.Connection, statuses: Collection[str]) -> Amount:
    """As the exports themselves say it; each status has an index of its own."""
    select = "SELECT count(*), coalesce(sum(bytes), 0) FROM export WHERE status = "
    found = [db.execute(f"{select}'{each}'").fetchone() for each in statuses]
    return summed([Amount(*each) for each in found])


def summed(amounts: Collection[Amount]) -> Amount:
    return Amount(sum(each.exports for each in amounts), sum(each.bytes for each in amounts))


def copies(path: Path) -> tuple[str, ...]:
    """Those that were kept of it when it was damaged."""
    found = path.parent.glob(f"{path.name}.damaged-*")
    return tuple(sorted(each.name for each in found if not each.name.endswith("-wal")))
