"""Reconciliation of the journal with the dataset: exports that the journal has not committed."""

import anyio

from atlas.core.commits import Conclusion, Verdict
from atlas.core.messages import BranchSnapshot, GroupLimits
from atlas.core.personal_data import DatasetFile
from atlas.outside.journal.capacity import CapacityLimits
from atlas.outside.sqlite.journal import open_journal
from atlas.outside.sqlite.reconciliation import PAGE
from tests.support.exports import NOON, SHELF, export

BOUNDS = CapacityLimits(free_bytes=0)
THERE = DatasetFile("healthkit/groups/2026-01-02T12-00-00-000Z.ndjson", "ri.1", 3)
HEAD = BranchSnapshot("", NOON)
COMMITTED = Verdict("committed", transaction="ri.0")
REFUSED = Verdict("refused", "it is bad", is_certain=True)


async def append_exports(journal, count):
    async with anyio.create_task_group() as phones:
        for number in range(count):
            phones.start_soon(journal.intake.append, export(number))


async def try_commit(journal, verdicts, count=1):
    """Commit the oldest `count` exports; those without a verdict are released."""
    limits = GroupLimits(exports_max=count)
    await journal.outbox.claim(limits, HEAD, "normal")
    await journal.outbox.record_open("ri.0", limits)
    return await journal.outbox.conclude(Conclusion("ri.0", verdicts, tries_max=1))


async def list_uncommitted_ids(journal):
    found, page = [], await journal.outbox.list_uncommitted("")
    while page:
        assert len(page) <= PAGE
        found += [each.exports[0].id for each in page]
        page = await journal.outbox.list_uncommitted(found[-1])
    return found


async def test_it_is_told_page_by_page_in_the_order_of_acceptance():
    with open_journal(None, BOUNDS, retention=SHELF) as journal:
        await append_exports(journal, PAGE + 1)
        assert await list_uncommitted_ids(journal) == [
            export(number).id for number in range(PAGE + 1)
        ]


async def test_a_page_goes_on_behind_what_was_found_in_between():
    with open_journal(None, BOUNDS, retention=SHELF) as journal:
        await append_exports(journal, 3)
        await journal.outbox.mark_found([(THERE, [export(1).id])])
        (rest,) = await journal.outbox.list_uncommitted(export(1).id)
    assert rest.exports[0].id == export(2).id


async def test_of_what_is_refused_the_rows_are_told_too_and_of_what_is_committed_none():
    with open_journal(None, BOUNDS, retention=SHELF) as journal:
        await append_exports(journal, 3)
        verdicts = {export(0).id: COMMITTED, export(1).id: REFUSED}
        receipts = await try_commit(journal, verdicts, count=2)
        assert [receipt.status for receipt in receipts] == ["committed", "set_aside"]
        assert await list_uncommitted_ids(journal) == [export(1).id, export(2).id]
        assert await journal.outbox.filter_own_transactions(["ri.0", "ri.1"]) == {"ri.0"}


async def test_what_is_found_in_a_file_is_committed_there_and_leaves_room():
    with open_journal(None, BOUNDS, retention=SHELF) as journal:
        await append_exports(journal, 3)
        await try_commit(journal, {export(0).id: REFUSED})
        ids = [export(number).id for number in range(2)]
        receipts = await journal.outbox.mark_found([(THERE, ids)])
        assert await journal.outbox.mark_found([(THERE, ids)]) == []
        listing = await journal.ledger.list_entries(None, 9, None)

    assert [receipt.id for receipt in receipts] == ids
    assert {receipt.status for receipt in receipts} == {"committed"}
    assert {receipt.path for receipt in receipts} == {THERE.path}
    assert {receipt.transaction for receipt in receipts} == {THERE.transaction}
    assert {name: count for name, count in listing.totals.items() if count} == {
        "accepted": 1,
        "committed": 2,
    }
    assert {each.reason for each in listing.entries} == {None}
