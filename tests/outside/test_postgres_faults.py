"""Faults of the journal's database and of the way to it: late or right, and never wrong."""

import asyncio
import itertools
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import pytest

from atlas.core.commits import Conclusion, Verdict
from atlas.core.errors import JournalAway, JournalFull, Unavailable
from atlas.core.messages import (
    BranchSnapshot,
    ExportMetadata,
    FlattenedExport,
    GroupLimits,
    IdempotencySlot,
    RawExport,
)
from atlas.core.personal_data import DatasetFile
from atlas.outside.postgres import connections as connections_module
from tests.support.exports import ADA, NOON, SHELF, export, packed
from tests.support.postgres import open_postgres_journal, open_schema, run_sql
from tests.support.postgres_proxy import PostgresProxy, StatementFault, run_postgres_proxy

ALL = GroupLimits()
SEEN = BranchSnapshot("ri.foundry.main.transaction.0", NOON)
RID = "ri.foundry.main.transaction.1"
COMMITTED = Verdict("committed", transaction=RID)
# A conflict, a lost connection, a full disk, and an error for good: one of each kind, and the rest
KINDS = ("40P01", "57P01", "53100", "42501")
OTHERS = ("40001", "55P03", "53300", "57P03", "25006", "XX000", "42P01")
COUNTED = """
    SELECT coalesce(sum(abs(stored - counted)), 0) FROM (
        SELECT status, sum(exports) AS stored,
            (SELECT count(*) FROM {0}.export WHERE export.status = total.status) AS counted
        FROM {0}.total GROUP BY status
    ) totals
"""

numbers = itertools.count(1)


@dataclass
class FaultyJournal:
    """A journal behind a proxy, whose lease it holds; `schema` is its name on the server."""

    journal: object
    proxy: PostgresProxy
    server: object
    schema: str
    ids: list[str] = field(default_factory=list)

    def __getattr__(self, port):
        return getattr(self.journal, port)

    async def accept(self, key=None, user=ADA):
        """Store an export that nobody has stored before, and return it."""
        new = build_export(key, user)
        await self.intake.append(new)
        return new

    async def claim(self):
        """Store and claim an export, and return it."""
        new = await self.accept()
        group = await self.outbox.claim(ALL, SEEN, "normal")
        assert [each.id for each in group.exports] == [new.id]
        return new

    async def begin(self):
        """Store an export, and record a transaction as open for it."""
        new = await self.claim()
        await self.outbox.record_open(RID, ALL)
        return new

    async def finish(self):
        """Conclude what is in hand and commit what waits, so that the next case finds nothing."""
        await self.leadership.acquire()
        while True:
            hand = await self.outbox.read_in_hand()
            await self.outbox.conclude(Conclusion(hand.transaction, default_verdict=COMMITTED))
            await self.outbox.clear_intents()
            group = await self.outbox.claim(ALL, SEEN, "isolated")
            if group is None and await self.outbox.claim(ALL, SEEN, "normal") is None:
                return

    async def count_imbalance(self):
        (imbalance,) = await run_sql(self.server, COUNTED.format(self.schema))
        return imbalance

    async def count_exports(self, id):
        (found,) = await run_sql(
            self.server, f"SELECT count(*) FROM {self.schema}.export WHERE id = '{id}'"
        )
        return found


def build_export(key=None, user=ADA):
    number = next(numbers)
    slot = None if key is None else IdempotencySlot(key, 0, 1)
    head = ExportMetadata(user, "phone", "", f"correlation of {number}", slot)
    new = export(number)
    return FlattenedExport(new.id, head, new.at, packed(b'{"uuid":"a"}\n', 1))


@asynccontextmanager
async def open_behind_proxy(server, **options):
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(run_postgres_proxy(server.port))
        url = await stack.enter_async_context(open_schema(server))
        schema = url.rpartition("=")[2]
        near = url.replace(f":{server.port}/", f":{proxy.port}/")
        journal = await stack.enter_async_context(
            open_postgres_journal(near, retention=SHELF, **options)
        )
        assert await journal.leadership.acquire() == 1
        yield FaultyJournal(journal, proxy, server, schema)
        proxy.flow = "both"


@pytest.fixture
async def faulty(postgres_servers):
    async with open_behind_proxy(postgres_servers.get_any()) as journal:
        yield journal


# Each case arranges what a method needs, and returns the call and a check of its result.


async def append(faulty):
    new = build_export()
    return lambda: faulty.intake.append(new), lambda it: (it.id, it.replayed) == (new.id, False)


