"""Transactions of two replicas that meet: each is held open until the other waits for it."""

import asyncio
from contextlib import asynccontextmanager

import asyncpg
import pytest

from tests.support.exports import ADA
from tests.support.replicas import RID, accept, an_export, commit, open_replicas

WAITS = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE {} = ANY(pg_blocking_pids(pid)))"


@pytest.fixture
async def replicas(postgres_servers):
    async with open_replicas(postgres_servers) as replicas:
        yield replicas


@pytest.fixture
async def pair(replicas):
    async with replicas.pair() as pair:
        yield pair


@asynccontextmanager
async def open_transaction(replicas, *statements):
    """Yield a function that waits until another transaction waits for this one."""
    connection = await asyncpg.connect(replicas.server.url)

    async def wait_for_another():
        async with asyncio.timeout(5):
            while not await replicas.sql(WAITS.format(connection.get_server_pid())):
                await asyncio.sleep(0.02)

    try:
        async with connection.transaction():
            for statement in statements:
                await connection.execute(statement.replace("@.", f"{replicas.schema}."))
            yield wait_for_another
    finally:
        await connection.close()


PRUNE = (
    "INSERT INTO @.digest (id, sender, rid, day) SELECT id, sender, rid, 20000 FROM @.export",
    "DELETE FROM @.export",
)


@pytest.mark.parametrize("key", [None, "k"])
async def test_a_resend_that_meets_the_pruning_of_its_receipt_is_a_replay(replicas, pair, key):
    first, second = pair
    await accept(first, "id-1")
    assert await first.leadership.acquire() == 1
    await commit(first, "id-1")
    async with open_transaction(replicas, *PRUNE) as wait_for_another:
        resending = asyncio.create_task(second.intake.append(an_export("id-1", key=key)))
        await wait_for_another()
    receipt = await resending

    assert (receipt.status, receipt.replayed, receipt.transaction) == ("committed", True, RID)
    assert await replicas.count("export") == 0
    assert await replicas.count("digest") == 1


async def test_a_term_begins_without_reading_all_digests_and_a_search_may_take_long(replicas, pair):
    """There are gigabytes of them, and no index by transaction."""
    journal, _ = pair
    await replicas.sql("INSERT INTO @.digest VALUES ('id-1', 'somebody', 'ri.old', 20000)")
    await journal.outbox.has_committed_lately(RID)  # so that it is connected
    journal.outbox._session._seconds = 0.5
    async with open_transaction(replicas, "LOCK TABLE @.digest") as wait_for_another:
        assert not await journal.outbox.has_committed_lately("ri.old")
        search = asyncio.create_task(journal.outbox.filter_own_transactions(["ri.old", RID]))
        await wait_for_another()
        await asyncio.sleep(0.7)
    assert await search == {"ri.old"}


async def test_an_export_that_is_accepted_during_a_purge_is_reported_as_erased(replicas, pair):
    first, second = pair
    await accept(first, "id-1", key="k")
    async with open_transaction(replicas, "SELECT FROM @.binding FOR UPDATE") as wait_for_another:
        purging = asyncio.create_task(first.personal_data.purge(ADA, ()))
        await wait_for_another()
        (receipt,) = await accept(second, "id-2")
    purged = await purging

    assert receipt.status == "accepted"
    assert set(purged.waiting) == {"id-1", "id-2"}
    assert purged.rows.items() >= {("accepted", 2), ("binding", 1)}
    assert set((await second.peers.read_outcomes(["id-1", "id-2"])).erased) == {"id-1", "id-2"}
