"""The capacity limit of the journal, and the retry delay when it is full."""

import shutil
import sqlite3
from contextlib import closing

import pytest

from atlas.core.errors import JournalFull
from atlas.outside.sqlite.capacity import (
    MEASURED_SECONDS,
    SMALL_BYTES,
    CapacityLimit,
    CapacityLimits,
)


class Kept:
    """A capacity limit over a table of totals, with a clock that the test sets."""

    def __init__(self, db, **bounds):
        self.now, self.db = 0.0, db
        self.room = CapacityLimit(CapacityLimits(**bounds), None, lambda: self.now)
        db.execute("CREATE TABLE total (status TEXT, exports INTEGER, bytes INTEGER)")
        db.execute("INSERT INTO total VALUES ('accepted', 0, 0)")

    def fill(self, exports, size):
        self.db.execute("UPDATE total SET exports = ?, bytes = ?", [exports, size])

    def seconds_to_wait(self, more_bytes=1):
        with pytest.raises(JournalFull) as full:
            self.room.check(self.db, more_bytes)
        return full.value.retry_seconds


@pytest.fixture
def kept():
    with closing(sqlite3.connect(":memory:")) as db:
        yield Kept(db, bytes=1_000_000, exports=100)


def test_there_is_room_up_to_the_bound_of_bytes_and_of_exports(kept):
    kept.fill(99, 999_999)
    kept.room.check(kept.db, 1)
    kept.fill(99, 1_000_000)
    assert kept.seconds_to_wait()
    kept.fill(100, 5)
    assert kept.seconds_to_wait()


def test_who_is_turned_away_is_told_when_there_will_be_room(kept):
    """The delay frees at least 1 % of the bound, at the rate of the last minute."""
    kept.fill(10, 1_000_000)
    assert kept.seconds_to_wait() == JournalFull.retry_seconds, "nothing is known"
    for _ in range(60):
        kept.now += 1
        kept.room.record_committed(1_000)
    assert kept.seconds_to_wait() == pytest.approx(10)
    assert kept.seconds_to_wait(more_bytes=30_000) == pytest.approx(30)
    kept.room.record_committed(10_000_000)
    assert kept.seconds_to_wait() == 5, "and never at once"


def test_a_commit_of_nothing_says_nothing_about_room(kept):
    kept.fill(10, 1_000_000)
    kept.room.record_committed(0)
    assert kept.seconds_to_wait() == JournalFull.retry_seconds


def test_what_was_drained_long_ago_says_nothing(kept):
    kept.fill(10, 1_000_000)
    kept.room.record_committed(1)
    assert kept.seconds_to_wait() == 300
    kept.now += MEASURED_SECONDS + 1
    assert kept.seconds_to_wait() == JournalFull.retry_seconds


def test_a_disk_that_others_fill_is_full_before_it_is(tmp_path):
    with closing(sqlite3.connect(":memory:")) as db:
        free = shutil.disk_usage(tmp_path).free
        kept = Kept(db)
        for bound, is_full in ((free // 2, False), (free * 2, True)):
            room = CapacityLimit(CapacityLimits(free_bytes=bound), tmp_path, lambda: 0.0)
            if is_full:
                with pytest.raises(JournalFull, match="disk"):
                    room.check(kept.db, 1)
            else:
                room.check(kept.db, 1)


def test_the_last_of_the_room_is_for_what_is_small():
    with closing(sqlite3.connect(":memory:")) as db:
        kept = Kept(db, bytes=100 * SMALL_BYTES, exports=100)
        kept.fill(1, 80 * SMALL_BYTES)
        kept.room.check(db, SMALL_BYTES - 1)
        assert kept.seconds_to_wait(more_bytes=SMALL_BYTES)