async def append_with_key(faulty):
    new = build_export("key")
    new = build_export(f"key of {new.id}")
    return lambda: faulty.intake.append(new), lambda it: (it.id, it.replayed) == (new.id, False)


async def append_again(faulty):
    new = await faulty.accept()
    return lambda: faulty.intake.append(new), lambda it: (it.id, it.replayed) == (new.id, True)


async def find_existing(faulty):
    new = await faulty.accept()
    return lambda: faulty.intake.find_existing(new.head, new.id), lambda it: it.id == new.id


async def find_receipt(faulty):
    new = await faulty.accept()
    return lambda: faulty.receipts.find(ADA, new.id), lambda it: it.status == "accepted"


async def list_receipts(faulty):
    new = await faulty.accept()
    return lambda: faulty.receipts.list_page(ADA, None, 1, None), (
        lambda it: [each.id for each in it.receipts] == [new.id]
    )


async def list_parts(faulty):
    return lambda: faulty.receipts.list_parts(ADA, "unknown"), lambda it: it == []


async def confirm_lead(faulty):
    return faulty.outbox.confirm_lead, lambda it: it is None


async def read_backlog(faulty):
    await faulty.accept()
    return lambda: faulty.outbox.read_backlog(ALL), lambda it: it.waiting == 1


async def read_in_hand(faulty):
    new = await faulty.begin()
    return faulty.outbox.read_in_hand, (
        lambda it: it.transaction == RID and [each.id for each in it.group.exports] == [new.id]
    )


async def claim(faulty):
    new = await faulty.accept()
    return lambda: faulty.outbox.claim(ALL, SEEN, "normal"), (
        lambda it: [each.id for each in it.exports] == [new.id]
    )


async def record_intent(faulty):
    return lambda: faulty.outbox.record_intent(SEEN, "DELETE"), lambda it: it is None


async def record_open(faulty):
    new = await faulty.claim()
    late = await faulty.accept()
    return lambda: faulty.outbox.record_open(RID, ALL), (
        lambda it: [each.id for each in it.exports] == [new.id, late.id]
    )


async def record_file(faulty):
    new = await faulty.begin()
    return lambda: faulty.outbox.record_file([new.id], "ndjson", 7, is_shared=True), (
        lambda it: [each.id for each in it.exports] == [new.id]
    )


async def conclude(faulty):
    new = await faulty.begin()
    conclusion = Conclusion(RID, default_verdict=COMMITTED)
    return lambda: faulty.outbox.conclude(conclusion), (
        lambda it: [(each.id, each.status) for each in it] == [(new.id, "committed")]
    )


async def conclude_failed(faulty):
    await faulty.begin()
    conclusion = Conclusion(RID, default_verdict=Verdict("failed", "nobody knows"))
    return lambda: faulty.outbox.conclude(conclusion), lambda it: it == []


async def clear_intents(faulty):
    await faulty.outbox.record_intent(SEEN, "DELETE")
    return faulty.outbox.clear_intents, lambda it: it is None


async def read_payloads(faulty):
    new = await faulty.accept()
    return lambda: faulty.outbox.read([new.id]), lambda it: dict(it) == {new.id: new.table.data}


async def filter_own_transactions(faulty):
    await faulty.begin()
    await faulty.finish()
    return lambda: faulty.outbox.filter_own_transactions([RID, "x"]), lambda it: it == {RID}


async def list_uncommitted(faulty):
    new = await faulty.accept()
    return lambda: faulty.outbox.list_uncommitted(""), (
        lambda it: [each.exports[0].id for each in it] == [new.id]
    )


async def mark_found(faulty):
    new = await faulty.accept()
    found = DatasetFile("healthkit/a.ndjson", RID, 7)
    return lambda: faulty.outbox.mark_found([(found, [new.id])]), (
        lambda it: [(each.id, each.status) for each in it] == [(new.id, "committed")]
    )


async def list_doubtful(faulty):
    return faulty.outbox.list_doubtful, lambda it: it == []


async def clear_doubt(faulty):
    return lambda: faulty.outbox.clear_doubt(["id"]), lambda it: it is None


async def store_original(faulty):
    new = build_export()
    raw = RawExport(new.head, b"crash")
    return lambda: faulty.dead_letters.store(raw, new.id, NOON), (
        lambda it: (it.id, it.replayed) == (new.id, False)
    )


async def list_original_ids(faulty):
    new = build_export()
    await faulty.dead_letters.store(RawExport(new.head, b"crash"), new.id, NOON)
    return faulty.dead_letters.list_original_ids, lambda it: new.id in it


