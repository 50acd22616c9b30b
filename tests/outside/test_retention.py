"""Receipts are kept for the promised time, and their digests for two years."""

import asyncio
import sqlite3
from contextlib import closing
from datetime import timedelta

import msgspec
import pytest

from atlas.core.commits import Conclusion, Verdict
from atlas.core.messages import BranchSnapshot, GroupLimits
from atlas.outside.journal.capacity import CapacityLimits
from atlas.outside.journal.retention import PRUNE_MAX, ReceiptRetention, count_days
from atlas.outside.sqlite.journal import open_journal
from tests.conftest import RID
from tests.support.exports import ADA, NOON, export

DAY = timedelta(days=1)
HEAD = BranchSnapshot("", NOON)
COMMITTED = Verdict("committed", transaction=RID)
INSERT_DIGEST = "INSERT INTO digest (id, user, rid, day) VALUES (?, 'somebody', 'ri.old', ?)"


class Calendar:
    """One journal over many simulated days, with exports committed on each."""

    def __init__(self, path, **limits):
        self.path, self.limits, self.today = path, limits, NOON

    async def commit(self, *exports):
        with self.open() as journal:
            await asyncio.gather(*map(journal.intake.append, map(self.arrive, exports)))
            await journal.outbox.claim(GroupLimits(), HEAD, "normal")
            await journal.outbox.record_open(RID, GroupLimits())
            await journal.outbox.conclude(Conclusion(RID, default_verdict=COMMITTED))

    def arrive(self, each):
        """The export as it is when it is sent today."""
        return msgspec.structs.replace(each, at=self.today)

    async def send_again(self, each):
        with self.open() as journal:
            return await journal.intake.append(self.arrive(each))

    def add_digests(self, count, at):
        with closing(sqlite3.connect(self.path)) as db, db:
            db.executemany(
                INSERT_DIGEST, [(f"{at} {number}", count_days(at)) for number in range(count)]
            )

    def count(self, table):
        with closing(sqlite3.connect(self.path)) as db:
            return db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]

    def count_digests(self, at):
        return self.count(f"digest WHERE day = {count_days(at)}")

    async def receipts(self):
        with self.open() as journal:
            page = await journal.receipts.list_page(ADA, None, 1_000, None)
            return [receipt.id for receipt in reversed(page.receipts)]

    def open(self):
        retention = ReceiptRetention(lambda: self.today, **self.limits)
        return open_journal(self.path, CapacityLimits(free_bytes=0), retention=retention)


async def test_a_receipt_is_kept_for_thirty_days_and_its_export_known_from_then_on(tmp_path):
    calendar = Calendar(tmp_path / "journal")
    first, second, third = export(0), export(1), export(2)
    await calendar.commit(first)
    calendar.today += 29 * DAY
    await calendar.commit(second)
    assert await calendar.receipts() == [first.id, second.id]

    calendar.today += 2 * DAY
    await calendar.commit(third)
    assert first.id not in await calendar.receipts()
    with calendar.open() as journal:
        again = await journal.intake.append(first)
        totals = (await journal.ledger.list_entries(None, 1, None)).totals
    assert (again.status, again.transaction, again.replayed) == ("committed", RID, True)
    assert (again.ingested, again.path) == (1, "")
    assert totals["accepted"] == 0


@pytest.mark.parametrize(("days", "kept"), [(7, 6), (9, 3)], ids=["a week", "nine days"])
async def test_of_too_many_the_oldest_go_and_none_within_eight_days(tmp_path, days, kept):
    calendar = Calendar(tmp_path / "journal", exports_max=3)
    await calendar.commit(*map(export, range(5)))
    calendar.today += days * DAY
    await calendar.commit(export(5))
    assert len(await calendar.receipts()) == kept


