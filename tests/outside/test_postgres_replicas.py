"""Two replicas over one schema: each export once, one uploader, notifications of each other."""

import asyncio
from collections import Counter
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

import asyncpg
import pytest

from atlas.core import identifiers
from atlas.core.commits import Conclusion, Verdict
from atlas.core.errors import Deposed, IdempotencyKeyReused, JournalAway, OutOfOrder, Unavailable
from atlas.core.events import ExportsOfferedAgain, JournalFailedOver, NotificationsDelayed
from atlas.core.messages import ExportMetadata, RawExport, User
from atlas.core.personal_data import DatasetFile
from atlas.outside.postgres import connections as connections_module
from atlas.outside.postgres import database as database_module
from atlas.outside.postgres import intake as intake_module
from atlas.outside.postgres import lease as lease_module
from atlas.outside.postgres import peers as peers_module
from atlas.outside.postgres.errors import DATABASE_ERRORS
from tests.support.exports import ADA, NOON, packed
from tests.support.replicas import (
    COMMITTED,
    HEAD,
    LIMITS,
    REFUSED,
    RID,
    accept,
    an_export,
    begin,
    claim,
    commit,
    conclude,
    later,
    list_replicas,
    set_aside,
)

FAILED = Verdict("failed", "no answer", is_certain=True)
EVE = User("auth0|eve")
HOUR = timedelta(hours=1)
POISON = RawExport(ExportMetadata(ADA, "", "", ""), b"{}")


@pytest.fixture
async def pair(replicas):
    async with replicas.pair() as pair:
        yield pair


async def lead(*journals):
    """Let the first one lead."""
    assert await journals[0].leadership.acquire() is not None


async def take_over(replicas, journal):
    await replicas.end_lease()
    assert await journal.leadership.acquire() is not None


@pytest.mark.parametrize("verdict", [REFUSED, FAILED], ids=["refused", "failed"])
async def test_an_export_may_fail_more_often_than_a_column_can_count(replicas, pair, verdict):
    first, _ = pair
    await accept(first, "id-1")
    await lead(first)
    await replicas.sql("UPDATE @.export SET tries = 32767, isolation = 1")
    assert await first.outbox.claim(LIMITS, HEAD, "isolated")
    await first.outbox.record_open(RID, LIMITS)
    (receipt,) = await conclude(first, {"id-1": verdict}, tries_max=1, has_evidence=True)

    assert receipt.status == "set_aside"
    assert await replicas.sql("SELECT tries FROM @.export") == 32_767


# intake


@pytest.mark.parametrize("keys", [(None, None), ("k", "k"), (None, "k")], ids=str)
async def test_twins_at_two_replicas_at_once_are_stored_once(replicas, pair, keys):
    ids = [f"id-{number}" for number in range(40)]
    receipts = await asyncio.gather(
        *(
            journal.intake.append(an_export(id, key=key and f"{key} {id}"))
            for id in ids
            for journal, key in zip(pair, keys, strict=True)
        )
    )

    first = {each.id: each for each in receipts if not each.replayed}
    assert sorted(first) == sorted(ids)
    assert Counter(each.id for each in receipts if each.replayed) == Counter(ids)
    assert {each.path for each in receipts} == {each.path for each in first.values()}
    assert await replicas.count("export") == await replicas.count("payload") == len(ids)


async def test_a_key_that_names_two_exports_at_once_is_given_to_one_of_them(pair):
    for number in range(20):
        outcomes = await asyncio.gather(
            *(
                journal.intake.append(an_export(f"{number} {name}", key=f"k {number}"))
                for name, journal in zip("ab", pair, strict=True)
            ),
            return_exceptions=True,
        )
        reused = [each for each in outcomes if isinstance(each, IdempotencyKeyReused)]
        assert len(reused) == 1
        assert len([each for each in outcomes if not isinstance(each, Exception)]) == 1


async def test_exports_of_one_user_and_millisecond_have_a_path_each(replicas, pair):
    receipts = await asyncio.gather(
        *(
            journal.intake.append(an_export(f"{name} {number}"))
            for number in range(200)
            for name, journal in zip("ab", pair, strict=True)
        )
    )

    assert len({each.path for each in receipts}) == 400
    assert not any(each.replayed for each in receipts)
    assert await replicas.count("export") == 400