async def read_original(faulty):
    new = build_export()
    raw = RawExport(new.head, b"crash")
    await faulty.dead_letters.store(raw, new.id, NOON)
    return lambda: faulty.dead_letters.read_original(new.id), lambda it: it == raw


async def delete_original(faulty):
    new = build_export()
    await faulty.dead_letters.store(RawExport(new.head, b"crash"), new.id, NOON)
    return lambda: faulty.dead_letters.delete(new.id), lambda it: it is None


async def set_aside(faulty):
    new = await faulty.begin()
    refused = Verdict("refused", "it is bad", is_certain=True)
    conclusion = Conclusion(RID, default_verdict=refused, tries_max=1)
    assert [each.id for each in await faulty.outbox.conclude(conclusion)] == [new.id]
    return new


async def requeue(faulty):
    new = await set_aside(faulty)
    return lambda: faulty.dead_letters.requeue(new.id), lambda it: it == 1


async def abandon(faulty):
    new = await set_aside(faulty)
    return lambda: faulty.dead_letters.abandon(new.id), lambda it: it == 1


async def list_entries(faulty):
    new = await faulty.accept()
    return lambda: faulty.ledger.list_entries("accepted", 10, None), (
        lambda it: [each.receipt.id for each in it.entries] == [new.id]
    )


async def search_entries(faulty):
    new = await faulty.accept()
    correlation = new.head.correlation_id
    return lambda: faulty.ledger.list_entries(None, 10, None, correlation), (
        lambda it: [each.receipt.id for each in it.entries] == [new.id]
    )


async def find_entry(faulty):
    new = await faulty.accept()
    return lambda: faulty.ledger.find_entry(new.id), lambda it: it.receipt.id == new.id


async def read_totals(faulty):
    await faulty.accept()
    return faulty.ledger.read_totals, (lambda it: it.exports["accepted"] == 1 and it.imbalance == 0)


async def check_ready(faulty):
    return faulty.ledger.check_ready, lambda it: it is None


async def read_holdings(faulty):
    await faulty.accept()
    return lambda: faulty.personal_data.read_holdings(ADA), lambda it: it.exports["accepted"] == 1


async def purge(faulty):
    new = await faulty.accept()
    return lambda: faulty.personal_data.purge(ADA, []), lambda it: new.id in it.waiting


async def rewrite(faulty):
    return faulty.personal_data.rewrite, lambda it: it is None


async def inspect(faulty):
    await faulty.accept()
    return faulty.inspector.inspect, lambda it: it.waiting == it.actual[0]


async def acquire(faulty):
    return faulty.leadership.acquire, lambda it: it > 1


async def renew(faulty):
    return faulty.leadership.renew, lambda it: it is False


async def release(faulty):
    return faulty.leadership.release, lambda it: it is None


async def read_outcomes(faulty):
    new = await faulty.begin()
    await faulty.finish()
    return lambda: faulty.peers.read_outcomes([new.id]), (
        lambda it: [each.id for each in it.receipts] == [new.id]
    )


CASES = [
    append,
    append_with_key,
    append_again,
    find_existing,
    find_receipt,
    list_receipts,
    list_parts,
    confirm_lead,
    read_backlog,
    read_in_hand,
    claim,
    record_intent,
    record_open,
    record_file,
    conclude,
    conclude_failed,
    clear_intents,
    read_payloads,
    filter_own_transactions,
    list_uncommitted,
    mark_found,
    list_doubtful,
    clear_doubt,
    store_original,
    list_original_ids,
    read_original,
    delete_original,
    requeue,
    abandon,
    list_entries,
    search_entries,
    find_entry,
    read_totals,
    check_ready,
    read_holdings,
    purge,
    rewrite,
    inspect,
    acquire,
    renew,
    release,
    read_outcomes,
]
WRITERS = [append, append_with_key, claim, record_open, conclude, purge, acquire]


async def count_statements(faulty, case):
    """Return the number of statements of a call whose statements are prepared already."""
    for _ in range(2):
        await faulty.finish()
        call, is_right = await case(faulty)
        faulty.proxy.arm()
        assert is_right(await call())
    return len(faulty.proxy.statements)


async def attempt(call):
    """Return the result of a call, and the error with which it asks to be sent again."""
    try:
        return await call, None
    except Unavailable as error:
        return None, error


