"""Deaths and failovers of the journal's database: nothing that was acknowledged is lost."""

import asyncio
import itertools
import time
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass, field

import asyncpg
import pytest

from atlas.core.errors import Deposed, JournalAway, Unavailable
from atlas.core.events import ExportsOfferedAgain, JournalFailedOver, OldPrimaryRefused
from atlas.core.messages import BranchSnapshot, ExportMetadata, FlattenedExport, GroupLimits
from atlas.local.postgres import PostgresServer
from atlas.outside.postgres.address import parse_address
from tests.support.exports import ADA, NOON, SHELF, export, packed
from tests.support.postgres import open_postgres_journal, run_sql
from tests.support.postgres_proxy import run_postgres_proxy
from tests.support.temporary_postgres import create_standby, promote, run_temporary_server

ALL = GroupLimits()
SEEN = BranchSnapshot("ri.foundry.main.transaction.0", NOON)
CLIENTS = 8
WAITS = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep' LIMIT 1"

numbers = itertools.count(1)


def build_export():
    new = export(next(numbers))
    head = ExportMetadata(ADA, "phone", "", "")
    return FlattenedExport(new.id, head, new.at, packed(b'{"uuid":"a"}\n', 1))


# A block with an exception handler is a transaction of its own number
USE_NUMBERS = """
    DO $$ BEGIN
        CREATE TEMP TABLE used (number integer);
        FOR number IN 1..1000 LOOP
            BEGIN INSERT INTO used VALUES (number); EXCEPTION WHEN others THEN RAISE; END;
        END LOOP;
    END $$
"""


@dataclass
class Clients:
    """Clients that send one export after the other, each until it is acknowledged."""

    journal: object
    acknowledged: dict[str, float] = field(default_factory=dict)
    refusals: int = 0

    async def run(self):
        while True:
            new = build_export()
            while new.id not in self.acknowledged:
                try:
                    await self.journal.intake.append(new)
                    self.acknowledged[new.id] = time.monotonic()
                except Unavailable:
                    self.refusals += 1
                    await asyncio.sleep(0.05)

    async def wait_for_more(self, count=50):
        """Wait until this many more exports are acknowledged."""
        enough = len(self.acknowledged) + count
        async with asyncio.timeout(30):
            while len(self.acknowledged) < enough:
                await asyncio.sleep(0.01)

    def measure_stall(self, since=0.0):
        """Return the longest time without an acknowledgement that ended after this moment."""
        times = sorted(self.acknowledged.values())
        return max(
            after - max(before, since)
            for before, after in itertools.pairwise(times)
            if after >= since
        )


@asynccontextmanager
async def run_clients(journal):
    clients = Clients(journal)
    tasks = [asyncio.create_task(clients.run()) for _ in range(CLIENTS)]
    try:
        await clients.wait_for_more()
        yield clients
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def keep_lease(journal):
    """Ask for the lease each second, as every replica does."""

    async def ask():
        while True:
            try:
                await journal.leadership.acquire()
                await asyncio.sleep(1)
            except Unavailable:
                pass

    asking = asyncio.create_task(ask())
    try:
        yield
    finally:
        asking.cancel()


def report(text):
    print(text)  # noqa: T201  # pytest shows it with a failure, or with -s


def list_failovers(journal):
    """Return the events that a failover is reported by, without those of lost connections."""
    wanted = JournalFailedOver | ExportsOfferedAgain
    return [event for event in journal.events if isinstance(event, wanted)]


async def wait_for_offer(journal):
    """Return the events of a failover, once the replica has told what it stored again."""

    async def find():
        events = list_failovers(journal)
        return events if len(events) > 1 else None

    return await wait_for(find)


@asynccontextmanager
async def listen(journal):
    """Exchange notifications and heartbeats, as every replica does."""

    async def ignore(topic):
        pass

    listening = asyncio.create_task(journal.peers.listen(ignore))
    try:
        yield
    finally:
        listening.cancel()


async def find_missing(server, ids):
    expected = set(ids)  # before the statement: clients go on
    (present,) = await run_sql(server, "SELECT coalesce(array_agg(id), '{}') FROM atlas.export")
    assert len(present) == len(set(present))
    return expected - set(present)


