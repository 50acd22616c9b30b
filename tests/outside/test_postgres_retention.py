"""Receipts, erased people and set-aside exports in a journal of several replicas."""

import asyncio
from datetime import timedelta

import pytest

from atlas.core.errors import JournalFull, Unavailable
from atlas.core.messages import ExportMetadata, RawExport, User
from atlas.core.personal_data import SharedFile
from atlas.outside.journal.bindings import Binding
from atlas.outside.journal.capacity import CapacityLimits
from atlas.outside.postgres.recent import RecentExport, RecentExports
from atlas.outside.postgres.sealing import SealedColumns
from tests.support.exports import ADA, NOON
from tests.support.replicas import (
    accept,
    an_export,
    begin,
    claim,
    commit,
    conclude,
    later,
    set_aside,
)

EVE = User("auth0|eve")
DAY = timedelta(days=1)
POISON = RawExport(ExportMetadata(ADA, "", "", ""), b"{}")


@pytest.fixture
async def pair(replicas):
    async with replicas.pair() as pair:
        await pair[0].leadership.acquire()
        yield pair


@pytest.mark.parametrize("key", [None, "k"])
async def test_an_export_of_which_a_digest_is_left_is_not_stored(replicas, key):
    async with replicas.open() as journal:
        await replicas.sql("INSERT INTO @.digest VALUES ('id-1', 'somebody', 'ri.old', 20000)")
        (receipt,) = await accept(journal, "id-1", key=key)
    assert (receipt.status, receipt.transaction, receipt.replayed) == ("committed", "ri.old", True)
    assert await replicas.count("export") == 0


# erasure


async def test_a_person_is_erased_at_all_replicas_and_nobody_else(replicas, pair):
    first, second = pair
    await accept(first, "id-1", key="k")
    await accept(first, "id-2")
    await accept(second, "of eve", user=EVE)
    await commit(first, "id-1")
    shared = (SharedFile("groups/a.ndjson", 1),)
    purged = await second.personal_data.purge(ADA, shared)

    assert purged.rows == {"accepted": 1, "committed": 1, "binding": 1}
    assert purged.waiting == ("id-2",)
    page = await first.receipts.list_page(ADA, None, 10, None)
    assert page.receipts == ()
    assert (await first.personal_data.read_holdings(ADA)).shared == shared
    assert await claim(first) == ["of eve"]
    await second.personal_data.rewrite()
    assert await replicas.count("payload") == 1


async def test_a_purge_waits_for_no_appends_and_they_do_not_wait_for_it(replicas, pair):
    """It holds the lease, so that nothing is claimed, and nothing else."""
    first, second = pair
    await accept(first, "id-1")
    blocked = await hold(replicas, "SELECT FROM @.export WHERE id = 'id-1' FOR UPDATE")
    async with blocked:
        purge = asyncio.create_task(second.personal_data.purge(ADA, ()))
        await asyncio.sleep(0.2)
        async with asyncio.timeout(1):
            await accept(first, "id-2")
            await accept(first, "id-3", key="k", user=EVE)
        uploads = asyncio.create_task(claim(first))
        await asyncio.wait([uploads], timeout=0.2)
        assert not uploads.done()  # it could claim what is about to be deleted
        assert not purge.done()
    assert (await purge).waiting[0] == "id-1"
    assert "id-1" not in await uploads


async def hold(replicas, statement):
    """Return a context in which a transaction holds what the statement has locked."""
    import asyncpg  # noqa: PLC0415

    connection = await asyncpg.connect(replicas.url.partition("?")[0])

    class Held:
        async def __aenter__(self):
            await connection.execute("BEGIN")
            await connection.fetch(statement.replace("@.", f"{replicas.schema}."))

        async def __aexit__(self, *_):
            await connection.execute("COMMIT")
            await connection.close()

    return Held()


async def test_what_is_claimed_is_not_purged(replicas, pair):
    first, second = pair
    await accept(first, "id-1")
    await begin(first)
    before = await replicas.snapshot()
    with pytest.raises(Unavailable, match="being uploaded"):
        await second.personal_data.purge(ADA, ())
    assert await replicas.snapshot() == before

    await conclude(first)
    assert (await second.personal_data.purge(ADA, ())).waiting == ("id-1",)


async def test_no_replica_stores_again_what_was_erased(replicas, pair):
    """Neither the one that was asked, nor one that accepted it, whether or not it was committed."""
    first, second = pair
    now = later(an_export(), seconds=await seconds_since_noon(replicas))
    await first.intake.append(now)
    await accept(first, "id-2")
    await accept(first, "of eve", user=EVE)
    await commit(first, "id-1")
    await second.personal_data.purge(ADA, ())
    await replicas.sql("DELETE FROM @.export")
    first.intake.offer_again()
    second.intake.offer_again()
    while not await replicas.count("export"):
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)

    assert await first.outbox.list_doubtful() == ["of eve"]


async def test_what_was_erased_and_sent_again_is_stored_again_after_a_failover(replicas, pair):
    first, _ = pair
    await accept(first, "id-1")
    await first.personal_data.purge(ADA, ())
    await first.intake.append(later(an_export(), seconds=await seconds_since_noon(replicas)))
    await replicas.sql("DELETE FROM @.export")
    first.intake.offer_again()
    async with asyncio.timeout(3):
        while not await replicas.count("export"):
            await asyncio.sleep(0.01)

    assert await first.outbox.list_doubtful() == ["id-1"]