async def survive(faulty, case, sqlstates, others=()):
    """Let each statement of a method fail with each of these errors, and one with each other.

    They undo the method. So it has the right result, or else a second call of it.
    """
    count = await count_statements(faulty, case)
    assert count > 0
    faults = list(itertools.product(range(count), sqlstates))
    faults += [(at % count, sqlstate) for at, sqlstate in enumerate(others)]
    for at, sqlstate in faults:
        await faulty.finish()
        call, is_right = await case(faulty)
        faulty.proxy.arm(StatementFault(at, sqlstate=sqlstate))
        result, error = await attempt(call())
        if error is not None:
            assert isinstance(error, JournalFull if sqlstate == "53100" else JournalAway)
            assert "injected" not in str(error)
            result = await call()
        assert faulty.proxy.has_struck
        assert is_right(result), (sqlstate, faulty.proxy.statements)
    assert await faulty.count_imbalance() == 0


@pytest.mark.parametrize("case", WRITERS)
async def test_any_statement_may_fail_with_an_error_of_each_kind(faulty, case):
    await survive(faulty, case, ("40P01", "57P01", "53100"))


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
async def test_any_statement_of_any_method_may_fail(faulty, case):
    await survive(faulty, case, KINDS, OTHERS)


# A connection is lost while nobody uses it


@pytest.mark.slow
async def test_connections_that_were_forgotten_while_they_were_idle_cost_two_seconds(
    faulty, monkeypatch
):
    """Nothing is refused or reset: what is sent over them vanishes."""
    await faulty.begin()
    await faulty.finish()
    monkeypatch.setattr(connections_module, "IDLE_SECONDS", 0.1)
    for call in (faulty.accept, faulty.claim):  # the latter cannot be repeated
        await asyncio.sleep(0.2)
        faulty.proxy.forget()
        began_at = time.monotonic()
        await call()
        assert time.monotonic() - began_at < 8  # two connections
        await faulty.finish()


async def test_the_server_keeps_idle_connections_alive(faulty):
    database = await faulty.leadership._connector.connect()
    idle = await database.fetch_value("SHOW tcp_keepalives_idle")
    database.connection.terminate()
    assert idle == "30"


# An answer is lost


async def test_an_export_whose_commit_was_not_answered_is_stored_once_and_is_no_replay(faulty):
    for case in (append, append_with_key):
        count = await count_statements(faulty, case)
        for at in range(count):
            for is_lost in (False, True):
                call, is_right = await case(faulty)
                faulty.proxy.arm(StatementFault(at, is_lost=is_lost))
                receipt = await call()
                assert faulty.proxy.has_struck
                assert is_right(receipt)
                assert await faulty.count_exports(receipt.id) == 1
    assert await faulty.count_imbalance() == 0


async def test_an_export_whose_commit_was_not_answered_is_offered_again_after_a_failover(faulty):
    await faulty.accept()  # so that the statement is prepared
    faulty.proxy.arm(StatementFault(text="INSERT INTO"))
    new = await faulty.accept()
    assert faulty.proxy.has_struck
    await run_sql(faulty.server, f"DELETE FROM {faulty.schema}.export WHERE id = '{new.id}'")

    faulty.intake.offer_again()

    async with asyncio.timeout(5):
        while not await faulty.outbox.list_doubtful():
            await asyncio.sleep(0.01)
    assert await faulty.outbox.list_doubtful() == [new.id]


@pytest.mark.parametrize("case", [claim, record_open, record_file, conclude, clear_intents])
async def test_the_uploader_sees_the_truth_after_a_step_whose_commit_was_not_answered(faulty, case):
    call, is_right = await case(faulty)
    before = await faulty.outbox.read_in_hand()
    faulty.proxy.arm(StatementFault(text="COMMIT"))
    try:
        assert is_right(await call())
    except Unavailable:
        assert case in {claim, conclude}
    assert faulty.proxy.has_struck

    hand = await faulty.outbox.read_in_hand()

    ids = [each.id for each in hand.group.exports] if hand.group else []
    transaction, intents = hand.transaction, len(hand.intents)
    match case.__name__:
        case "claim":
            assert (len(ids), transaction, intents) == (1, None, 1)
        case "record_open":
            assert (len(ids), transaction, intents) == (2, RID, 0)
        case "record_file":
            assert ids == [each.id for each in before.group.exports]
            assert hand.group.files[0].path != before.group.files[0].path
        case "conclude":
            assert (ids, transaction, intents) == ([], None, 0)
            totals = await faulty.ledger.read_totals()
            assert (totals.exports["accepted"], totals.exports["committed"]) == (0, 1)
        case "clear_intents":
            assert intents == 0
    assert await faulty.count_imbalance() == 0


async def test_a_lease_whose_commit_was_not_answered_is_taken_again(faulty):
    await faulty.leadership.release()
    faulty.proxy.arm(StatementFault(text="COMMIT"))
    with pytest.raises(Unavailable):
        await faulty.leadership.acquire()

    assert await faulty.leadership.acquire() == 3
    assert await faulty.leadership.renew() is False