ANSWERS = {
    "a replay": lambda journal: accept(journal, "id-1"),
    "a replay with a key": lambda journal: accept(journal, "id-1", key="k"),
    "recall": lambda journal: journal.intake.find_existing(an_export().head, "id-1"),
    "a receipt": lambda journal: journal.receipts.find(ADA, "id-1"),
    "a page": lambda journal: journal.receipts.list_page(ADA, None, 10, None),
    "readiness": lambda journal: journal.ledger.check_ready(),
    "a poisonous twin": lambda journal: journal.dead_letters.store(POISON, "id-1", NOON),
}


@pytest.mark.parametrize("ask", ANSWERS.values(), ids=ANSWERS)
async def test_an_answer_that_tells_of_a_commit_waits_for_the_standby_as_well(replicas, pair, ask):
    """The commit that it tells of may have been cancelled while it waited, and be nowhere else."""
    await accept(pair[0], "id-1")
    await ask(pair[1])
    async with standby_is_away(replicas):
        answer = asyncio.create_task(ask(pair[1]))
        await asyncio.wait([answer], timeout=0.4)
        assert not answer.done()
    await answer


@asynccontextmanager
async def standby_is_away(replicas):
    try:
        await replicas.sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        await replicas.sql("SELECT pg_reload_conf()")
        await asyncio.sleep(0.1)
        yield
    finally:
        await replicas.sql("ALTER SYSTEM RESET synchronous_standby_names")
        await replicas.sql("SELECT pg_reload_conf()")


@pytest.mark.parametrize("table", ["export", "payload"])
async def test_a_statement_in_which_something_fails_stores_nothing(replicas, pair, table):
    """Nothing is acknowledged of which a part is missing."""
    await replicas.sql(f"ALTER TABLE @.{table} ADD CONSTRAINT never CHECK (number < 0) NOT VALID")
    for key in (None, "k"):
        with pytest.raises(Unavailable):
            await pair[0].intake.append(an_export(key=key))
    await replicas.sql(f"ALTER TABLE @.{table} DROP CONSTRAINT never")

    assert await replicas.count("export") == await replicas.count("binding") == 0
    (receipt,) = await accept(pair[0], "id-1", key="k")
    assert not receipt.replayed


@pytest.mark.parametrize(
    ("of", "more"),
    [
        ((intake_module, "append"), {"at": NOON + HOUR}),
        ((connections_module, "run_transaction"), {"at": NOON + HOUR, "key": "k"}),
        ((connections_module, "run_transaction"), {"at": NOON}),
    ],
    ids=["a statement", "a transaction", "one that moves it from a path that is taken"],
)
async def test_a_request_whose_answer_was_lost_is_no_replay(replicas, pair, monkeypatch, of, more):
    first, second = pair
    await accept(second, "id-1")
    await accept(first, "id-0", user=EVE)  # so that it is connected
    lost, original = [], getattr(*of)

    async def lose_answer(database, *args, **options):
        answer = await original(database, *args, **options)
        if not lost and database is first.intake._session._database:
            lost.append(database)
            raise asyncpg.ConnectionDoesNotExistError
        return answer

    monkeypatch.setattr(*of, lose_answer)
    (receipt,) = await accept(first, "id-2", **more)
    (again,) = await accept(second, "id-2", **more)

    assert lost
    assert (receipt.replayed, again.replayed) == (False, True)
    assert receipt.path == again.path
    assert await replicas.count("export") == 3


async def test_exports_are_stored_in_the_order_of_their_ids(replicas, pair):
    """Two statements that have the same exports in another order would wait for each other."""
    first, second = pair
    await accept(first, "warm")
    connection = await asyncpg.connect(replicas.server.url)
    try:
        await connection.execute("BEGIN")
        await connection.execute(
            f"INSERT INTO {replicas.schema}.export (id, sender, at, ingested, rejected, bytes,"
            " moment, label) VALUES ('m', 'x', now(), 1, 0, 1, 1, '')"
        )
        sealer = first.intake._sealer
        rows = [sealer.seal(an_export(id)).list_columns() for id in ("z", "m", "a")]
        blocked = asyncio.create_task(
            first.outbox._session.run(lambda database: intake_module.append(database, rows))
        )
        await asyncio.sleep(0.2)
        async with asyncio.timeout(1):
            assert not (await accept(second, "z", user=EVE))[0].replayed
        assert not blocked.done()
        await connection.execute("ROLLBACK")
        assert set((await blocked).ids) == {"a", "m"}
    finally:
        await connection.close()


