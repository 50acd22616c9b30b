"""The phones and their reports: see atlas/outside/journal/phones.py."""

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

import msgspec
from anyio import to_thread

from atlas.core import identifiers
from atlas.core.messages import FlattenedExport, User
from atlas.core.personal_data import KnownPhone
from atlas.core.phones import PhoneAge, PhonePage, PhoneQuery, PhoneReport, ReportPage
from atlas.outside.journal.cipher import Cipher
from atlas.outside.journal.phone_pages import PageBuilder, build_range
from atlas.outside.journal.phones import (
    DAY_MILLISECONDS,
    DEVICES_MAX,
    PRUNE_MAX,
    PendingPhones,
    PhoneChange,
    PhoneCodec,
    PhoneKey,
    PhoneRow,
    find_horizons,
)
from atlas.outside.journal.reports import (
    REPORTS_MAX,
    REPORTS_MAX_OF_USER,
    ReportCodec,
    ReportRow,
    find_oldest,
)
from atlas.outside.journal.texts import make_storable
from atlas.outside.sqlite.capacity import CapacityLimit
from atlas.outside.sqlite.group_commit import GroupCommit, run_in_commit

STORE_SECONDS = 10.0
DEFERRED_MAX = 5_000  # some 12 MB
STORED_AT_ONCE = 250  # at about 20 µs each, in which nothing else is stored
COLUMNS = "user, device, at, stuck, sealed"
FIND = f"SELECT {COLUMNS} FROM phone WHERE user = ? AND device = ?"
STORE = f"""
    INSERT INTO phone ({COLUMNS}) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (user, device) DO UPDATE
    SET at = excluded.at, stuck = excluded.stuck, sealed = excluded.sealed
"""
COUNT = "SELECT count(*) FROM phone WHERE user = ?"
DROP_EXCESS = f"""
    DELETE FROM phone WHERE user = ?1 AND number NOT IN (
        SELECT number FROM phone WHERE user = ?1 ORDER BY at DESC LIMIT {DEVICES_MAX}
    )
"""
OF_USER = f"SELECT {COLUMNS}, number FROM phone WHERE user = ? ORDER BY at DESC, number DESC"
PAGE = f"""
    SELECT {COLUMNS}, number FROM phone
    WHERE at BETWEEN ? AND ? AND (at, number) < (?, ?) ORDER BY at DESC, number DESC LIMIT ?
"""
AGES = f"""
    SELECT max(0, ?1 - at) / {DAY_MILLISECONDS}, stuck, count(*) FROM phone WHERE at >= ?2
    GROUP BY 1, 2
"""
REPORT_COLUMNS = "user, device, at, sealed"
LAST_REPORTS = """
    SELECT report.user, report.device, report.at, report.sealed FROM json_each(?) AS wanted
    JOIN phone ON phone.number = wanted.value
    JOIN report ON report.number = (
        SELECT max(number) FROM report
        WHERE report.user = phone.user AND report.device = phone.device
    )
"""
STORE_REPORT = f"INSERT INTO report ({REPORT_COLUMNS}) VALUES (?, ?, ?, ?)"
DROP_EXCESS_REPORTS = f"""
    DELETE FROM report WHERE user = ?1 AND number NOT IN (
        SELECT number FROM report WHERE user = ?1 ORDER BY number DESC LIMIT {REPORTS_MAX_OF_USER}
    )
"""
NEXT_USER = "SELECT min(user) FROM report WHERE user > ?"
REPORTS = f"SELECT {REPORT_COLUMNS} FROM report WHERE user = ? ORDER BY number"
WAITING_ROWS = """
    SELECT coalesce(sum(ingested), 0) FROM export
    WHERE user = ? AND status IN ('accepted', 'claimed')
"""
DELETE_PHONES = f"""
    DELETE FROM phone WHERE number IN (
        SELECT number FROM phone WHERE at < ? ORDER BY at LIMIT {PRUNE_MAX}
    )
"""
DELETE_OLDEST_PHONES = """
    DELETE FROM phone WHERE number IN (SELECT number FROM phone ORDER BY at LIMIT ?)
"""
COUNT_PHONES = "SELECT count(*) FROM phone"
DELETE_REPORTS = f"""
    DELETE FROM report WHERE number IN (
        SELECT number FROM report WHERE at < ?1 OR number <= (SELECT max(number) FROM report) - ?2
        ORDER BY number LIMIT {PRUNE_MAX}
    )
"""


