"""Receipts are kept for the promised time, and their digests for two years, by both engines."""

import asyncio
import sqlite3
from contextlib import asynccontextmanager, closing
from datetime import timedelta

import msgspec
import pytest

from atlas.outside.journal.capacity import CapacityLimits
from atlas.outside.journal.retention import PRUNE_MAX, ReceiptRetention, count_days
from atlas.outside.sqlite.journal import open_journal
from tests.support.exports import ADA, NOON, export
from tests.support.replicas import COMMITTED, RID, begin, claim, commit, conclude

DAY = timedelta(days=1)
INSERT_DIGESTS = """
    INSERT INTO @.digest WITH RECURSIVE counted (n) AS (
        SELECT 1 UNION ALL SELECT n + 1 FROM counted WHERE n < {1}
    ) SELECT '{0} ' || n, 'somebody', 'ri.old', {0} FROM counted
"""


class JournalFile:
    """A journal in a file, with the methods of a schema of replicas."""

    def __init__(self, path):
        self.path = path

    @asynccontextmanager
    async def open(self, **options):
        with open_journal(self.path, CapacityLimits(free_bytes=0), **options) as journal:
            yield journal

    async def sql(self, statement):
        with closing(sqlite3.connect(self.path)) as db, db:
            return (db.execute(statement.replace("@.", "")).fetchone() or [None])[0]

    async def count(self, table, where="true"):
        return await self.sql(f"SELECT count(*) FROM @.{table} WHERE {where}")


@pytest.fixture
def file(tmp_path):
    return JournalFile(tmp_path / "journal")


@pytest.fixture(params=["file", "replicas"])
def store(request):
    return request.getfixturevalue(request.param)


class Calendar:
    """One journal over many simulated days, with exports committed on each."""

    def __init__(self, store, **limits):
        self.store, self.today = store, NOON
        self.retention = ReceiptRetention(lambda: self.today, **limits)

    def open(self):
        return self.store.open(retention=self.retention)

    async def commit(self, *exports):
        async with self.open() as journal:
            await asyncio.gather(*map(journal.intake.append, map(self.arrive, exports)))
            await journal.leadership.acquire()
            await begin(journal)
            await conclude(journal, {}, COMMITTED)
            await journal.leadership.release()

    def arrive(self, each):
        """The export as it is when it is sent today."""
        return msgspec.structs.replace(each, at=self.today)

    async def send_again(self, each):
        async with self.open() as journal:
            return await journal.intake.append(self.arrive(each))

    async def count_digests(self, at):
        return await self.store.count("digest", f"day = {count_days(at)}")

    async def receipts(self):
        async with self.open() as journal:
            page = await journal.receipts.list_page(ADA, None, 1_000, None)
            return [receipt.id for receipt in reversed(page.receipts)]

    async def has_lost_digests(self):
        async with self.open() as journal:
            return (await journal.personal_data.read_holdings(ADA)).incomplete is not None


async def test_a_receipt_is_kept_for_thirty_days_and_its_export_known_from_then_on(store):
    calendar = Calendar(store)
    first, second, third = export(0), export(1), export(2)
    await calendar.commit(first)
    calendar.today += 29 * DAY
    await calendar.commit(second)
    assert await calendar.receipts() == [first.id, second.id]

    calendar.today += 2 * DAY
    await calendar.commit(third)
    assert await calendar.receipts() == [second.id, third.id]
    again = await calendar.send_again(first)
    assert (again.status, again.transaction, again.replayed) == ("committed", RID, True)
    assert (again.ingested, again.path) == (1, "")
    assert await store.count("export", "status = 'accepted'") == 0


@pytest.mark.parametrize(("days", "kept"), [(7, 6), (9, 3)], ids=["a week", "nine days"])
async def test_of_too_many_the_oldest_go_and_none_within_eight_days(store, days, kept):
    calendar = Calendar(store, exports_max=3)
    await calendar.commit(*map(export, range(5)))
    calendar.today += days * DAY
    await calendar.commit(export(5))
    assert len(await calendar.receipts()) == kept


async def test_what_waits_is_never_shrunk_whatever_the_clock_says(store):
    calendar = Calendar(store)
    async with calendar.open() as journal:
        await journal.intake.append(export(0))
    calendar.today += 3_650 * DAY
    async with calendar.open() as journal:
        await journal.intake.append(calendar.arrive(export(1)))
        await journal.leadership.acquire()
        await commit(journal, export(1).id)
        assert await claim(journal) == [export(0).id]


async def test_a_digest_is_kept_for_two_years_and_then_its_export_is_new(store):
    calendar = Calendar(store)
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
    assert await calendar.has_lost_digests()


async def test_without_a_limit_digests_are_kept_for_ever(store):
    calendar = Calendar(store, digests_days=0)
    await calendar.commit(export(0))
    for number in range(1, 4):
        calendar.today += 3_650 * DAY
        await calendar.commit(export(number))
    assert (await calendar.send_again(export(0))).replayed
    assert not await calendar.has_lost_digests()


async def test_a_commit_deletes_a_few_of_the_oldest_digests_until_it_has_caught_up(store):
    calendar = Calendar(store)
    await calendar.commit(export(0))
    first, second, young = days = [NOON - days * DAY for days in (1_000, 800, 700)]
    for at, count in ((first, 2 * PRUNE_MAX), (second, PRUNE_MAX), (young, 10)):
        await store.sql(INSERT_DIGESTS.format(count_days(at), count))
    left = []
    for number in range(1, 5):
        await calendar.commit(export(number))
        left.append([await calendar.count_digests(at) for at in days])
    assert left == [[PRUNE_MAX, PRUNE_MAX, 10], [0, PRUNE_MAX, 10], [0, 0, 10], [0, 0, 10]]


async def test_a_transaction_of_which_only_digests_are_left_is_known(store):
    calendar = Calendar(store)
    await calendar.commit(export(0))
    calendar.today += 40 * DAY
    await calendar.commit(export(1))
    await store.sql("DELETE FROM @.export")
    async with store.open() as journal:
        assert await journal.outbox.filter_own_transactions([RID, "ri.other"]) == {RID}


# only in a file


async def test_a_thousand_exports_a_commit_leave_nothing_behind_that_has_expired(file):
    """Each commit reduces more receipts, and deletes more digests, than were added."""
    calendar = Calendar(file, days=8, digests_days=10)
    for day in range(14):
        await calendar.commit(*map(export, range(1_000 * day, 1_000 * (day + 1))))
        calendar.today += DAY
    assert (await file.count("export"), await file.count("digest")) == (9_000, 2_000)


async def test_an_export_whose_time_is_corrupt_is_recognized_from_today_on(file):
    calendar = Calendar(file)
    await calendar.commit(export(0))
    await file.sql("UPDATE export SET at = '2026-01-0?'")
    calendar.today += 60 * DAY
    await calendar.commit(export(1))
    assert await calendar.count_digests(calendar.today) == 1
    assert (await calendar.send_again(export(0))).replayed


async def test_an_export_that_is_committed_after_two_years_is_known_until_the_next_day(file):
    """Or the journal would not know the transaction that it has just committed."""
    calendar = Calendar(file)
    async with calendar.open() as journal:
        await journal.intake.append(export(0))
    calendar.today += 1_000 * DAY
    await calendar.commit()
    async with calendar.open() as journal:
        assert await journal.outbox.filter_own_transactions([RID]) == {RID}
    assert (await calendar.send_again(export(0))).replayed
    calendar.today += DAY
    await calendar.commit(export(1))
    assert not (await calendar.send_again(export(0))).replayed
