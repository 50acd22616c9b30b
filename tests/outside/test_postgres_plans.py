"""Statements that run often use their indexes, however many receipts there are."""

import json
import time
from datetime import UTC, datetime, timedelta

import pytest

from atlas.core.commits import Conclusion, Verdict
from atlas.core.messages import ExportMetadata, GroupLimits, RawExport, User
from atlas.core.phones import PhoneQuery
from atlas.outside.journal.capacity import CapacityLimits, CommitRate
from atlas.outside.journal.phones import PhoneCodec
from atlas.outside.journal.retention import ReceiptRetention
from tests.support.exports import ADA, NOON
from tests.support.replicas import COMMITTED, an_export, open_replicas

RECEIPTS, WAITING = 20_000, 800
TODAY = NOON + timedelta(days=10)
# The hash of a sender and an id have 64 digits. Some of each status, mostly receipts.
FILL = f"""
    INSERT INTO @.export (id, sender, at, ingested, rejected, bytes, moment, label, status, rid,
        isolation, turn, reason, is_doubtful, file)
    SELECT encode(sha256(n::text::bytea), 'hex'), encode(sha256((n % 500)::text::bytea), 'hex'),
        timestamptz '2026-01-02 12:00Z' + n * interval '1 s', 1, 0, 100, n,
        decode(repeat('00', 200), 'hex'),
        CASE WHEN n <= {RECEIPTS} THEN 'committed' WHEN n % 20 = 0 THEN 'set_aside'
            ELSE 'accepted' END,
        'ri.' || n / 100,
        CASE WHEN n > {RECEIPTS} AND n % 4 = 1 THEN 1 ELSE 0 END,
        n % 7,
        CASE WHEN n > {RECEIPTS} AND n % 40 = 0 THEN 'no' END,
        n > {RECEIPTS} AND n % 50 = 2,
        CASE WHEN n % 100 = 0 THEN 'groups/' || n ELSE 'ndjson' END
    FROM generate_series(1, {RECEIPTS} + {WAITING}) n;
    INSERT INTO @.payload
        SELECT number, decode(repeat('00', 500), 'hex') FROM @.export WHERE status <> 'committed';
    INSERT INTO @.unpublished SELECT number, 1, 500 FROM @.export WHERE status <> 'committed';
    INSERT INTO @.phone (sender, device, at, stuck, sealed)
        SELECT encode(sha256((n % 500)::text::bytea), 'hex'),
            encode(sha256(n::text::bytea), 'hex'), n, 0, decode(repeat('00', 90), 'hex')
        FROM generate_series(1, {RECEIPTS}) n;
    INSERT INTO @.binding
        SELECT sender, 'key ' || id, 0, 1, id FROM @.export WHERE number % 4 = 0;
    INSERT INTO @.digest
        SELECT encode(sha256(('old ' || n)::bytea), 'hex'),
            encode(sha256((n % 500)::text::bytea), 'hex'), 'ri.old', 20200 + n / 200
        FROM generate_series(1, {RECEIPTS}) n;
    ANALYZE @.export; ANALYZE @.payload; ANALYZE @.binding; ANALYZE @.digest;
    ANALYZE @.unpublished; ANALYZE @.phone
"""
LARGE = {"export", "digest", "binding"}
PARTIAL = {"mailbox", "failed", "aside", "given_up", "filed", "doubtful"}