# The way is cut


async def measure(call):
    """Return the seconds that a call takes, and the error that it raises."""
    began_at = time.monotonic()
    _, error = await attempt(call)
    return time.monotonic() - began_at, error


async def call_everybody(faulty):
    """Call each session twice at once. Return how long each call took, and its error."""
    calls = [
        call
        for _ in range(2)
        for call in (
            faulty.intake.append(build_export()),
            faulty.outbox.confirm_lead(),
            faulty.ledger.read_totals(),
            faulty.leadership.renew(),
        )
    ]
    return await asyncio.gather(*map(measure, calls))


@pytest.mark.slow
@pytest.mark.parametrize("flow", ["none", "asks"])
async def test_calls_end_when_nothing_is_answered_and_go_on_when_it_is(faulty, flow):
    """Black hole and half open. The second call of each session must not wait twice."""
    await call_everybody(faulty)
    faulty.proxy.flow = flow

    calls = await call_everybody(faulty)

    for (seconds, error), limit in zip(calls, [10, 10, 10, 3] * 2, strict=True):
        assert isinstance(error, Unavailable)
        assert seconds < limit + 1
    faulty.proxy.flow = "both"
    for seconds, error in await call_everybody(faulty):
        assert error is None
        assert seconds < 4
    assert await faulty.count_imbalance() == 0


@pytest.mark.slow
async def test_a_call_goes_on_when_the_way_is_free_before_it_has_to_end(faulty):
    await call_everybody(faulty)
    faulty.proxy.flow = "none"
    calls = asyncio.create_task(measure(faulty.intake.append(build_export())))
    await asyncio.sleep(5)
    faulty.proxy.reset()
    faulty.proxy.flow = "both"

    seconds, error = await calls

    assert error is None
    assert 5 < seconds < 9


async def test_calls_do_not_notice_connections_that_were_reset(faulty):
    await call_everybody(faulty)
    faulty.proxy.reset()

    for seconds, error in await call_everybody(faulty):
        assert error is None
        assert seconds < 3


@pytest.mark.parametrize("sqlstate", ["53300", "57P03"])
async def test_a_server_that_admits_nobody_for_a_second_is_a_delay(faulty, sqlstate):
    await call_everybody(faulty)
    faulty.proxy.refusal = sqlstate
    faulty.proxy.reset()
    calls = asyncio.create_task(measure(faulty.intake.append(build_export())))
    await asyncio.sleep(1)
    faulty.proxy.refusal = ""

    seconds, error = await calls

    assert error is None
    assert 1 < seconds < 2.5


@pytest.mark.slow
async def test_a_wrong_password_is_no_delay(faulty):
    faulty.proxy.refusal = "28P01"
    faulty.proxy.reset()

    seconds, error = await measure(faulty.intake.append(build_export()))

    assert isinstance(error, Unavailable)
    assert seconds < 1


async def receive_notifications(faulty, topics):
    async def handle(topic):
        topics.append((topic, time.monotonic()))

    await faulty.peers.listen(handle)


@pytest.mark.slow
async def test_changes_arrive_by_poll_while_only_the_listening_connection_is_cut(faulty):
    topics = []
    listening = asyncio.create_task(receive_notifications(faulty, topics))
    await asyncio.sleep(1)
    faulty.proxy.only, faulty.proxy.flow = "LISTEN", "none"
    for _ in range(2):
        cut_at = time.monotonic()
        await asyncio.sleep(2.6)
        assert any(topic == "settled" and at > cut_at for topic, at in topics)
    assert (await measure(faulty.intake.append(build_export())))[1] is None

    # A connection whose LISTEN is not answered is given up as well.
    faulty.proxy.reset()
    await asyncio.sleep(1)
    faulty.proxy.flow = "both"
    topics.clear()
    async with asyncio.timeout(6):
        while "set_aside" not in [topic for topic, _ in topics]:
            await faulty.dead_letters.abandon("unknown")
            await asyncio.sleep(0.2)
    listening.cancel()


@pytest.mark.slow
async def test_a_journal_that_has_to_offer_exports_closes_while_the_database_is_away(
    postgres_servers,
):
    async with asyncio.timeout(45), open_behind_proxy(postgres_servers.get_any()) as faulty:
        await faulty.accept()
        faulty.proxy.refusal = "57P03"
        faulty.proxy.reset()
        faulty.intake.offer_again()
        await asyncio.sleep(0.1)
        closing_at = time.monotonic()
    assert time.monotonic() - closing_at < 35