async def count_copies(server, id):
    (copies,) = await run_sql(server, f"SELECT count(*) FROM atlas.export WHERE id = '{id}'")
    return copies


async def wait_for(find, seconds=10):
    """Return the first result that is true."""
    async with asyncio.timeout(seconds):
        while not (found := await find()):
            await asyncio.sleep(0.02)
    return found


def build_url(server, *ports):
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
    return server.url.replace(f"127.0.0.1:{server.port}", hosts)


@pytest.fixture
def server(postgres_servers):
    """A server of the test's own."""
    with run_temporary_server(postgres_servers.find_any_programs()) as server:
        yield server


@dataclass
class Pair:
    """A primary and its standby."""

    primary: PostgresServer
    standby: PostgresServer

    @property
    def url(self):
        return build_url(self.primary, self.primary.port, self.standby.port)

    async def wait_for_standby(self):
        """Make commits wait for the standby, as soon as it follows."""
        await run_sql(
            self.primary,
            "ALTER SYSTEM SET synchronous_standby_names = 'standby'",
            "SELECT pg_reload_conf()",
        )

        async def is_synchronous():
            (state,) = await run_sql(
                self.primary, "SELECT max(sync_state) FROM pg_stat_replication"
            )
            return state == "sync"

        await wait_for(is_synchronous)

    async def wait_until_replayed(self):
        (position,) = await run_sql(self.primary, "SELECT pg_current_wal_lsn()::text")

        async def has_replayed():
            statement = f"SELECT pg_last_wal_replay_lsn() >= '{position}'"
            return (await run_sql(self.standby, statement))[0]

        await wait_for(has_replayed)

    async def cut_replication(self):
        """Let the standby receive nothing from here on, and the primary not wait for it."""
        await run_sql(
            self.standby, "ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()"
        )

        async def is_cut():
            (count,) = await run_sql(self.primary, "SELECT count(*) FROM pg_stat_replication")
            return count == 0

        await wait_for(is_cut)

    def fail_over(self):
        self.primary.kill()
        promote(self.standby)


@pytest.fixture
def pair(server):
    standby = create_standby(server, server.data.parent / "standby")
    with ExitStack() as stack:
        stack.enter_context(standby)
        yield Pair(server, standby)


def open_journal(url, **options):
    return open_postgres_journal(url, retention=SHELF, **options)


def test_an_address_has_a_url_for_each_host_and_shows_no_password():
    address = parse_address("postgresql://me:secret@a:1,[::1]:2,c/db?schema=s&sslmode=require")

    assert address.dsns == tuple(
        f"postgresql://me:secret@{host}/db?sslmode=require" for host in ("a:1", "[::1]:2", "c")
    )
    assert address.shown == "postgresql://a:1,[::1]:2,c/db?schema=s"
    assert "secret" not in repr(address)


@pytest.mark.slow
async def test_nothing_is_lost_when_the_database_is_killed_and_restarted(server):
    async with open_journal(server.url) as journal, run_clients(journal) as clients:
        killed_at = time.monotonic()
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        started_at = time.monotonic()
        await clients.wait_for_more()
        report(
            f"restart: {started_at - killed_at:.2f} s without a server, "
            f"{clients.measure_stall():.2f} s without an acknowledgement"
        )

        assert await find_missing(server, clients.acknowledged) == set()
        assert started_at - killed_at > 10 or clients.refusals == 0
        assert clients.measure_stall(started_at) < 3
        assert list_failovers(journal) == []