class ExplainedSession:
    """Runs the work of a port, and explains each statement first. Keeps the scans of whole tables.

    `is_generic`: with the plan for any arguments, which a prepared statement gets after a while.
    """

    def __init__(self, database, *, is_generic):
        self.database, self.is_generic, self.scans, self.explained = database, is_generic, [], 0

    async def run(self, work, **_):
        return await work(self)

    transact = run

    @property
    def schema(self):
        return self.database.schema

    async def fetch(self, statement, *args):
        await self.explain(statement, *args)
        return await self.database.fetch(statement, *args)

    async def fetch_row(self, statement, *args):
        await self.explain(statement, *args)
        return await self.database.fetch_row(statement, *args)

    async def fetch_value(self, statement, *args):
        await self.explain(statement, *args)
        return await self.database.fetch_value(statement, *args)

    async def execute(self, statement, *args):
        await self.explain(statement, *args)
        return await self.database.execute(statement, *args)

    async def notify(self, topic):
        await self.database.notify(topic)

    async def explain(self, statement, *args):
        if not statement.strip().startswith(("SELECT", "INSERT", "UPDATE", "DELETE", "WITH")):
            return
        if self.is_generic:
            await self.database.execute(f"PREPARE explained AS {statement}")
            given = f"EXECUTE explained ({', '.join(['NULL'] * len(args))})".replace(" ()", "")
            plan = await self.database.fetch_value(f"EXPLAIN (FORMAT JSON) {given}")
            await self.database.execute("DEALLOCATE explained")
        else:
            plan = await self.database.fetch_value(f"EXPLAIN (FORMAT JSON) {statement}", *args)
        self.explained += 1
        for scan in find_scans(json.loads(plan)[0]["Plan"]):
            self.scans.append((scan, " ".join(statement.split())))


def find_scans(plan, *, is_limited=False):
    """Yield the large tables that this plan reads as a whole, also in the order of an index."""
    table, kind = plan.get("Relation Name"), plan["Node Type"]
    is_unbound = kind.startswith("Index") and "Index Cond" not in plan and table in LARGE
    if is_unbound and plan["Index Name"] not in PARTIAL and ("Filter" in plan or not is_limited):
        yield f"{table} by {plan['Index Name']}"
    if kind == "Seq Scan" and table in LARGE:
        yield table
    for child in plan.get("Plans", ()):
        yield from find_scans(child, is_limited=is_limited or kind == "Limit")


@pytest.fixture(params=[False, True], ids=["these arguments", "any arguments"])
async def explained(request, postgres_servers):
    """Ports over one connection whose statements are explained, in a journal with receipts."""
    from atlas.outside.postgres.address import parse_address  # noqa: PLC0415 - needs asyncpg
    from atlas.outside.postgres.connections import Connector  # noqa: PLC0415

    async with open_replicas(postgres_servers) as replicas, replicas.open() as journal:
        assert await journal.leadership.acquire() == 1
        await replicas.execute(FILL)
        lease, codec = journal.leadership, journal.receipts._codec
        connector = Connector(parse_address(replicas.url), "explained", journal.events)
        database = await connector.connect()
        try:
            await database.execute("SET plan_cache_mode = force_generic_plan")
            session = ExplainedSession(database, is_generic=request.param)
            yield build_ports(session, connector, lease, codec)
        finally:
            database.connection.terminate()


class Ports:
    pass