async def test_totals_balance_whatever_replicas_do_at_once(replicas, pair):
    first, second = pair
    await lead(first)

    async def upload():
        for number in range(12):
            await asyncio.sleep(0.01)
            if await begin(first):
                some = {f"b {number}": COMMITTED, f"a {number}": COMMITTED}
                await conclude(first, some)

    async def send(name, journal):
        for number in range(60):
            await accept(journal, f"{name} {number}", user=EVE if number % 2 else ADA)

    await asyncio.gather(upload(), send("a", first), send("b", second))
    await set_aside(first, "a 59")
    await second.personal_data.purge(EVE, ())

    totals = await second.ledger.read_totals()
    assert totals.imbalance == 0
    assert sum(totals.exports.values()) == await replicas.count("export")
    health = await first.inspector.inspect()
    assert (health.waiting, health.set_aside) == health.actual
    wrong = "SELECT count(*) FROM (SELECT status, sum(exports) - (SELECT count(*) FROM @.export"
    wrong += " WHERE status = total.status) AS off FROM @.total GROUP BY status) a WHERE off <> 0"
    assert await replicas.sql(wrong) == 0


async def test_a_total_that_is_wrong_says_so(replicas, pair):
    await accept(pair[0], "id-1")
    await replicas.sql("UPDATE @.total SET exports = exports + 3 WHERE slot = 1")

    assert (await pair[1].ledger.read_totals()).imbalance == 6  # accepted and set aside


# the lease


async def test_one_replica_has_the_lease_until_it_gives_it_back(pair):
    first, second = pair
    assert await first.leadership.acquire() == 1
    assert await second.leadership.acquire() is None
    assert await first.leadership.renew() is False
    await first.leadership.release()

    assert await second.leadership.acquire() == 2
    with pytest.raises(Deposed):
        await first.leadership.renew()


async def test_who_is_deposed_gives_back_nothing(replicas, pair):
    first, second = pair
    await lead(first)
    for depose in (by_another_with_the_same_number, by_another):
        await depose(replicas, first, second)
        until = await replicas.sql("SELECT until FROM @.lease")
        await first.leadership.release()
        assert await replicas.sql("SELECT until FROM @.lease") == until
    await second.leadership.renew()


async def test_a_lease_that_is_not_renewed_is_taken_and_one_that_is_is_not(replicas):
    async with replicas.pair(lease_seconds=0.4) as (first, second):
        await lead(first)
        for _ in range(4):
            await asyncio.sleep(0.2)
            await first.leadership.renew()
            assert await second.leadership.acquire() is None
        await asyncio.sleep(0.5)

        assert await second.leadership.acquire() == 2


async def test_every_write_of_the_uploader_renews_the_lease(replicas):
    async with replicas.pair(lease_seconds=0.4) as (first, second):
        await lead(first)
        for _ in range(4):
            await asyncio.sleep(0.2)
            await first.outbox.clear_intents()
            assert await second.leadership.acquire() is None


async def test_a_lease_that_ran_out_is_still_its_holders_if_nobody_took_it(replicas, pair):
    await lead(*pair)
    await replicas.end_lease()

    await pair[0].outbox.confirm_lead()
    assert await pair[1].leadership.acquire() is None


async def test_who_asks_for_the_lease_gets_it_and_nobody_else(replicas, pair):
    first, second = pair
    await lead(first)
    assert await second.leadership.acquire(is_urgent=True) is None
    assert await first.leadership.renew() is True
    await first.leadership.release()

    async with replicas.open() as third:
        assert await third.leadership.acquire() is None
        assert await first.leadership.acquire() is None
        assert await second.leadership.acquire() == 2
    assert await second.leadership.renew() is False


async def test_who_asked_and_vanished_is_not_preferred_for_ever(replicas, pair):
    first, second = pair
    await lead(first)
    await second.leadership.acquire(is_urgent=True)
    await first.leadership.release()
    aged = lease_module.PREFERENCE_SECONDS + 1
    await replicas.sql(f"UPDATE @.lease SET wanted_at = wanted_at - interval '{aged} s'")

    assert await first.leadership.acquire() == 2


async def test_a_lease_whose_commit_fails_is_not_held(replicas, pair):
    await replicas.sql(
        "CREATE FUNCTION @.refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'no'; END $$",
        "CREATE CONSTRAINT TRIGGER refuse AFTER UPDATE ON @.lease DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION @.refuse()",
    )
    with pytest.raises(Unavailable):
        await pair[0].leadership.acquire()
    await replicas.sql("DROP TRIGGER refuse ON @.lease")

    assert not pair[0].leadership.is_held
    assert await pair[1].leadership.acquire() == 1


