"""Changed rows, a full disk and a wrong clock of the journal's database."""

import subprocess
import time
from contextlib import suppress

import pytest

from atlas.core.commits import Conclusion, Verdict
from atlas.core.errors import Deposed, JournalFull
from atlas.core.inspection import CommittedRows
from atlas.core.messages import BranchSnapshot, FlattenedExport, GroupLimits
from atlas.local.postgres import PostgresServer
from tests.conftest import needs
from tests.support.exports import ADA, NOON, SHELF, export, packed
from tests.support.postgres import open_postgres_journal, open_schema, run_sql

ALL = GroupLimits()
SEEN = BranchSnapshot("ri.foundry.main.transaction.0", NOON)
RID = "ri.foundry.main.transaction.1"
COMMITTED = Verdict("committed", transaction=RID)
FLIPS = {
    "payload": "UPDATE {0}.payload SET sealed = set_byte(sealed, 20, get_byte(sealed, 20) # 1)"
    " WHERE number = (SELECT number FROM {0}.export WHERE id = '{1}')",
    "label": "UPDATE {0}.export SET label = set_byte(label, 20, get_byte(label, 20) # 1)"
    " WHERE id = '{1}'",
    "counts": "UPDATE {0}.export SET ingested = ingested + 1 WHERE id = '{1}'",
    "missing": "DELETE FROM {0}.payload"
    " WHERE number = (SELECT number FROM {0}.export WHERE id = '{1}')",
}


@pytest.fixture
async def schema(postgres_servers):
    """A server, and the URL and the name of a schema."""
    server = postgres_servers.get_any()
    async with open_schema(server) as url:
        yield server, url, url.rpartition("=")[2]


@pytest.mark.parametrize("kind", FLIPS)
async def test_a_changed_export_is_left_out_and_set_aside_while_its_neighbours_are_delivered(
    schema, kind
):
    server, url, name = schema
    async with open_postgres_journal(url, retention=SHELF) as journal:
        await journal.leadership.acquire()
        exports = [export(number) for number in range(3)]
        for each in exports:
            await journal.intake.append(each)
        one, changed, three = (each.id for each in exports)
        await run_sql(server, FLIPS[kind].format(name, changed))

        group = await journal.outbox.claim(ALL, SEEN, "normal")
        await journal.outbox.record_open(RID, ALL)
        payloads = await journal.outbox.read([each.id for each in group.exports])
        assert dict(payloads) == {each.id: each.table.data for each in exports[::2]}
        verdicts = {changed: Verdict("corrupt")}
        ended = await journal.outbox.conclude(
            Conclusion(RID, verdicts=verdicts, default_verdict=COMMITTED)
        )
        status = {each.id: each.status for each in ended}
        assert status == {one: "committed", three: "committed", changed: "set_aside"}

        # what a person, an operator and a start ask for is still answered
        await journal.receipts.list_page(ADA, None, 10, None)
        page = await journal.ledger.list_entries(None, 10, None)
        assert len(page.entries) == 3
        health, rows = await journal.inspector.inspect(), exports[0].table.ingested
        assert health.set_aside.exports == 1
        assert health.committed == CommittedRows(2, rows + exports[2].table.ingested, RID)
        assert (await journal.ledger.read_totals()).imbalance == 0
        await journal.outbox.list_uncommitted("")


async def test_an_export_whose_digest_was_changed_is_not_taken_for_another(schema):
    server, url, name = schema
    async with open_postgres_journal(url, retention=SHELF) as journal:
        await journal.leadership.acquire()
        await journal.intake.append(export(1))
        await run_sql(server, f"UPDATE {name}.export SET id = '{export(2).id}'")

        group = await journal.outbox.claim(ALL, SEEN, "normal")

        ids = [each.id for each in group.exports]
        assert ids == [export(2).id]
        assert await journal.outbox.read(ids) == {}


# The clock of a new primary


async def test_a_lease_of_a_server_whose_clock_was_ahead_does_not_last(schema):
    server, url, name = schema
    async with (
        open_postgres_journal(url, retention=SHELF) as one,
        open_postgres_journal(url, retention=SHELF) as two,
    ):
        assert await one.leadership.acquire() == 1
        assert await two.leadership.acquire() is None
        await run_sql(
            server,
            f"UPDATE {name}.lease SET until = until + interval '1 h',"
            " wanted_by = 'gone', wanted_at = clock_timestamp() + interval '1 h'",
        )

        assert await two.leadership.acquire() == 2
        with pytest.raises(Deposed):
            await one.outbox.claim(ALL, SEEN, "normal")


async def test_a_lease_of_a_server_whose_clock_was_behind_is_fenced(schema):
    server, url, name = schema
    async with (
        open_postgres_journal(url, retention=SHELF) as one,
        open_postgres_journal(url, retention=SHELF) as two,
    ):
        assert await one.leadership.acquire() == 1
        await one.intake.append(export(1))
        await run_sql(server, f"UPDATE {name}.lease SET until = until - interval '1 h'")

        assert await two.leadership.acquire() == 2
        with pytest.raises(Deposed):
            await one.outbox.claim(ALL, SEEN, "normal")
        assert len((await two.outbox.claim(ALL, SEEN, "normal")).exports) == 1


# A full disk


@pytest.fixture
def small_disk(tmp_path):
    needs("mount", "-t", "tmpfs", "-o", "size=160m", "atlas-tests", str(tmp_path))
    try:
        yield tmp_path
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def fill(file):
    with suppress(OSError), file.open("ab", buffering=0) as open_file:
        while open_file.write(bytes(8192)):
            pass


def build_large(number):
    """Return an export of 100 kB that cannot be compressed: each extends a table."""
    small = export(number)
    rows = packed(b"".join(export(number * 10 + each).table.data for each in range(10)), 1)
    return FlattenedExport(small.id, small.head, small.at, rows)


@pytest.mark.slow
async def test_a_full_disk_refuses_exports_until_there_is_room(postgres_servers, small_disk):
    programs = postgres_servers.find_any_programs()
    small_disk.chmod(0o711)
    settings = {"min_wal_size": "64MB", "max_wal_size": "64MB", "wal_recycle": "on"}
    with PostgresServer(programs, small_disk / "data", settings=settings) as server:
        async with open_postgres_journal(server.url, retention=SHELF) as journal:
            await journal.leadership.acquire()
            accepted = [export(number) for number in range(5)]
            for each in accepted:
                await journal.intake.append(each)
            await journal.outbox.claim(ALL, SEEN, "normal")
            await journal.outbox.record_open(RID, ALL)
            await run_sql(server, "CHECKPOINT")
            fill(small_disk / "others")

            refused = []
            for number in range(10, 200):
                try:
                    await journal.intake.append(build_large(number))
                except JournalFull:
                    refused.append(number)
                    if len(refused) == 3:
                        break
            assert len(refused) == 3
            # Not even a new version of a row fits: the group stays in hand.
            with pytest.raises(JournalFull):
                await journal.outbox.conclude(Conclusion(RID, default_verdict=COMMITTED))
            hand = await journal.outbox.read_in_hand()
            assert (hand.transaction, len(hand.group.exports)) == (RID, 5)

            (small_disk / "others").unlink()
            freed_at = time.monotonic()
            for number in refused:
                assert not (await journal.intake.append(build_large(number))).replayed
            assert time.monotonic() - freed_at < 5
            ended = await journal.outbox.conclude(Conclusion(RID, default_verdict=COMMITTED))
            assert {each.id for each in ended} >= {each.id for each in accepted}
            assert (await journal.ledger.read_totals()).imbalance == 0