@pytest.mark.slow
async def test_nothing_is_lost_when_a_synchronous_standby_is_promoted(pair):
    await pair.wait_for_standby()
    async with open_journal(pair.url) as journal, run_clients(journal) as clients:
        killed_at = time.monotonic()
        await asyncio.to_thread(pair.fail_over)
        promoted_at = time.monotonic()
        await clients.wait_for_more()
        report(
            f"promotion: {promoted_at - killed_at:.2f} s, "
            f"{clients.measure_stall():.2f} s without an acknowledgement"
        )

        assert await find_missing(pair.standby, clients.acknowledged) == set()
        assert promoted_at - killed_at > 10 or clients.refusals == 0
        assert clients.measure_stall(promoted_at) < 3
        kinds = [type(event) for event in list_failovers(journal)]
        assert kinds == [JournalFailedOver, ExportsOfferedAgain]


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0, 5])
async def test_a_primary_that_vanishes_without_a_word_is_left_in_time(pair, seconds):
    """Its machine is gone: nothing is refused or reset, old connections and new ones hang."""
    await pair.wait_for_standby()
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(run_postgres_proxy(pair.primary.port))
        url = build_url(pair.primary, proxy.port, pair.standby.port)
        journal = await stack.enter_async_context(open_journal(url))
        await stack.enter_async_context(keep_lease(journal))
        clients = await stack.enter_async_context(run_clients(journal))
        proxy.flow = "none"
        gone_at = time.monotonic()
        await asyncio.sleep(seconds)
        await asyncio.to_thread(promote, pair.standby)
        promoted_at = time.monotonic()
        await clients.wait_for_more()
        report(
            f"vanished: {promoted_at - gone_at:.2f} s to the promotion, "
            f"{clients.measure_stall():.2f} s without an acknowledgement"
        )

        assert await find_missing(pair.standby, clients.acknowledged) == set()
        assert clients.refusals == 0
        assert clients.measure_stall() < 9
        assert seconds == 0 or clients.measure_stall(promoted_at) < 3.5


@pytest.mark.slow
@pytest.mark.parametrize("keep_seconds", [60, 0])
async def test_exports_that_a_late_standby_lacks_are_offered_again(pair, keep_seconds):
    async with open_journal(pair.url, keep_seconds=keep_seconds) as journal:
        epoch = await journal.leadership.acquire()
        first = [build_export() for _ in range(3)]
        for each in first:
            await journal.intake.append(each)

        await pair.wait_until_replayed()
        await pair.cut_replication()
        late = [build_export() for _ in range(20)]
        for each in late:
            assert (await journal.intake.append(each)).status == "accepted"
        ids = {each.id for each in late}
        await asyncio.to_thread(pair.fail_over)

        with pytest.raises(Deposed):  # it has to look at the dataset before it uploads anything
            await journal.outbox.claim(ALL, SEEN, "normal")
        assert await journal.leadership.acquire() > epoch
        await journal.ledger.check_ready()

        if keep_seconds:

            async def is_complete():
                return not await find_missing(pair.standby, ids)

            await wait_for(is_complete)
            failed_over, offered = list_failovers(journal)
            assert isinstance(failed_over, JournalFailedOver)
            assert offered == ExportsOfferedAgain(23, 20)
            assert set(await journal.outbox.list_doubtful()) == ids
            assert (await journal.outbox.read_backlog(ALL)).doubtful == 20
            group = await journal.outbox.claim(ALL, SEEN, "normal")
            assert {each.id for each in group.exports} == {each.id for each in first}
            assert (await journal.intake.append(late[0])).replayed
        else:
            _, offered = await wait_for_offer(journal)
            assert offered == ExportsOfferedAgain(0, 0)
            assert await find_missing(pair.standby, ids) == ids
            assert not (await journal.intake.append(late[0])).replayed
        assert (await journal.inspector.inspect()).waiting.exports == (23 if keep_seconds else 4)


@pytest.mark.slow
async def test_exports_are_offered_again_however_long_the_failover_takes(pair):
    """It takes twice as long as the replica holds what it accepted."""
    async with open_journal(pair.url, keep_seconds=1) as journal, listen(journal):
        await journal.intake.append(build_export())
        await pair.wait_until_replayed()
        await pair.cut_replication()
        late = [build_export() for _ in range(20)]
        await asyncio.gather(*(journal.intake.append(each) for each in late))
        await asyncio.to_thread(pair.primary.kill)
        await asyncio.sleep(2)
        await asyncio.to_thread(promote, pair.standby)
        await journal.intake.append(build_export())
        _, offered = await wait_for_offer(journal)

        assert offered.lost == 20
        assert await find_missing(pair.standby, [each.id for each in late]) == set()


@pytest.mark.slow
async def test_exports_are_lost_only_if_the_replica_that_accepted_them_died_as_well(pair):
    async with AsyncExitStack() as stack:
        other = await stack.enter_async_context(open_journal(pair.url))
        async with open_journal(pair.url) as journal:
            await pair.wait_until_replayed()
            await pair.cut_replication()
            late = build_export()
            await journal.intake.append(late)
        await asyncio.to_thread(pair.fail_over)
        await other.ledger.check_ready()

        _, offered = await wait_for_offer(other)
        assert offered == ExportsOfferedAgain(0, 0)
        receipt = await other.intake.append(late)
        assert (receipt.status, receipt.replayed) == ("accepted", False)
        assert await count_copies(pair.standby, late.id) == 1


