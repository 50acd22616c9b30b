"""The rows that a stream has not got yet: the journal's second position, on each engine."""

import sqlite3
from contextlib import closing
from datetime import timedelta

import anyio
import pytest

from atlas.core.commits import RELEASED, Conclusion, Verdict
from atlas.core.messages import BranchSnapshot, ExportMetadata, FlattenedExport, GroupLimits, User
from atlas.outside.journal.capacity import CapacityLimits
from atlas.outside.journal.compression import decompress
from atlas.outside.journal.row_codec import RowCodec
from atlas.outside.sqlite import salvage
from atlas.outside.sqlite.journal import open_journal, open_migrated
from atlas.outside.sqlite.keys import open_cipher
from tests.support.exports import NOON, SHELF, packed
from tests.support.journal_states import open_leading
from tests.support.postgres import (
    ENGINES,
    open_postgres_journal,
    open_schema,
    run_sql,
)

ADA, EVE = User("auth0|ada"), User("auth0|eve")
RID = "ri.foundry.main.transaction.1"
COMMITTED = Verdict("committed", transaction=RID)
REFUSED = Verdict("refused", "it is bad", is_certain=True)
BOUNDS = CapacityLimits(free_bytes=0)
MANY, MIB = 1_000, 1024 * 1024
LONG_AGO = NOON - timedelta(days=1)


@pytest.fixture(params=["file", "memory", *ENGINES])
async def journal(request):
    async with open_leading(request.param, request, BOUNDS, is_streamed=True) as journal:
        yield journal


async def accept(journal, *ids, user=ADA, at=NOON, rows=b"x\n"):
    for id in ids:
        head = ExportMetadata(user, "phone", "", "")
        export = FlattenedExport(id, head, at, packed(id.encode() + rows, rows.count(b"\n")))
        await journal.intake.append(export)


async def conclude(journal, verdicts, **more):
    await journal.outbox.claim(GroupLimits(), BranchSnapshot("", NOON), "normal")
    await journal.outbox.record_open(RID, GroupLimits())
    await journal.outbox.conclude(Conclusion(RID, verdicts, RELEASED, **more))


async def commit(journal, *ids):
    await conclude(journal, dict.fromkeys(ids, COMMITTED))


async def unpublished(journal, exports_max=MANY, bytes_max=MIB):
    """The rows by id, in order."""
    exports = await journal.stream.read_unpublished(exports_max, bytes_max)
    return {each.id: each.payload and decompress(each.payload) for each in exports}


async def numbers(journal, *ids):
    return [
        each.number for each in await journal.stream.read_unpublished(MANY, MIB) if each.id in ids
    ]


async def test_what_is_accepted_is_unpublished_whether_it_is_committed_or_not(journal):
    await accept(journal, "a")
    await accept(journal, "b")
    await accept(journal, "a")
    assert await unpublished(journal) == {"a": b"ax\n", "b": b"bx\n"}
    await commit(journal, "a")
    assert await unpublished(journal) == {"a": b"ax\n", "b": b"bx\n"}
    assert (await journal.outbox.read_backlog(GroupLimits())).waiting == 1


async def test_what_is_published_is_forgotten_and_goes_on_waiting_for_its_commit(journal):
    await accept(journal, "a", "b", "c")
    await commit(journal, "a")
    published = await numbers(journal, "a", "b")
    for _ in range(2):
        await journal.stream.record_published(published)
        assert await unpublished(journal) == {"c": b"cx\n"}
    assert list(await journal.outbox.read(["a", "b", "c"])) == ["b", "c"]
    await commit(journal, "b")
    assert (await journal.ledger.read_totals()).exports["committed"] == 2


async def test_the_oldest_are_read_first_up_to_the_limits_and_one_at_least(journal):
    await accept(journal, "a", "b", "c", rows=b"x\n" * 50)
    assert list(await unpublished(journal, exports_max=2)) == ["a", "b"]
    assert list(await unpublished(journal, bytes_max=202)) == ["a", "b"]
    assert list(await unpublished(journal, bytes_max=1)) == ["a"]
    (first, *_) = await journal.stream.read_unpublished(1, 1)
    assert (first.rows, first.at) == (50, NOON)


async def test_what_is_set_aside_is_unpublished_only_once_it_is_replayed(journal):
    await accept(journal, "a", "b")
    await conclude(journal, {"a": REFUSED}, tries_max=1)
    assert list(await unpublished(journal)) == ["b"]
    assert await journal.dead_letters.requeue("a") == 1
    assert list(await unpublished(journal)) == ["a", "b"]
    assert await journal.dead_letters.requeue("a") == 0


async def test_what_is_set_aside_after_it_was_published_is_published_again_if_it_is_replayed(
    journal,
):
    await accept(journal, "a")
    await journal.stream.record_published(await numbers(journal, "a"))
    await conclude(journal, {"a": REFUSED}, tries_max=1)
    assert await journal.dead_letters.requeue(None) == 1
    assert list(await unpublished(journal)) == ["a"]


async def test_what_is_discarded_is_never_published(journal):
    await accept(journal, "a")
    await conclude(journal, {"a": REFUSED}, tries_max=1)
    assert await journal.dead_letters.abandon(None) == 1
    assert await unpublished(journal) == {}


async def test_the_rows_of_somebody_who_is_erased_are_not_published_any_more(journal):
    await accept(journal, "a", "b")
    await accept(journal, "e", user=EVE)
    await commit(journal, "a")
    await journal.personal_data.purge(ADA, [])
    assert await unpublished(journal) == {"e": b"ex\n"}
    backlog = await journal.stream.trim(MIB, LONG_AGO)
    assert (backlog.rows, backlog.dropped) == (1, 0)