@dataclass(slots=True)
class SqlitePhoneWriter:
    """Stores the phones every few seconds, with commits that are made anyway.

    A phone sends many exports at once, and a row costs about 20 µs whenever it changes. A crash
    loses the counts of these seconds; the next export of a phone says that it is not quiet.
    """

    codec: PhoneCodec
    monotonic: Callable[[], float]
    _exports: list[tuple[FlattenedExport, bool]] = field(default_factory=list)  # of this commit
    _deferred: PendingPhones = field(init=False)
    _due_at: float = 0.0
    _due: int = 0  # changes of the last seconds that are not stored yet

    def __post_init__(self) -> None:
        self._deferred = PendingPhones(self.codec)

    def begin(self) -> None:
        """Forget the exports of the last commit: it may have been rolled back."""
        self._exports.clear()

    def add(self, export: FlattenedExport, *, is_replay: bool = False) -> None:
        """Count an export of this commit."""
        self._exports.append((export, is_replay))

    def store_pending(self, db: sqlite3.Connection) -> None:
        """Defer the changes of this commit; store some that are due, and any excess."""
        self._defer()
        deferred = len(self._deferred.changes)
        if deferred and self.monotonic() >= self._due_at:
            self._due_at, self._due = self.monotonic() + STORE_SECONDS, deferred
        self._store_first(db, max(min(self._due, STORED_AT_ONCE), deferred - DEFERRED_MAX))

    def store_deferred(self, db: sqlite3.Connection) -> None:
        self._due_at = self.monotonic() + STORE_SECONDS
        self._store_first(db, len(self._deferred.changes))

    def finish(self, db: sqlite3.Connection) -> None:
        """Store everything."""
        self._defer()
        self.store_deferred(db)

    def forget(self, hashed_user: str) -> None:
        """Drop what is not stored yet: its exports are being erased."""
        self._exports = [
            each
            for each in self._exports
            if self.codec.cipher.hash_user(each[0].head.user.sub) != hashed_user
        ]
        self._deferred.forget(hashed_user)

    def add_reporter(self, db: sqlite3.Connection, user: User, device: str, at: int) -> None:
        """Store a phone that has sent a report, unless it is known."""
        if db.execute(FIND, self.codec.build_key(user.sub, device)).fetchone() is None:
            self._insert(db, self.codec.build_reporter(user.sub, device, at))

    def _defer(self) -> None:
        for export, is_replay in self._exports:
            if is_replay:
                self._deferred.add_replay(export)
            else:
                self._deferred.add(export)
        self._exports.clear()

    def _store_first(self, db: sqlite3.Connection, limit: int) -> None:
        self._due = max(0, self._due - limit)
        for key, change in self.codec.sort(self._deferred.take(limit)):
            self._store(db, key, change)

    def _store(self, db: sqlite3.Connection, key: PhoneKey, change: PhoneChange) -> None:
        columns = db.execute(FIND, key).fetchone()
        row = self.codec.apply(None if columns is None else PhoneRow(*columns), key, change)
        if row is not None and columns is None:
            self._insert(db, row)
        elif row is not None:
            db.execute(STORE, row)

    def _insert(self, db: sqlite3.Connection, row: PhoneRow) -> None:
        db.execute(STORE, row)
        if db.execute(COUNT, [row.user]).fetchone()[0] > DEVICES_MAX:
            db.execute(DROP_EXCESS, [row.user])