FENCED = {
    "confirm_lead": lambda journal: journal.outbox.confirm_lead(),
    "read_in_hand": lambda journal: journal.outbox.read_in_hand(),
    "claim": lambda journal: journal.outbox.claim(LIMITS, HEAD, "normal"),
    "record_intent": lambda journal: journal.outbox.record_intent(HEAD, "DELETE"),
    "record_open": lambda journal: journal.outbox.record_open(RID, LIMITS),
    "record_file": lambda journal: journal.outbox.record_file(
        ["id-1"], "parquet", 9, is_shared=False
    ),
    "conclude": lambda journal: journal.outbox.conclude(Conclusion(RID, {}, COMMITTED)),
    "clear_intents": lambda journal: journal.outbox.clear_intents(),
    "mark_found": lambda journal: journal.outbox.mark_found(
        [(DatasetFile("healthkit/groups/a.ndjson", "ri.found", 3), ["id-1"])]
    ),
    "clear_doubt": lambda journal: journal.outbox.clear_doubt(["id-3"]),
    "renew": lambda journal: journal.leadership.renew(),
}
NOT_FENCED = {  # reads on which no abort rests
    "read_backlog",
    "read",
    "filter_own_transactions",
    "has_committed_lately",
    "list_uncommitted",
    "list_doubtful",
}


async def by_another(replicas, _first, second):
    await take_over(replicas, second)


async def by_another_with_the_same_number(replicas, *_):
    """As after a failover that lost the last takeover."""
    await replicas.sql("UPDATE @.lease SET holder = 'another'")


async def by_a_later_term_of_the_same_name(replicas, *_):
    await replicas.sql("UPDATE @.lease SET epoch = epoch + 1")


async def by_a_failover(_replicas, first, _second):
    first.leadership._connector.failovers += 1


@pytest.mark.parametrize("call", FENCED.values(), ids=FENCED)
async def test_who_is_deposed_changes_nothing_and_sees_nothing(replicas, pair, call):
    first, second = pair
    await accept(first, "id-1", "id-2")
    await lead(first)
    for step in (begin, None):  # with a group in hand, and with none
        for depose in (
            by_another_with_the_same_number,
            by_a_later_term_of_the_same_name,
            by_a_failover,
            by_another,
        ):
            await take_over(replicas, first)
            await replicas.sql("UPDATE @.export SET is_doubtful = id = 'id-3'")
            if step is not None:
                await first.outbox.read_in_hand()
                if (await first.outbox.read_in_hand()).transaction is None:
                    await step(first)
            await depose(replicas, first, second)
            before = await replicas.snapshot()
            with pytest.raises(Deposed):
                await call(first)
            assert not first.leadership.is_held
            assert await replicas.snapshot() == before
        if step is not None:
            await take_over(replicas, second)
            await conclude(second)
            await accept(second, "id-3")


def test_every_method_of_the_outbox_is_fenced_or_reads():
    from atlas.outside.postgres.outbox import PostgresOutbox  # noqa: PLC0415 - needs asyncpg

    public = {name for name in dir(PostgresOutbox) if not name.startswith("_")}
    assert public == (FENCED.keys() - {"renew"}) | NOT_FENCED


async def test_what_is_in_hand_survives_a_takeover(replicas, pair):
    first, second = pair
    await accept(first, "id-1", "id-2")
    await lead(first)
    assert await begin(first) == ["id-1", "id-2"]
    await take_over(replicas, second)
    in_hand = await second.outbox.read_in_hand()

    assert in_hand.transaction == RID
    assert [each.id for each in in_hand.group.exports] == ["id-1", "id-2"]
    await conclude(second, {}, COMMITTED)
    assert await replicas.count("payload") == 0


async def test_intents_of_an_earlier_leader_stay_for_a_day(replicas, pair):
    first, second = pair
    await accept(first, "id-1")
    await lead(first)
    await claim(first)
    await take_over(replicas, second)
    assert [each.kind for each in (await second.outbox.read_in_hand()).intents] == ["APPEND"]

    await second.outbox.clear_intents()  # only its own
    assert len((await second.outbox.read_in_hand()).intents) == 1
    await second.outbox.conclude(Conclusion())
    await claim(second)
    assert len((await second.outbox.read_in_hand()).intents) == 2
    await second.outbox.record_open(RID, LIMITS)
    assert len((await second.outbox.read_in_hand()).intents) == 1

    await replicas.sql("UPDATE @.intent SET noted_at = noted_at - interval '23 h'")
    await take_over(replicas, first)
    assert len((await first.outbox.read_in_hand()).intents) == 1
    await replicas.sql("UPDATE @.intent SET noted_at = noted_at - interval '2 h'")
    await take_over(replicas, second)
    assert (await second.outbox.read_in_hand()).intents == ()