def build_ports(session, connector, lease, codec):
    from atlas.outside.postgres import insertion  # noqa: PLC0415
    from atlas.outside.postgres.dead_letters import PostgresDeadLetters  # noqa: PLC0415
    from atlas.outside.postgres.inspector import PostgresInspector  # noqa: PLC0415
    from atlas.outside.postgres.lease import Lease  # noqa: PLC0415
    from atlas.outside.postgres.ledger import PostgresLedger  # noqa: PLC0415
    from atlas.outside.postgres.observation import DatabaseObserver, utc_now  # noqa: PLC0415
    from atlas.outside.postgres.outbox import PostgresOutbox  # noqa: PLC0415
    from atlas.outside.postgres.peers import PostgresPeers  # noqa: PLC0415
    from atlas.outside.postgres.personal_data import PostgresPersonalData  # noqa: PLC0415
    from atlas.outside.postgres.phones import PostgresPhones, PostgresPhoneWriter  # noqa: PLC0415
    from atlas.outside.postgres.receipts import PostgresReceipts  # noqa: PLC0415
    from atlas.outside.postgres.recent import RecentExports  # noqa: PLC0415
    from atlas.outside.postgres.retention import ReceiptPruner  # noqa: PLC0415
    from atlas.outside.postgres.sealing import Sealer  # noqa: PLC0415
    from atlas.outside.postgres.stream import PostgresStreamQueue  # noqa: PLC0415

    limits = CapacityLimits(free_bytes=0)
    pruner = ReceiptPruner(ReceiptRetention(lambda: TODAY, days=9, digests_days=260))
    ports = Ports()
    connector.name = lease._connector.name
    own = Lease(connector, session, 5.0)
    own.epoch = lease.epoch
    ports.session, ports.sealer, ports.insertion = session, Sealer(codec), insertion
    ports.writer = insertion.IntakeWriter(ports.sealer, limits)
    ports.lease = own
    rate = CommitRate(time.monotonic)
    ports.outbox = PostgresOutbox(session, own, codec, pruner, rate, connector)
    ports.receipts = PostgresReceipts(session, codec)
    ports.peers = PostgresPeers(connector, session, codec, "", utc_now)
    delayed = lambda: False  # noqa: E731
    observer = DatabaseObserver(connector.name, utc_now, time.monotonic, delayed)
    ports.ledger = PostgresLedger(session, codec, limits, time.monotonic, observer)
    ports.stream = PostgresStreamQueue(session, codec)
    writer = PostgresPhoneWriter(session, PhoneCodec(codec.cipher))
    ports.phones = PostgresPhones(session, codec.cipher, writer)
    recent = RecentExports(0, time.monotonic)
    ports.people = PostgresPersonalData(connector, session, codec, recent, writer)
    ports.dead_letters = PostgresDeadLetters(session, codec, limits)
    ports.inspector = PostgresInspector(session, codec, limits, connector, observer)
    return ports


async def store_exports(explained):
    async def append(database):
        sealed = [explained.sealer.seal(an_export(f"id-{number}")) for number in range(50)]
        return await explained.insertion.append(database, [each.list_columns() for each in sealed])

    await explained.session.run(append)
    for key in ("k", None):
        export = an_export("id-99", key=key)
        sealed = explained.sealer.seal(export)
        request = explained.insertion.IntakeRequest(
            export.head, export.id, sealed.fixed.user, sealed
        )
        await explained.session.run(
            lambda database, it=request: explained.writer.write(database, [it])
        )


async def commit_groups(explained):
    """With the small limits of a group, and with large ones."""
    for lane, verdict in (
        ("normal", COMMITTED),
        ("isolated", Verdict("failed", "no answer")),
        ("normal", Verdict("refused", "it is bad", is_certain=True)),
        ("isolated", Verdict("divided", "one of them")),
    ):
        await explained.outbox.read_backlog(GroupLimits())
        group = await claim_without_fields(explained, lane)
        await record_file(explained.session, group[:1])
        await conclude_numbers(explained, verdict)


async def claim_without_fields(ports, lane):
    """Claim as the outbox does; the rows of this journal cannot be decrypted."""
    from atlas.outside.postgres import claims, outbox  # noqa: PLC0415

    async def work(database):
        await ports.lease.check(database)
        await claims.claim(database, GroupLimits(exports_max=50), lane)
        await claims.claim_late(database, GroupLimits(exports_max=60))
        numbers = await database.fetch_value(outbox.CLAIMED_NUMBERS)
        assert numbers
        await database.fetch(outbox.SELECT_CLAIMED, numbers)
        await database.execute(outbox.RECORD_INTENT, 1, "APPEND", lane, NOON)
        await database.execute(outbox.CLEAR_INTENTS, 1)
        return numbers

    return await ports.session.run(work)


async def record_file(database, numbers):
    from atlas.outside.postgres import outbox  # noqa: PLC0415

    await database.fetch(outbox.CLAIMED_BY_ID, numbers, ["id"])
    await database.fetch_value(outbox.IS_SHARED_PATH_TAKEN, "groups/100", ["id"])
    await database.execute(outbox.RECORD_FILE, numbers, ["id"], "groups/7", 9)
    await database.fetch_value(outbox.IS_MOMENT_TAKEN, "sender", 7)