class SqlitePhones:
    """Implements `ports.PhoneBook`."""

    def __init__(
        self,
        commits: GroupCommit,
        cipher: Cipher,
        capacity: CapacityLimit,
        writer: SqlitePhoneWriter,
    ) -> None:
        self._commits = commits
        self._writer = writer
        self._cipher = cipher
        self._reports = ReportCodec(cipher)
        self._capacity = capacity

    async def list_phones(
        self, query: PhoneQuery, now: datetime, quiet_days: int, user: User | None = None
    ) -> PhonePage:
        rows, reports = await self._read_page(query, now, user)
        ages = await self.count_ages(now)
        builder = PageBuilder(self._cipher, quiet_days, now)
        limit = query.limit if user is None else None
        # in a thread of its own, so that the journal's is not blocked
        return await to_thread.run_sync(builder.build, rows, reports, ages, limit)

    @run_in_commit
    def _read_page(
        self, db: sqlite3.Connection, query: PhoneQuery, now: datetime, user: User | None
    ) -> tuple[list[tuple[PhoneRow, int]], list[ReportRow]]:
        self._writer.store_deferred(db)
        if user is not None:
            found = db.execute(OF_USER, [self._cipher.hash_user(user.sub)]).fetchall()
        else:
            found = db.execute(PAGE, [*build_range(query, now), query.limit + 1]).fetchall()
        rows = [(PhoneRow(*columns), number) for *columns, number in found]
        numbers = msgspec.json.encode([number for _, number in rows]).decode()
        return rows, [ReportRow(*each) for each in db.execute(LAST_REPORTS, [numbers])]

    @run_in_commit
    def count_ages(self, db: sqlite3.Connection, now: datetime) -> Sequence[PhoneAge]:
        self._writer.store_deferred(db)
        return read_ages(db, now)

    @run_in_commit
    def store_report(
        self, db: sqlite3.Connection, user: User, report: PhoneReport, received_at: datetime
    ) -> None:
        row = self._reports.seal(user, report, received_at)
        self._capacity.check(db, len(row.sealed))
        db.execute(STORE_REPORT, row)
        db.execute(DROP_EXCESS_REPORTS, [row.user])
        self._writer.add_reporter(db, user, report.device, row.at)

    async def list_counts(self, after: str, user: User | None = None) -> ReportPage:
        hashed = None if user is None else self._cipher.hash_user(user.sub)
        rows, waiting_rows = await self._read_reports(after, hashed)
        build = partial(self._reports.build_page, rows, waiting_rows, has_next=user is None)
        return await to_thread.run_sync(build)

    @run_in_commit
    def _read_reports(
        self, db: sqlite3.Connection, after: str, hashed_user: str | None
    ) -> tuple[list[ReportRow], int]:
        if hashed_user is None:
            (hashed_user,) = db.execute(NEXT_USER, [make_storable(after)]).fetchone()
        reports = [ReportRow(*each) for each in db.execute(REPORTS, [hashed_user])]
        return reports, db.execute(WAITING_ROWS, [hashed_user]).fetchone()[0]

    @run_in_commit
    def prune(self, db: sqlite3.Connection, now: datetime, phones_max: int) -> int:
        _, forget = find_horizons(now)
        pruned = db.execute(DELETE_PHONES, [forget]).rowcount
        excess = db.execute(COUNT_PHONES).fetchone()[0] - phones_max
        if excess > 0:
            pruned += db.execute(DELETE_OLDEST_PHONES, [min(excess, PRUNE_MAX)]).rowcount
        return pruned + db.execute(DELETE_REPORTS, [find_oldest(now), REPORTS_MAX]).rowcount


def read_ages(db: sqlite3.Connection, now: datetime) -> list[PhoneAge]:
    """Count the phones of the last 30 days by age."""
    seen, _ = find_horizons(now)
    ages = db.execute(AGES, [identifiers.count_milliseconds(now), seen])
    return [PhoneAge(days, bool(stuck), phones) for days, stuck, phones in ages]


def list_phones(
    db: sqlite3.Connection, codec: PhoneCodec, hashed_user: str
) -> tuple[KnownPhone, ...]:
    """Return the phones of a user."""
    rows = [PhoneRow(*columns[:-1]) for columns in db.execute(OF_USER, [hashed_user])]
    return tuple(codec.describe(row) for row in rows)