async def test_what_waits_is_never_shrunk_whatever_the_clock_says(tmp_path):
    calendar = Calendar(tmp_path / "journal")
    with calendar.open() as journal:
        await journal.intake.append(export(0))
        await journal.outbox.claim(GroupLimits(exports_max=1), HEAD, "normal")
        await journal.outbox.conclude(Conclusion())
    calendar.today += 3_650 * DAY
    with calendar.open() as journal:
        await journal.intake.append(export(1))
        await journal.outbox.claim(GroupLimits(), HEAD, "normal")
        await journal.outbox.conclude(Conclusion(verdicts={export(1).id: COMMITTED}))
        group = await journal.outbox.claim(GroupLimits(), HEAD, "normal")
        assert [each.id for each in group.exports] == [export(0).id]


async def test_a_digest_is_kept_for_two_years_and_then_its_export_is_new(tmp_path):
    calendar = Calendar(tmp_path / "journal")
    old, younger = export(0), export(1)
    await calendar.commit(old)
    calendar.today += DAY
    await calendar.commit(younger)
    calendar.today += 729 * DAY
    await calendar.commit(export(2))
    assert (await calendar.send_again(old)).replayed

    calendar.today += DAY
    await calendar.commit(export(3))
    assert (await calendar.send_again(younger)).replayed
    again = await calendar.send_again(old)
    assert (again.status, again.replayed) == ("accepted", False)


async def test_without_a_limit_digests_are_kept_for_ever(tmp_path):
    calendar = Calendar(tmp_path / "journal", digests_days=0)
    await calendar.commit(export(0))
    for number in range(1, 4):
        calendar.today += 3_650 * DAY
        await calendar.commit(export(number))
    assert (await calendar.send_again(export(0))).replayed


async def test_a_commit_deletes_a_few_of_the_oldest_digests_until_it_has_caught_up(tmp_path):
    calendar = Calendar(tmp_path / "journal")
    await calendar.commit(export(0))
    first, second, young = (NOON - days * DAY for days in (1_000, 800, 700))
    calendar.add_digests(2 * PRUNE_MAX, first)
    calendar.add_digests(PRUNE_MAX, second)
    calendar.add_digests(10, young)
    left = []
    for number in range(1, 5):
        await calendar.commit(export(number))
        left.append([calendar.count_digests(at) for at in (first, second, young)])
    assert left == [
        [PRUNE_MAX, PRUNE_MAX, 10],
        [0, PRUNE_MAX, 10],
        [0, 0, 10],
        [0, 0, 10],
    ]


async def test_a_thousand_exports_a_commit_leave_nothing_behind_that_has_expired(tmp_path):
    """Each commit reduces more receipts, and deletes more digests, than were added."""
    calendar = Calendar(tmp_path / "journal", days=8, digests_days=10)
    for day in range(14):
        await calendar.commit(*map(export, range(1_000 * day, 1_000 * (day + 1))))
        calendar.today += DAY
    assert (calendar.count("export"), calendar.count("digest")) == (9_000, 2_000)


async def test_an_export_whose_time_is_corrupt_is_recognized_from_today_on(tmp_path):
    calendar = Calendar(tmp_path / "journal")
    await calendar.commit(export(0))
    with closing(sqlite3.connect(calendar.path)) as db, db:
        db.execute("UPDATE export SET at = '2026-01-0?'")
    calendar.today += 60 * DAY
    await calendar.commit(export(1))
    assert calendar.count_digests(calendar.today) == 1
    assert (await calendar.send_again(export(0))).replayed


async def test_an_export_that_is_committed_after_two_years_is_known_until_the_next_day(tmp_path):
    """Or the journal would not know the transaction that it has just committed."""
    calendar = Calendar(tmp_path / "journal")
    with calendar.open() as journal:
        await journal.intake.append(export(0))
    calendar.today += 1_000 * DAY
    await calendar.commit()
    with calendar.open() as journal:
        assert await journal.outbox.filter_own_transactions([RID]) == {RID}
    assert (await calendar.send_again(export(0))).replayed
    calendar.today += DAY
    await calendar.commit(export(1))
    assert not (await calendar.send_again(export(0))).replayed