async def conclude_numbers(ports, verdict):
    """Conclude as the outbox does, with the retention of old receipts, but build no receipt."""
    from atlas.outside.postgres import conclusions, outbox  # noqa: PLC0415

    async def work(database):
        hand = await ports.lease.check(database)
        rows = await database.fetch(outbox.CLAIMED_IDS, hand.numbers)
        claimed = {row["number"]: row["id"] for row in rows}
        conclusion = Conclusion(None, {}, verdict)
        await conclusions.apply_conclusion(database, conclusion, claimed)
        await ports.outbox._pruner.prune(database, len(claimed))
        await database.execute(outbox.CONCLUDE, 0.0)

    await ports.session.run(work)


async def prune_receipts(explained):
    before = await explained.session.database.fetch_value("SELECT count(*) FROM @.digest")
    await explained.session.run(lambda database: explained.outbox._pruner.prune(database, 100))
    after = await explained.session.database.fetch_value("SELECT count(*) FROM @.digest")
    assert after != before  # it had something to do


async def ask_as_sender(explained):
    await explained.receipts.find(ADA, "id")
    await explained.receipts.list_page(ADA, None, 50, None)
    await explained.receipts.list_page(ADA, "k", 50, None)
    await explained.receipts.list_parts(ADA, "stream")


async def ask_as_operator(explained):
    await explained.ledger.read_totals()
    await explained.ledger.check_ready()
    await explained.ledger.find_entry("feedfeed")
    await explained.ledger.list_entries(None, 50, 1)
    for status in ("accepted", "failed", "set_aside", "abandoned"):
        await explained.ledger.list_entries(status, 50, 1)
    await explained.ledger.list_entries(None, 50, None, "feedfeed")


async def publish_rows(explained):
    exports = await explained.stream.read_unpublished(200, 4 * 1024 * 1024)
    await explained.stream.record_published([export.number for export in exports])
    await explained.stream.trim(0, NOON)


async def look_at_phones(explained):
    await explained.phones.list_phones(PhoneQuery(), TODAY, 3)
    await explained.phones.list_phones(PhoneQuery(), TODAY, 3, ADA)
    await explained.phones.list_counts("")
    await explained.phones.prune(TODAY, 100)


async def ask_as_replica(explained):
    await explained.peers.read_outcomes([f"id-{number}" for number in range(100)])
    await explained.lease.acquire()
    await explained.lease.renew()


async def begin_a_term(explained):
    from atlas.outside.postgres import reconciliation  # noqa: PLC0415

    assert await explained.outbox.has_committed_lately(f"ri.{RECEIPTS // 100}")
    assert not await explained.outbox.has_committed_lately("ri.old")
    assert await explained.session.fetch(reconciliation.UNCOMMITTED, "id-1")
    database, asked = explained.session.database, reconciliation.UNCOMMITTED.replace("$1", "'id'")
    plan = " ".join(row[0] for row in await database.fetch(f"EXPLAIN {asked}"))
    assert not [index for index in ("mailbox", "failed", "aside") if f" {index} " not in plan]


async def clear_doubts(explained):
    doubtful = await explained.outbox.list_doubtful()
    assert doubtful
    await explained.outbox.clear_doubt(doubtful)


async def erase_person(explained):
    await explained.people.read_holdings(ADA)
    await explained.people.purge(ADA, ())


async def keep_dead_letters(explained):
    await explained.dead_letters.list_original_ids()
    original = RawExport(ExportMetadata(User("auth0|eve"), "", "", ""), b"{}")
    await explained.dead_letters.store(original, "poison", datetime.now(UTC))
    await explained.dead_letters.read_original("poison")
    await explained.dead_letters.requeue("no such id")
    await explained.dead_letters.abandon("no such id")
    await explained.dead_letters.delete("poison")


async def test_no_statement_that_runs_often_reads_a_whole_table(explained):
    for step in (
        store_exports,
        commit_groups,
        prune_receipts,
        ask_as_sender,
        ask_as_operator,
        publish_rows,
        look_at_phones,
        ask_as_replica,
        begin_a_term,
        clear_doubts,
        erase_person,
        keep_dead_letters,
    ):
        before = explained.session.explained
        await step(explained)
        assert explained.session.explained > before
    assert explained.session.scans == []