@pytest.mark.slow
async def test_nothing_is_acknowledged_that_a_frozen_standby_lacks(pair):
    """A commit that waits is visible once its server process ends. A replay must wait as well."""
    await pair.wait_for_standby()
    async with open_journal(pair.url) as journal:
        await journal.intake.append(build_export())
        pair.standby.freeze()
        new = build_export()
        first = asyncio.create_task(journal.intake.append(new))

        async def find_waiting():
            return (await run_sql(pair.primary, WAITS))[0]

        pid = await wait_for(find_waiting)
        assert await count_copies(pair.primary, new.id) == 0
        first.cancel()
        await run_sql(pair.primary, f"SELECT pg_terminate_backend({pid})")

        # A transaction that only reads tells what may still be lost.
        async def is_visible():
            return await count_copies(pair.primary, new.id) == 1

        await wait_for(is_visible)
        answers = [
            asyncio.create_task(answer)
            for answer in (
                journal.intake.append(new),
                journal.intake.find_existing(new.head, new.id),
                journal.receipts.find(ADA, new.id),
            )
        ]
        done, _ = await asyncio.wait(answers, timeout=3)
        assert not done
        with pytest.raises(Unavailable):
            await journal.ledger.check_ready()
        pair.standby.resume()
        again, found, receipt = await asyncio.gather(*answers)

        assert {again.id, found.id, receipt.id} == {new.id}
        await pair.wait_until_replayed()  # the standby has it, but may not show it yet
        assert await count_copies(pair.standby, new.id) == 1
        assert await count_copies(pair.primary, new.id) == 1


@pytest.mark.slow
async def test_a_primary_that_restarts_while_commits_wait_and_is_lost_then_has_lied_to_nobody(
    pair,
):
    await pair.wait_for_standby()
    async with open_journal(pair.url) as journal, run_clients(journal) as clients:
        pair.standby.freeze()
        await asyncio.sleep(0.2)
        count = len(clients.acknowledged)
        await asyncio.to_thread(pair.primary.kill)
        await asyncio.to_thread(pair.primary.start)
        await asyncio.sleep(1)
        assert len(clients.acknowledged) == count
        pair.standby.resume()
        await asyncio.to_thread(pair.fail_over)
        await clients.wait_for_more()

        assert await find_missing(pair.standby, clients.acknowledged) == set()


@pytest.mark.slow
async def test_an_old_primary_that_lives_on_answers_nothing(pair):
    """Split brain: one replica sees only the old primary, the other one only the new one."""
    await pair.wait_for_standby()
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(run_postgres_proxy(pair.primary.port))
        old = await stack.enter_async_context(open_journal(build_url(pair.primary, proxy.port)))
        assert await old.leadership.acquire() == 1
        await asyncio.to_thread(promote, pair.standby)
        lone = build_export()
        stuck = asyncio.create_task(old.intake.append(lone))
        new_url = build_url(pair.primary, pair.standby.port)
        new = await stack.enter_async_context(open_journal(new_url))
        await wait_for(new.leadership.acquire, 8)
        await stack.enter_async_context(keep_lease(new))
        for _ in range(3):
            await new.intake.append(build_export())
        with pytest.raises(Unavailable):
            await stuck
        with pytest.raises(Unavailable):
            await old.leadership.renew()

        # the old one's way leads to the new primary
        proxy.target = pair.standby.port
        proxy.reset()
        assert not (await old.intake.append(lone)).replayed
        assert JournalFailedOver in [type(event) for event in old.events]
        with pytest.raises(Deposed):
            await old.outbox.confirm_lead()
        assert await old.leadership.acquire() is None
        group = await new.outbox.claim(ALL, SEEN, "normal")
        assert len(group.exports) == 4


