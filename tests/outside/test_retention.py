"""Receipts are kept for the promised time; committed exports are recognized forever."""

from datetime import timedelta

import pytest

from atlas.core.commits import Conclusion, Verdict
from atlas.core.messages import BranchSnapshot, GroupLimits
from atlas.outside.sqlite.capacity import CapacityLimits
from atlas.outside.sqlite.journal import open_journal
from atlas.outside.sqlite.retention import ReceiptRetention
from tests.conftest import RID
from tests.support.exports import ADA, NOON, export

DAY = timedelta(days=1)
HEAD = BranchSnapshot("", NOON)
COMMITTED = Verdict("committed", transaction=RID)


class Calendar:
    """One journal over many simulated days, with exports committed on each."""

    def __init__(self, path, **limits):
        self.path, self.limits, self.today = path, limits, NOON

    async def commit(self, *exports):
        with self.open() as journal:
            for each in exports:
                await journal.intake.append(each)
            await journal.outbox.claim(GroupLimits(), HEAD, "normal")
            await journal.outbox.record_open(RID, GroupLimits())
            await journal.outbox.conclude(Conclusion(RID, default_verdict=COMMITTED))

    async def receipts(self):
        with self.open() as journal:
            page = await journal.receipts.list_page(ADA, None, 1_000, None)
            return [receipt.id for receipt in reversed(page.receipts)]

    def open(self):
        retention = ReceiptRetention(lambda: self.today, **self.limits)
        return open_journal(self.path, CapacityLimits(free_bytes=0), retention=retention)


async def test_a_receipt_is_kept_for_thirty_days_and_its_export_known_for_ever(tmp_path):
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
