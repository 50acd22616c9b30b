"""How a journal is: what waits and for how long, whether it balances, what is noted as begun."""

import shutil
import sqlite3
from collections.abc import Collection
from pathlib import Path

from atlas.core import identifiers
from atlas.core.errors import Unavailable
from atlas.core.inspection import ExportTotals, JournalHealth
from atlas.outside.sqlite.capacity import CapacityLimits
from atlas.outside.sqlite.group_commit import GroupCommit, run_in_commit
from atlas.outside.sqlite.ledger import SELECT, WRITE_TEST, build_entry, find_oldest
from atlas.outside.sqlite.row_codec import RowCodec

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


class SqliteInspector:
    """Answers `ports.Checkup`, for the process that owns the journal; None is one in memory."""

    def __init__(
        self, commits: GroupCommit, entries: RowCodec, limits: CapacityLimits, path: Path | None
    ) -> None:
        self._commits = commits
        self._entries = entries
        self._limits = limits
        self._path = path

    @run_in_commit
    def inspect(self, db: sqlite3.Connection) -> JournalHealth:
        for statement in WRITE_TEST:
            db.execute(statement)
        try:
            return read_condition(db, self._entries, self._limits, self._path)
        except OSError as error:
            why = f"The folder of the journal cannot be looked at: {error.strerror}."
            raise Unavailable(why) from error

    def pseudonym(self, sub: str) -> str:
        return identifiers.pseudonymize(self._entries.seal.user_key, sub)


def read_condition(
    db: sqlite3.Connection,
    entries: RowCodec,
    limits: CapacityLimits,
    path: Path | None,
    notes: tuple[str, ...] = (),
) -> JournalHealth:
    last = db.execute(LAST).fetchone()
    return JournalHealth(
        place="memory" if path is None else str(path),
        bytes=0 if path is None else path.stat().st_size,
        waiting=read_stored_totals(db, WAITS),
        set_aside=read_stored_totals(db, ASIDE),
        counted=(count_totals(db, WAITS), count_totals(db, ASIDE)),
        room=ExportTotals(limits.exports, limits.bytes),
        disk_free=None if path is None else shutil.disk_usage(path.parent).free,
        disk_free_min=limits.free_bytes,
        oldest=find_oldest(db),
        aside=count_reasons(db, IS_ASIDE),
        failed=count_reasons(db, IS_FAILED),
        begun=tuple(rid for (rid,) in db.execute("SELECT rid FROM open_transaction").fetchall()),
        attempts=db.execute(INTENTS).fetchone()[0],
        last=build_entry(last, entries) if last else None,
        copies=() if path is None else list_copies(path),
        notes=notes,
    )


def count_reasons(db: sqlite3.Connection, condition: str) -> dict[str, int]:
    """Count exports by reason; each kind of reason has the instance id of its newest one."""
    return {reason: count for reason, count, _ in db.execute(REASONS.format(condition))}


def read_stored_totals(db: sqlite3.Connection, statuses: Collection[str]) -> ExportTotals:
    """As the totals say it."""
    select = "SELECT coalesce(sum(exports), 0), coalesce(sum(bytes), 0) FROM total WHERE status = ?"
    return sum_amounts([ExportTotals(*db.execute(select, [each]).fetchone()) for each in statuses])


def count_totals(db: sqlite3.Connection, statuses: Collection[str]) -> ExportTotals:
    """As the exports themselves say it; each status has an index of its own."""
    select = "SELECT count(*), coalesce(sum(bytes), 0) FROM export WHERE status = "
    rows = [db.execute(f"{select}'{each}'").fetchone() for each in statuses]
    return sum_amounts([ExportTotals(*each) for each in rows])


def sum_amounts(amounts: Collection[ExportTotals]) -> ExportTotals:
    return ExportTotals(sum(each.exports for each in amounts), sum(each.bytes for each in amounts))


def list_copies(path: Path) -> tuple[str, ...]:
    """Those that were kept of it when it was damaged."""
    paths = path.parent.glob(f"{path.name}.damaged-*")
    return tuple(sorted(each.name for each in paths if not each.name.endswith("-wal")))