async def test_an_intent_of_another_term_begins_no_transaction(replicas, pair):
    first, second = pair
    await accept(first, "id-1")
    await lead(first)
    await claim(first)
    await take_over(replicas, second)

    with pytest.raises(OutOfOrder):
        await second.outbox.record_open(RID, LIMITS)


async def test_a_lease_that_is_taken_again_after_a_failover_is_held(pair):
    first, _ = pair
    await lead(first)
    first.leadership._connector.failovers += 1
    with pytest.raises(Deposed):
        await first.outbox.confirm_lead()

    assert await first.leadership.acquire() == 2
    await first.outbox.confirm_lead()


async def test_who_is_frozen_in_a_transaction_does_not_keep_the_lease(replicas, pair, monkeypatch):
    """The server ends its session; a takeover meanwhile gives up waiting, and is repeated."""
    monkeypatch.setattr("atlas.outside.postgres.database.BEGIN", short(0.5, 0.1))
    first, second = pair
    await lead(first)
    session = first.outbox._session

    async def freeze(database):
        await first.leadership.check(database)
        await asyncio.sleep(1.5)
        await database.execute("SELECT 1")

    frozen = asyncio.create_task(session.transact(freeze))
    await asyncio.sleep(0.1)
    await replicas.sql("SELECT 1")
    began = asyncio.get_running_loop().time()
    assert await second.leadership.acquire() is None  # renewed by the transaction that was undone
    assert asyncio.get_running_loop().time() - began < 1.2
    with pytest.raises(Unavailable):
        await frozen


def short(idle_seconds, lock_seconds):
    return (
        f"BEGIN; SET LOCAL idle_in_transaction_session_timeout = '{idle_seconds}s';"
        f" SET LOCAL lock_timeout = '{lock_seconds}s'"
    )


async def test_no_transaction_waits_for_ever(pair):
    """Neither one that is frozen, nor one that waits for it."""
    read = "SELECT current_setting('{}')"
    names = "idle_in_transaction_session_timeout", "lock_timeout"
    found = {
        name: await pair[0].outbox._session.transact(
            lambda database, name=name: database.fetch_value(read.format(name))
        )
        for name in names
    }
    assert found == {"idle_in_transaction_session_timeout": "5s", "lock_timeout": "2s"}


async def test_a_transaction_that_the_server_undid_is_no_success(pair):
    async def fail_silently(database):
        try:
            await database.execute("SELECT 1 / 0")
        except asyncpg.DivisionByZeroError:
            return "done"

    with pytest.raises(Unavailable):
        await pair[0].outbox._session.transact(fail_silently)
    await accept(pair[0], "id-1")


async def test_work_that_conflicts_is_done_again_even_if_it_is_not_repeatable(pair):
    attempts = []

    async def conflict(database):
        attempts.append(1)
        if len(attempts) < 3:
            raise asyncpg.LockNotAvailableError
        return await database.fetch_value("SELECT 1")

    assert await pair[0].outbox._session.transact(conflict) == 1


# after a failover


async def fail_over(journal):
    """Let the adapter find another timeline when it connects the next time.

    A session of the adapter may be the first to find it, and then closes this connection, too.
    """
    connector = journal.leadership._connector
    connector.identity = "another server, timeline 00000001"
    with suppress(*DATABASE_ERRORS):
        database = await connector.connect()
        database.connection.terminate()


async def test_what_a_failover_lost_is_stored_again_and_doubtful(replicas, pair):
    first, second = pair
    await accept(first, "id-1", key="k")
    await accept(first, "id-2", "id-3")
    await replicas.sql("DELETE FROM @.export WHERE id <> 'id-3'")
    await fail_over(first)
    await lead(second)
    while await replicas.count("export") < 3:
        await asyncio.sleep(0.01)

    assert set(await second.outbox.list_doubtful()) == {"id-1", "id-2"}
    assert await claim(second) == ["id-3"]
    await second.outbox.conclude(Conclusion())
    assert await claim_late_too(second) == ["id-3"]
    backlog = await second.outbox.read_backlog(LIMITS)
    assert (backlog.doubtful, backlog.waiting) == (2, 3)
    page = await second.receipts.list_page(ADA, "k", 10, None)
    assert [each.id for each in page.receipts] == ["id-1"]

    await second.outbox.clear_doubt(["id-1"])
    assert await second.outbox.list_doubtful() == ["id-2"]