@pytest.mark.slow
async def test_an_old_primary_that_starts_again_gets_nothing(pair):
    """Its machine rebooted, and nobody fenced it: it can be written to, as the new one."""
    async with open_journal(pair.url) as journal:
        await journal.intake.append(build_export())
        await pair.wait_until_replayed()
        await pair.cut_replication()
        await asyncio.to_thread(pair.fail_over)
        await journal.ledger.check_ready()
        await wait_for_offer(journal)
        await asyncio.to_thread(pair.primary.start)
        sent = [build_export() for _ in range(20)]
        for each in sent:
            journal.leadership._connector.disconnect()
            await journal.intake.append(each)

        ids = {each.id for each in sent}
        assert await find_missing(pair.primary, ids) == ids
        assert await find_missing(pair.standby, ids) == set()
        assert len(list_failovers(journal)) == 2

        told = []
        journal.events.subscribe(told.append)
        told.clear()
        await asyncio.to_thread(pair.standby.kill)  # the old one is alone
        new = build_export()
        with pytest.raises(JournalAway, match=r"old primary .* 00000001, .* to 00000002"):
            await journal.intake.append(new)
        refusals = [each for each in told if isinstance(each, OldPrimaryRefused)]
        assert 1 <= len(refusals) <= 3  # of many
        assert refusals[0].refused.endswith("00000001")
        assert refusals[0].known.endswith("00000002")
        await asyncio.to_thread(pair.standby.start)
        assert (await journal.intake.append(new)).status == "accepted"
        assert await find_missing(pair.primary, {new.id}) == {new.id}


@pytest.mark.slow
async def test_an_old_primary_is_known_although_its_successor_answers_late_or_never(pair):
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(run_postgres_proxy(pair.standby.port))
        url = build_url(pair.primary, pair.primary.port, proxy.port)
        journal = await stack.enter_async_context(open_journal(url))
        await pair.wait_until_replayed()
        await asyncio.to_thread(pair.fail_over)
        await journal.ledger.check_ready()
        await asyncio.to_thread(pair.primary.start)
        proxy.delay_seconds = 0.5
        journal.leadership._connector.disconnect()
        new = build_export()
        await journal.intake.append(new)
        assert await find_missing(pair.primary, {new.id}) == {new.id}

        proxy.flow = "none"
        journal.leadership._connector.disconnect()
        with pytest.raises(JournalAway, match="old primary"):
            await journal.leadership.acquire()


@pytest.mark.slow
async def test_a_database_that_was_put_back_is_noticed_although_its_timeline_is_the_same(server):
    async with AsyncExitStack() as stack:
        journal = await stack.enter_async_context(open_journal(server.url))
        folder = server.data.parent / "backup"
        backup = await asyncio.to_thread(create_standby, server, folder)
        (folder / "standby.signal").unlink()
        late = build_export()
        await journal.intake.append(late)

        async with listen(journal):
            await asyncio.sleep(1)
        await asyncio.to_thread(server.kill)
        backup.port = server.port
        await asyncio.to_thread(backup.start)
        stack.callback(backup.stop)
        await journal.ledger.check_ready()

        assert [type(event) for event in list_failovers(journal)][:1] == [JournalFailedOver]
        await wait_for(lambda: count_copies(backup, late.id))  # offered again


@pytest.mark.parametrize("slot", [None, "of_standby"])
async def test_a_query_of_a_standby_that_stops_the_cleaning_up_is_measured(postgres_servers, slot):
    """Also if the standby is gone since and has left its slot."""
    settings = {"hot_standby_feedback": "on", "wal_receiver_status_interval": "1s"}
    settings |= {"primary_slot_name": slot} if slot else {}
    with run_temporary_server(postgres_servers.find_any_programs()) as primary:
        if slot:
            await run_sql(primary, f"SELECT pg_create_physical_replication_slot('{slot}')")
        standby = create_standby(primary, primary.data.parent / "standby", settings=settings)
        with standby:
            asking = await asyncpg.connect(standby.url)
            await asking.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1")
            await asyncio.sleep(2)
            await run_sql(primary, USE_NUMBERS)
            async with open_postgres_journal(primary.url) as journal:
                asked = await journal.ledger.read_totals()
            asking.terminate()
            if slot:
                await asyncio.to_thread(standby.kill)
                async with open_postgres_journal(primary.url) as journal:
                    left = await journal.ledger.read_totals()
                    assert left.database.oldest_transaction_seconds >= 5

    assert 5 <= asked.database.oldest_transaction_seconds < 20
