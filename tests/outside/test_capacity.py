"""The capacity limit of the journal, and the retry delay when it is full."""

import shutil
import sqlite3
from contextlib import closing

import pytest

from atlas.core.errors import JournalFull
from atlas.outside.journal.capacity import MEASURED_SECONDS, CapacityLimits
from atlas.outside.journal.group_rules import SMALL_BYTES
from atlas.outside.sqlite.capacity import CapacityLimit


class CapacityHarness:
    """A capacity limit over a table of totals, with a clock that the test sets."""

    def __init__(self, db, **bounds):
        self.now, self.db = 0.0, db
        self.limit = CapacityLimit(CapacityLimits(**bounds), None, lambda: self.now)
        db.execute("CREATE TABLE total (status TEXT, exports INTEGER, bytes INTEGER)")
        db.execute("INSERT INTO total VALUES ('accepted', 0, 0)")

    def fill(self, exports, size):
        self.db.execute("UPDATE total SET exports = ?, bytes = ?", [exports, size])

    def seconds_to_wait(self, more_bytes=1):
        with pytest.raises(JournalFull) as full:
            self.limit.check(self.db, more_bytes)
        return full.value.retry_seconds


@pytest.fixture
def harness():
    with closing(sqlite3.connect(":memory:")) as db:
        yield CapacityHarness(db, bytes=1_000_000, exports=100)


def test_there_is_room_up_to_the_bound_of_bytes_and_of_exports(harness):
    harness.fill(99, 999_999)
    harness.limit.check(harness.db, 1)
    harness.fill(99, 1_000_000)
    assert harness.seconds_to_wait()
    harness.fill(100, 5)
    assert harness.seconds_to_wait()


def test_who_is_turned_away_is_told_when_there_will_be_room(harness):
    """The delay frees at least 1 % of the bound, at the rate of the last minute."""
    harness.fill(10, 1_000_000)
    assert harness.seconds_to_wait() == JournalFull.retry_seconds, "nothing is known"
    for _ in range(60):
        harness.now += 1
        harness.limit.record_committed(1_000)
    assert harness.seconds_to_wait() == pytest.approx(10)
    assert harness.seconds_to_wait(more_bytes=30_000) == pytest.approx(30)
    harness.limit.record_committed(10_000_000)
    assert harness.seconds_to_wait() == 5, "and never at once"


def test_a_commit_of_nothing_says_nothing_about_room(harness):
    harness.fill(10, 1_000_000)
    harness.limit.record_committed(0)
    assert harness.seconds_to_wait() == JournalFull.retry_seconds


def test_what_was_drained_long_ago_says_nothing(harness):
    harness.fill(10, 1_000_000)
    harness.limit.record_committed(1)
    assert harness.seconds_to_wait() == 300
    harness.now += MEASURED_SECONDS + 1
    assert harness.seconds_to_wait() == JournalFull.retry_seconds


def test_a_disk_that_others_fill_is_full_before_it_is(tmp_path):
    with closing(sqlite3.connect(":memory:")) as db:
        free = shutil.disk_usage(tmp_path).free
        harness = CapacityHarness(db)
        for bound, is_full in ((free // 2, False), (free * 2, True)):
            limit = CapacityLimit(CapacityLimits(free_bytes=bound), tmp_path, lambda: 0.0)
            if is_full:
                with pytest.raises(JournalFull, match="disk"):
                    limit.check(harness.db, 1)
            else:
                limit.check(harness.db, 1)


def test_the_last_of_the_room_is_for_what_is_small():
    with closing(sqlite3.connect(":memory:")) as db:
        harness = CapacityHarness(db, bytes=100 * SMALL_BYTES, exports=100)
        harness.fill(1, 80 * SMALL_BYTES)
        harness.limit.check(db, SMALL_BYTES - 1)
        assert harness.seconds_to_wait(more_bytes=SMALL_BYTES)