async def test_who_erased_somebody_holds_nothing_of_them(replicas, pair):
    first, _ = pair
    await accept(first, "id-1")
    await first.personal_data.purge(ADA, ())
    await accept(first, "of eve", user=EVE)
    await replicas.sql("DELETE FROM @.erased", "DELETE FROM @.export")
    first.intake.offer_again()
    while not await replicas.count("export"):
        await asyncio.sleep(0.01)

    assert await first.outbox.list_doubtful() == ["of eve"]


async def seconds_since_noon(replicas):
    return float(
        await replicas.sql(
            f"SELECT extract(epoch FROM clock_timestamp() - timestamptz '{NOON.isoformat()}')"
        )
    )


async def test_names_of_erased_exports_are_forgotten_after_an_hour(replicas, pair):
    first, second = pair
    await accept(first, "id-1")
    await first.personal_data.purge(ADA, ())
    await replicas.sql("UPDATE @.erased SET at = at - interval '61 minutes'")
    await accept(first, "of eve", user=EVE)
    await first.personal_data.purge(EVE, ())

    assert await replicas.count("erased") == 2  # an export, and its user
    outcomes = await second.peers.read_outcomes(["id-1", "of eve"])
    assert outcomes.erased == ("of eve",)
    assert "of eve" not in await replicas.sql("SELECT string_agg(name, ' ') FROM @.erased")


# dead letters


async def test_what_crashes_a_stage_is_shared(replicas, pair):
    first, second = pair
    (one, two) = await asyncio.gather(
        *(each.dead_letters.store(POISON, "poison", NOON) for each in pair)
    )
    assert {one.replayed, two.replayed} == {False, True}
    assert await second.dead_letters.list_original_ids() == ["poison"]
    assert await first.dead_letters.read_original("poison") == POISON

    await second.dead_letters.delete("poison")
    assert await first.dead_letters.read_original("poison") is None
    assert await replicas.count("payload") == 0


async def test_what_is_set_aside_at_one_replica_is_replayed_or_abandoned_at_another(replicas, pair):
    first, second = pair
    await accept(first, "id-1", "id-2", "id-3")
    for id in ("id-1", "id-2"):
        await set_aside(first, id)
    await first.dead_letters.store(POISON, "poison", NOON)

    assert await second.dead_letters.requeue("id-1") == 1
    assert await second.dead_letters.requeue("poison") == 0  # only through the flow
    assert await second.dead_letters.abandon("id-2") == 1
    assert await second.dead_letters.abandon("id-3") == 0  # it still waits
    assert await replicas.count("payload") == 3
    (again,) = await accept(second, "id-2")
    assert (again.status, again.replayed) == ("accepted", False)
    assert await second.dead_letters.requeue(None) == 0
    assert (await first.ledger.read_totals()).imbalance == 0


async def test_a_full_journal_takes_no_dead_letters_either(replicas):
    async with replicas.open(limits=CapacityLimits(exports=1)) as journal:
        await accept(journal, "id-1")
        with pytest.raises(JournalFull):
            await journal.dead_letters.store(POISON, "poison", NOON)


# what a replica holds after it was accepted


def recent(name, size=10, sender="ada"):
    columns = SealedColumns(name, sender, NOON, 1, 0, 100, 7, b"l" * 2, b"p" * (size - 2))
    return RecentExport(columns, (Binding("key", 0, 1, name),))


def ids(held):
    return [each.id for each in held.list()]


def hold_recent(seconds, bytes_max=100):
    """Return what a replica holds, and a function that lets the primary answer at a time."""
    now = [0.0]
    held = RecentExports(seconds, lambda: now[0], bytes_max)

    def confirm(at):
        now[0] = at
        held.confirm()

    return held, confirm


def test_what_was_accepted_is_held_for_a_time_and_within_bytes():
    held, confirm = hold_recent(60.0)
    held.add([recent("a"), recent("b")])
    confirm(30.0)
    held.add([recent("c", 70)])
    assert ids(held) == ["a", "b", "c"]
    confirm(59.9)
    assert ids(held) == ["a", "b", "c"]
    held.add([recent("d", 15)])  # 105 bytes
    assert ids(held) == ["b", "c", "d"]
    confirm(60.0)
    assert ids(held) == ["c", "d"]
    confirm(200.0)
    assert ids(held) == []
    held.add([recent("e", 100)])
    assert ids(held) == ["e"]  # the bytes of the others are free again


def test_nothing_that_is_held_grows_old_between_a_failover_and_the_offer():
    held, confirm = hold_recent(60.0)
    held.add([recent("a"), recent("b")])
    held.hold()
    confirm(1_000.0)
    held.add([recent("c", 85)])  # 105 bytes: the bound holds all the same
    assert ids(held) == ["b", "c"]
    held.release()  # all are stored once more
    confirm(1_059.9)
    assert ids(held) == ["b", "c"]
    confirm(1_060.0)
    assert ids(held) == []


def test_a_replica_that_shall_hold_nothing_holds_nothing():
    held = RecentExports(0.0, lambda: 7.0)
    held.add([recent("a")])
    assert ids(held) == []


def test_who_is_erased_is_not_held():
    held = RecentExports(60.0, lambda: 0.0, bytes_max=100)
    held.add([recent("a", 60), recent("b", 30, sender="eve")])
    held.forget_sender("ada")
    assert ids(held) == ["b"]
    held.add([recent("c", 70)])
    assert ids(held) == ["b", "c"]