async def claim_late_too(journal):
    """Claim, and record a transaction, which claims what came late. Return the ids."""
    await claim(journal)
    group = await journal.outbox.record_open(RID, LIMITS)
    await conclude(journal)
    return [each.id for each in group.exports]


async def test_what_a_failover_lost_gets_another_path_if_its_own_was_taken_since(replicas, pair):
    first, second = pair
    seen = []
    first.events.subscribe(seen.append)
    await accept(first, "id-1", key="k")
    await accept(first, "id-2", "id-3")
    list_paths = "SELECT array_agg(moment ORDER BY id) FROM @.export"
    paths = await replicas.sql(list_paths)
    await replicas.sql("DELETE FROM @.export WHERE id <> 'id-3'")
    await accept(second, "id-4", "id-5")
    assert await replicas.sql(list_paths) == [paths[2], *paths[:2]]
    await fail_over(first)

    assert await wait_for_offer(seen) == ExportsOfferedAgain(3, 2)
    assert set(await second.outbox.list_doubtful()) == {"id-1", "id-2"}
    moved = await replicas.sql(f"{list_paths} WHERE is_doubtful")
    assert sorted(moved) == [paths[2] + 1, paths[2] + 2]
    (receipt,) = (await second.receipts.list_page(ADA, "k", 10, None)).receipts
    at = NOON + timedelta(milliseconds=moved[0] - paths[0])
    assert (receipt.id, receipt.path) == ("id-1", identifiers.build_path(ADA, at))
    assert (await accept(first, "id-1"))[0].replayed

    await lead(second)
    await second.outbox.clear_doubt(["id-1", "id-2"])
    ids = await claim(second)
    assert {"id-1", "id-2"} <= set(ids)
    assert set((await second.outbox.read(ids)).values()) == {packed(b'{"uuid":"a"}\n', 1).data}


async def test_of_an_old_receipt_that_is_a_digest_nothing_is_stored_again(replicas, pair):
    first, _ = pair
    seen = []
    first.events.subscribe(seen.append)
    await accept(first, "id-1")
    await replicas.sql("INSERT INTO @.digest (id, sender, day) SELECT id, sender, 0 FROM @.export")
    await replicas.sql("DELETE FROM @.export")
    await fail_over(first)

    assert await wait_for_offer(seen) == ExportsOfferedAgain(1, 0)
    assert await replicas.count("export") == 0


async def test_doubtful_exports_that_failed_wait_as_well(replicas, pair):
    first, _ = pair
    await accept(first, "id-1")
    await lead(first)
    await replicas.sql("UPDATE @.export SET isolation = 2, is_doubtful = true")

    assert await first.outbox.claim(LIMITS, HEAD, "isolated") is None
    await replicas.sql("UPDATE @.export SET isolation = 1")
    await accept(first, "id-2")
    assert await claim(first) == ["id-2"]


async def wait_for_offer(seen):
    async with asyncio.timeout(10):
        while not (offers := [each for each in seen if isinstance(each, ExportsOfferedAgain)]):
            await asyncio.sleep(0.01)
    return offers[0]


async def test_an_export_that_the_primary_has_kept_for_long_is_not_offered_again(replicas):
    async with replicas.open(keep_seconds=0.2) as first:
        seen = []
        first.events.subscribe(seen.append)
        await accept(first, "id-1")
        await asyncio.sleep(0.25)
        database = await first.leadership._connector.connect()  # it answers, and is the same
        database.connection.terminate()
        await fail_over(first)

        assert await wait_for_offer(seen) == ExportsOfferedAgain(0, 0)


async def test_a_failover_is_told_once_with_what_was_offered(replicas, pair):
    first, _ = pair
    seen = []
    first.events.subscribe(seen.append)
    await accept(first, "id-1")
    await replicas.sql("DELETE FROM @.export")
    await fail_over(first)
    await wait_for_offer(seen)

    told = [each for each in seen if isinstance(each, JournalFailedOver | ExportsOfferedAgain)]
    assert [type(each) for each in told] == [JournalFailedOver, ExportsOfferedAgain]
    assert (told[1].exports, told[1].lost) == (1, 1)
    assert first.leadership._connector.failovers == 1


