"""What the journal has that the dataset has not, as far as it knows."""

import anyio

from atlas.core.messages import BranchSnapshot, GroupLimits
from atlas.core.people import Standing
from atlas.outside.sqlite.backlog import PAGE
from atlas.outside.sqlite.journal import opened
from atlas.outside.sqlite.room import Bounds
from tests.exports import NOON, SHELF, export

BOUNDS = Bounds(free_bytes=0)
THERE = Standing("healthkit/groups/2026-01-02T12-00-00-000Z.ndjson", "ri.1", 3)


async def kept(journal, count):
    async with anyio.create_task_group() as phones:
        for number in range(count):
            phones.start_soon(journal.intake.append, export(number))


async def unsent(journal):
    found, page = [], await journal.outbox.unsent("")
    while page:
        assert len(page) <= PAGE
        found += [each.exports[0].id for each in page]
        page = await journal.outbox.unsent(found[-1])
    return found


async def test_it_is_told_page_by_page_in_the_order_of_acceptance():
    with opened(None, BOUNDS, shelf=SHELF) as journal:
        await kept(journal, PAGE + 1)
        assert await unsent(journal) == [export(number).id for number in range(PAGE + 1)]


async def test_of_what_is_refused_the_rows_are_told_too_and_of_what_is_committed_none():
    with opened(None, BOUNDS, shelf=SHELF) as journal:
        await kept(journal, 3)
        await journal.outbox.claim(GroupLimits(exports_max=2), BranchSnapshot("", NOON))
        await journal.outbox.note("ri.0", GroupLimits(exports_max=2))
        await journal.outbox.complete([export(0).id], "ri.0")
        await journal.outbox.fail([export(1).id], tries_max=1)
        assert await unsent(journal) == [export(1).id, export(2).id]
        assert await journal.outbox.known(["ri.0", "ri.1"]) == {"ri.0"}


async def test_what_is_found_in_a_file_is_committed_there_and_leaves_room():
    with opened(None, BOUNDS, shelf=SHELF) as journal:
        await kept(journal, 3)
        await journal.outbox.claim(GroupLimits(exports_max=1), BranchSnapshot("", NOON))
        await journal.outbox.fail([export(0).id], tries_max=0)
        ids = [export(number).id for number in range(2)]
        receipts = await journal.outbox.found([(THERE, ids)])
        assert await journal.outbox.found([(THERE, ids)]) == []
        listing = await journal.ledger.listing(None, 9, None)

    assert [receipt.id for receipt in receipts] == ids
    assert {receipt.status for receipt in receipts} == {"committed"}
    assert {receipt.path for receipt in receipts} == {THERE.path}
    assert {receipt.transaction for receipt in receipts} == {THERE.transaction}
    assert {name: count for name, count in listing.totals.items() if count} == {
        "accepted": 1,
        "committed": 2,
    }
    assert {each.reason for each in listing.entries} == {None}


async def test_a_journal_that_has_committed_nothing_knows_no_transaction():
    with opened(None, BOUNDS, shelf=SHELF) as journal:
        await kept(journal, 1)
        assert await journal.outbox.known(["ri.0"]) == frozenset()
