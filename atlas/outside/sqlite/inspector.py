"""Reports the condition of a journal: waiting exports, totals, open transactions, disk space."""

import shutil
import sqlite3
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from atlas.core import identifiers
from atlas.core.errors import Unavailable
from atlas.core.inspection import (
    COUNTED_EXPORTS_MAX,
    CommittedRows,
    ExportTotals,
    JournalHealth,
)
from atlas.outside.journal.capacity import CapacityLimits
from atlas.outside.journal.entries import build_entry
from atlas.outside.journal.row_codec import RowCodec
from atlas.outside.sqlite import schema
from atlas.outside.sqlite.group_commit import GroupCommit, run_in_commit
from atlas.outside.sqlite.ledger import SELECT, WRITE_TEST, find_oldest, split_row
from atlas.outside.sqlite.phones import read_ages
from atlas.outside.sqlite.stream import read_backlog

INSTANCE = " (errorInstanceId"  # the part of a reason from here on differs for each response
KIND = f"substr(reason, 1, instr(reason || '{INSTANCE}', '{INSTANCE}') - 1)"
# `reason` is that of the row with the highest turn, the newest: https://sqlite.org/lang_select.html,
# "bare columns in an aggregate query"
REASONS = f"""
    SELECT coalesce(reason, 'no reason'), count(*), max(turn) FROM export
    WHERE {{}} GROUP BY {KIND} ORDER BY 1
"""
IS_SET_ASIDE = "status = 'set_aside'"
IS_FAILED = "status IN ('accepted', 'claimed') AND isolation > 0"
LAST = f"{SELECT} WHERE status = 'committed' ORDER BY number DESC LIMIT 1"
COMMITTED = f"""
    SELECT count(*), coalesce(sum(ingested), 0), min(number), rid FROM (
        SELECT number, ingested, rid FROM export WHERE status = 'committed'
        ORDER BY number DESC LIMIT {COUNTED_EXPORTS_MAX}
    )
"""
INTENTS = "SELECT count(*) FROM intent"


class SqliteInspector:
    """Implements `ports.JournalInspector` for an open journal. `path` is None if in memory."""

    def __init__(
        self, commits: GroupCommit, codec: RowCodec, limits: CapacityLimits, path: Path | None
    ) -> None:
        self._commits = commits
        self._codec = codec
        self._limits = limits
        self._path = path

    @run_in_commit
    def inspect(self, db: sqlite3.Connection) -> JournalHealth:
        for statement in WRITE_TEST:
            db.execute(statement)
        try:
            return read_condition(db, self._codec, self._limits, self._path)
        except OSError as error:
            raise Unavailable(
                f"The folder of the journal cannot be read: {error.strerror}."
            ) from error

    def pseudonym(self, sub: str) -> str:
        return identifiers.pseudonymize(self._codec.cipher.user_key, sub)


def read_condition(
    db: sqlite3.Connection,
    codec: RowCodec,
    limits: CapacityLimits,
    path: Path | None,
    notes: tuple[str, ...] = (),
) -> JournalHealth:
    last = db.execute(LAST).fetchone()
    totals = list(schema.compare_totals(db))
    stored = [(status, ExportTotals(*each)) for status, each, _ in totals]
    counted = [(status, ExportTotals(*each)) for status, _, each in totals]
    return JournalHealth(
        path="memory" if path is None else str(path),
        bytes=0 if path is None else path.stat().st_size,
        waiting=sum_totals(stored, is_set_aside=False),
        set_aside=sum_totals(stored, is_set_aside=True),
        actual=(
            sum_totals(counted, is_set_aside=False),
            sum_totals(counted, is_set_aside=True),
        ),
        capacity=ExportTotals(limits.exports, limits.bytes),
        disk_free=None if path is None else shutil.disk_usage(path.parent).free,
        disk_free_min=limits.free_bytes,
        oldest=find_oldest(db),
        set_aside_reasons=count_reasons(db, IS_SET_ASIDE),
        failed=count_reasons(db, IS_FAILED),
        open_transactions=tuple(
            rid for (rid,) in db.execute("SELECT rid FROM open_transaction").fetchall()
        ),
        attempts=db.execute(INTENTS).fetchone()[0],
        last=build_entry(split_row(last), codec) if last else None,
        committed=read_committed(db),
        damaged_copies=() if path is None else list_copies(path),
        notes=notes,
        unpublished=read_backlog(db),
        phones=tuple(read_ages(db, datetime.now(UTC))),
    )


def read_committed(db: sqlite3.Connection) -> CommittedRows:
    exports, rows, _, oldest = db.execute(COMMITTED).fetchone()  # the transaction of min(number)
    return CommittedRows(exports, rows, oldest or "")


def count_reasons(db: sqlite3.Connection, condition: str) -> dict[str, int]:
    """Count exports by reason, ignoring instance ids; the newest one of each kind is shown."""
    return {reason: count for reason, count, _ in db.execute(REASONS.format(condition))}


def sum_totals(totals: Iterable[tuple[str, ExportTotals]], *, is_set_aside: bool) -> ExportTotals:
    """Sum the totals of set-aside exports, or of waiting ones."""
    amounts = [each for status, each in totals if (status == "set_aside") == is_set_aside]
    return ExportTotals(sum(each.exports for each in amounts), sum(each.bytes for each in amounts))


def list_copies(path: Path) -> tuple[str, ...]:
    """Return the names of the copies kept when the journal was damaged."""
    paths = path.parent.glob(f"{path.name}.damaged-*")
    return tuple(sorted(each.name for each in paths if not each.name.endswith("-wal")))