async def test_a_connection_that_leads_to_an_old_primary_is_closed_and_no_failover(pair):
    """As through a pooler, whose connections may lead to another server than before."""
    first, _ = pair
    connector, session = first.leadership._connector, first.peers._session
    await accept(first, "id-1")
    await session.fetch("SELECT 1")
    database, identity = session._database, connector.identity
    connector.identity = identity[:-1] + "F"
    with pytest.raises(JournalAway, match="old primary"):
        await session.run(connector.identify)

    assert database.connection.is_closed()
    assert connector.failovers == 0
    connector.identity = identity
    await session.fetch("SELECT 1")


# notifications


class Reader:
    """Listens to the notifications of a replica, from when it is connected."""

    def __init__(self, journal):
        self.journal, self.topics, self.has_notified = journal, [], asyncio.Event()

    async def __aenter__(self):
        self.task = asyncio.create_task(self.journal.peers.listen(self.handle))
        await self.wait_for("lease")  # every topic, once it listens
        await asyncio.sleep(0.05)
        self.topics.clear()
        return self

    async def __aexit__(self, *_):
        self.task.cancel()
        await asyncio.wait([self.task])

    async def handle(self, topic):
        self.topics.append(topic)
        self.has_notified.set()

    async def wait_for(self, topic, seconds=1.0):
        async with asyncio.timeout(seconds):
            while topic not in self.topics:
                self.has_notified.clear()
                await self.has_notified.wait()


CHANGES = {
    "stored": lambda first: accept(first, "id-2"),
    "settled": lambda first: commit(first, "id-1"),
    "set_aside": lambda first: first.dead_letters.store(POISON, "id-9", NOON),
    "lease": lambda first: first.leadership.release(),
}


@pytest.mark.parametrize(("topic", "act"), CHANGES.items(), ids=CHANGES)
async def test_notifications_reach_the_other_replica_at_once(replicas, pair, topic, act):
    first, second = pair
    await accept(first, "id-1")
    if topic != "stored":  # a leader needs no notification
        await lead(first)
    async with Reader(second) as reader:
        await act(first)
        await reader.wait_for(topic)


async def test_a_replica_without_notifications_polls_and_reports_it(replicas, monkeypatch):
    monkeypatch.setattr(peers_module, "SILENCE_SECONDS_MAX", 0.3)
    monkeypatch.setattr(database_module, "NOTIFY", "SELECT length($1)")
    async with replicas.pair() as (first, _):
        seen = []
        first.events.subscribe(seen.append)
        async with Reader(first) as reader:
            async with asyncio.timeout(3):
                while not first.peers.is_polling:
                    await asyncio.sleep(0.02)
            reader.topics.clear()
            await reader.wait_for("settled", 0.6)
        assert [type(each) for each in seen] == [NotificationsDelayed]


async def test_through_a_pooler_it_polls_from_the_start(replicas):
    async with replicas.open(is_pooled=True) as journal:
        assert journal.peers.is_polling
        topics = []

        async def handle(topic):
            topics.append(topic)

        task = asyncio.create_task(journal.peers.listen(handle))
        await asyncio.sleep(0.9)
        task.cancel()
        await asyncio.wait([task])
        assert topics.count("settled") >= 2


async def test_a_listener_that_is_cut_off_listens_again(replicas, pair):
    first, second = pair
    await accept(first, "id-1")
    await lead(first)
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"
    async with Reader(second) as reader:
        assert await replicas.sql(cut)
        await reader.wait_for("set_aside")  # all topics: some may have been missed
        reader.topics.clear()
        await commit(first, "id-1")
        await reader.wait_for("settled")


async def test_a_listener_that_met_another_journal_listens_again_once_the_own_is_back(
    replicas, pair
):
    _, second = pair
    name = "UPDATE @.secret SET name = '{}' WHERE name = '{}'"
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"
    async with Reader(second) as reader:
        await replicas.sql(name.format("hidden", "check"))
        assert await replicas.sql(cut)
        with pytest.raises(JournalAway):
            await second.leadership._connector.connect()
        await asyncio.sleep(2 * peers_module.FAST_POLL_SECONDS)
        await replicas.sql(name.format("check", "hidden"))
        await reader.wait_for("set_aside", 2)  # all topics, once it listens