async def test_a_backlog_is_counted_and_nothing_is_dropped_within_its_bounds(journal):
    assert await journal.stream.trim(0, NOON) == type(await journal.stream.trim(0, NOON))()
    await accept(journal, "a", rows=b"x\n" * 3)
    await accept(journal, "b", at=NOON + timedelta(hours=1))
    backlog = await journal.stream.trim(10, NOON)
    assert (backlog.rows, backlog.bytes, backlog.oldest) == (4, 10, NOON)
    assert backlog.dropped == 0


@pytest.mark.parametrize("is_committed", [True, False])
async def test_the_oldest_are_dropped_from_a_stream_that_is_far_behind(journal, is_committed):
    for number, id in enumerate("abcd"):
        await accept(journal, id, at=NOON + timedelta(hours=number))
    if is_committed:
        await commit(journal, *"abcd")
    backlog = await journal.stream.trim(MIB, NOON + timedelta(hours=1))  # a is older
    assert (backlog.dropped, backlog.rows, backlog.oldest) == (1, 3, NOON + timedelta(hours=1))
    backlog = await journal.stream.trim(7, LONG_AGO)  # three of three bytes each are more
    assert (backlog.dropped, backlog.rows) == (1, 2)
    assert list(await unpublished(journal)) == ["c", "d"]
    assert (await journal.ledger.read_totals()).exports.get("abandoned", 0) == 0
    kept = await journal.outbox.read(list("abcd"))
    assert list(kept) == ([] if is_committed else list("abcd"))


async def test_no_more_than_a_thousand_are_dropped_at_once(journal):
    await accept(journal, *(f"{number:04}" for number in range(1_002)))
    dropped = [(await journal.stream.trim(0, LONG_AGO)).dropped for _ in range(3)]
    assert dropped == [1_000, 2, 0]


async def test_a_stream_that_is_turned_off_leaves_nothing_behind(journal):
    await accept(journal, "a", "b")
    await commit(journal, "a")
    assert await journal.stream.clear() == 2
    assert await unpublished(journal) == {}
    assert list(await journal.outbox.read(["a", "b"])) == ["b"]


async def test_a_commit_does_not_wait_for_the_publisher(postgres_servers):
    """What it keeps for the stream just then is deleted later."""
    server = postgres_servers.get_any()
    async with (
        open_schema(server) as url,
        open_postgres_journal(url, BOUNDS, SHELF, is_streamed=True) as journal,
        anyio.create_task_group() as tasks,
    ):
        schema = url.partition("?schema=")[2]
        await journal.leadership.acquire()
        await accept(journal, "a")
        publish = f"DELETE FROM {schema}.unpublished"
        tasks.start_soon(run_sql, server, "BEGIN", publish, "SELECT pg_sleep(3)", "COMMIT")
        await anyio.sleep(1)
        with anyio.fail_after(1.5):
            await commit(journal, "a")
        await anyio.sleep(3)
        kept = f"SELECT count(*) FROM {schema}.unpublished_payload"
        assert await run_sql(server, kept) == [1]
        await journal.stream.trim(MIB, LONG_AGO)
        assert await run_sql(server, kept) == [0]


def rebuild(path, exports, *damages):
    """Damage a journal, and rebuild it as a start does when pages are corrupt."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for damage in damages:
            db.execute(damage)
    codec = RowCodec(open_cipher(path, []))
    salvage.rebuild(path, open_migrated, codec, exports)


async def test_a_rebuilt_journal_goes_on_publishing(tmp_path):
    path = tmp_path / "journal"
    with open_journal(path, BOUNDS, retention=SHELF, is_streamed=True) as journal:
        await accept(journal, "a", "b", "c")
        await commit(journal, "a")
        await journal.stream.record_published(await numbers(journal, "c"))
    rebuild(path, 3)
    with open_journal(path, BOUNDS, retention=SHELF, is_streamed=True) as journal:
        assert await unpublished(journal) == {"a": b"ax\n", "b": b"bx\n"}
        assert (await journal.outbox.read_backlog(GroupLimits())).waiting == 2


@pytest.mark.parametrize("has_entry", [True, False])
async def test_a_payload_kept_for_the_stream_brings_back_no_export_that_was_committed(
    tmp_path, has_entry
):
    """Its page may be lost. If it were restored as waiting, its rows would be committed twice."""
    path = tmp_path / "journal"
    with open_journal(path, BOUNDS, retention=SHELF, is_streamed=True) as journal:
        await accept(journal, "a", "b")
        await commit(journal, "a")
    lost = ["DROP TRIGGER forgets", "DROP TRIGGER published", "DROP TRIGGER goes"]
    lost += ["DELETE FROM export WHERE id = 'a'"]
    lost += [] if has_entry else ["DELETE FROM unpublished"]
    rebuild(path, 2, *lost)
    with open_journal(path, BOUNDS, retention=SHELF, is_streamed=True) as journal:
        assert list(await unpublished(journal)) == (["b"] if has_entry else [])
        assert (await journal.stream.trim(MIB, LONG_AGO)).rows == int(has_entry)
        assert (await journal.outbox.read_backlog(GroupLimits())).waiting == 1
        await commit(journal, "b")
        assert (await journal.ledger.read_totals()).exports["committed"] == 1
        await journal.stream.clear()
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT count(*) FROM unpublished_payload").fetchone() == (0,)


@pytest.mark.parametrize("kind", ["memory", "wheel"])
async def test_without_a_stream_nothing_is_unpublished(request, kind):
    async with open_leading(kind, request, BOUNDS) as journal:
        await accept(journal, "a", "b")
        await commit(journal, "a")
        await conclude(journal, {"b": REFUSED}, tries_max=1)
        assert await journal.dead_letters.requeue(None) == 1
        assert await unpublished(journal) == {}
        assert (await journal.stream.trim(0, NOON)).rows == 0