async def test_outcomes_are_those_of_exports_that_wait_no_more(pair):
    first, second = pair
    await accept(first, *(f"id-{number}" for number in range(1, 5)))
    await accept(first, "of eve", user=EVE)
    await lead(first)
    await commit(first, "id-1")
    await set_aside(first, "id-2")
    await first.personal_data.purge(EVE, ())
    ids = ["id-1", "id-2", "id-3", "of eve", "unknown"]
    outcomes = await second.peers.read_outcomes(ids)

    assert {each.id: each.status for each in outcomes.receipts} == {
        "id-1": "committed",
        "id-2": "set_aside",
    }
    assert outcomes.erased == ("of eve",)


async def test_an_export_that_was_erased_and_sent_again_is_not_erased(pair):
    first, second = pair
    await accept(first, "id-1")
    await first.personal_data.purge(ADA, ())
    assert (await second.peers.read_outcomes(["id-1"])).erased == ("id-1",)
    await accept(second, "id-1")

    assert (await first.peers.read_outcomes(["id-1"])).erased == ()


async def test_replicas_know_each_other_until_they_leave(replicas):
    async with replicas.open(version="1") as first:
        await lead(first)
        async with Reader(first), replicas.open(version="2") as second, Reader(second):
            async with asyncio.timeout(3):
                while len(found := await list_replicas(first)) < 2:
                    await asyncio.sleep(0.02)
            assert {each.version: each.epoch for each in found} == {"1": 1, "2": None}
        assert [each.version for each in await list_replicas(first)] == ["1"]
        await replicas.sql("UPDATE @.replica SET seen_at = seen_at - interval '16 s'")
        assert not await list_replicas(first)


async def test_the_heartbeat_measures_the_clock_and_forgets_the_dead(replicas):
    await forget(replicas)
    async with replicas.open() as journal, Reader(journal):
        async with asyncio.timeout(3):
            while await replicas.count("replica", "name <> 'dead'") < 1:
                await asyncio.sleep(0.02)
        assert await replicas.count("replica") == 1
        assert abs(await replicas.sql("SELECT clock_skew FROM @.replica")) < 1


async def forget(replicas):
    async with replicas.open():
        await replicas.sql(
            "INSERT INTO @.replica (name, version, schema, seen_at)"
            " VALUES ('dead', '', 1, clock_timestamp() - interval '2 h')"
        )


# closing


async def test_a_replica_that_closes_leaves_no_connection_and_no_task(replicas):
    tasks = asyncio.all_tasks()
    async with replicas.open() as journal:
        name = journal.leadership._connector.name
        await lead(journal)
        await journal.leadership.release()
        async with Reader(journal):
            await asyncio.gather(*(accept(journal, f"id-{number}") for number in range(20)))
            await journal.ledger.read_totals()
            assert await count_connections(replicas, name) >= 4
        await accept(journal, "last")  # its notification is still to come

    async with asyncio.timeout(3):
        while await count_connections(replicas, name):
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.2)
    assert await count_connections(replicas, name) == 0
    assert asyncio.all_tasks() - tasks == set()


async def count_connections(replicas, name):
    return await replicas.sql(
        f"SELECT count(*) FROM pg_stat_activity WHERE application_name = '{name}'"
    )


async def test_the_name_of_a_replica_is_its_own_however_long_that_of_its_host(
    replicas, monkeypatch
):
    monkeypatch.setattr("socket.gethostname", lambda: "h" * 64)
    async with replicas.pair() as pair:
        names = {each.leadership._connector.name for each in pair}
        assert len(names) == 2
        assert max(map(len, names)) <= 63


async def test_a_replay_keeps_the_time_of_its_first_receipt_at_any_replica(pair):
    (first,) = await accept(pair[0], "id-1")
    again = await pair[1].intake.append(later(an_export(), hours=1))
    assert (again.at, again.path) == (first.at, first.path)


async def test_a_connection_that_is_terminated_in_the_middle_of_a_statement_is_lost(replicas):
    """The driver fails with AttributeError then, because it has dropped its protocol."""

    async def fail(database):
        async def use_dropped_protocol():
            database.connection.terminate()
            raise AttributeError("'NoneType' object has no attribute 'bind_execute'")

        await database.convert_error(use_dropped_protocol())

    async with replicas.open() as journal:
        with pytest.raises(JournalAway):
            await journal.leadership._session.run(fail)
        assert await journal.leadership.acquire() == 1
