"""A person is erased from shared files, and nobody else is touched."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import timedelta

import anyio
import pytest

from atlas.core.errors import ContentTooLarge, FoundryError
from atlas.core.events import GroupStarted
from atlas.outside import parquet
from atlas.outside.journal.retention import ReceiptRetention
from atlas.outside.sqlite.retention import prune
from tests.conftest import ServiceHarness, asgi
from tests.support.exports import NOON
from tests.support.fakes import MOMENTS, Barrier, no_answer
from tests.support.journal_states import uuids
from tests.support.people import ADA, HOST, ZOE, post_record, query_operator


@pytest.fixture
def life(tmp_path):
    return ServiceHarness(tmp_path / "journal", layout="per-group")


async def commit_together(life, flow, *senders):
    """Commit one group of these exports: (uuid, sub)."""
    gate = life.dataset.mishaps["before begin"] = Barrier()
    async with anyio.create_task_group() as tasks:
        for sender in senders:
            tasks.start_soon(post_record, flow, *sender)
        await gate.reached.wait()
        await anyio.wait_all_tasks_blocked()
        gate.opened.set()
    await flow.is_empty()


def contents(life):
    return list(life.dataset.files().values())


@pytest.mark.parametrize("format", ["ndjson", "parquet"])
async def test_a_shared_file_is_replaced_by_the_same_without_their_rows(life, format):
    life.format = format
    async with life.running() as flow:
        await commit_together(life, flow, ("a", ADA), ("z", ZOE), ("b", ADA), ("y", ZOE))
        ((path, before),) = life.dataset.files().items()
        receipt = (await query_operator(flow, "/erasures")).body
        where = (await query_operator(flow, "/personal-data")).body

    assert receipt["rewritten"] == [{"path": path, "rows": 2}]
    assert receipt["shared"] == where["shared"] == []
    assert not any("Rewrite" in each for each in receipt["to_do"])
    ((same, after),) = life.dataset.files().items()
    assert same == path
    assert uuids(life) == ["y", "z"]
    if format == "ndjson":
        assert set(after.splitlines()) < set(before.splitlines())
    else:
        assert b"ada" not in parquet.to_ndjson(after)
    kinds = [each.kind for each in life.dataset.transactions.values()]
    assert kinds == ["APPEND", "UPDATE"]
    assert receipt["transactions"] == list(life.dataset.transactions)[1:]


async def test_a_shared_file_that_is_theirs_alone_is_taken_out(life):
    async with life.running() as flow:
        await commit_together(life, flow, ("a", ADA), ("b", ADA))
        receipt = (await query_operator(flow, "/erasures")).body

    assert life.dataset.files() == {}
    assert [each["rows"] for each in receipt["rewritten"]] == [2]
    assert list(life.dataset.transactions.values())[-1].kind == "DELETE"


async def test_nothing_is_replaced_where_nothing_is_theirs(life):
    async with life.running() as flow:
        await commit_together(life, flow, ("z", ZOE), ("y", ZOE))
        receipt = (await query_operator(flow, "/erasures")).body

    assert receipt["rewritten"] == []
    assert uuids(life) == ["y", "z"]
    assert [each.kind for each in life.dataset.transactions.values()] == ["APPEND"]


async def test_whoever_shares_with_them_still_has_a_receipt_and_is_not_sent_again(life):
    async with life.running() as flow:
        await commit_together(life, flow, ("a", ADA), ("z", ZOE))
        await query_operator(flow, "/erasures")
        again = await post_record(flow, "z", ZOE)

    assert (again.status, again.body["replayed"]) == (200, True)
    assert uuids(life) == ["z"]


@pytest.mark.parametrize("moment", MOMENTS)
async def test_an_answer_that_is_lost_ends_it_and_the_next_time_it_is_done(life, moment):
    async with life.running() as flow:
        await commit_together(life, flow, ("a", ADA), ("z", ZOE))
        life.dataset.mishaps[moment] = no_answer
        first = await query_operator(flow, "/erasures")
        again = await query_operator(flow, "/erasures")
        assert (await post_record(flow, "x", ZOE)).status == 200

    assert (first.status, again.status) == (503, 200)
    assert uuids(life) == ["x", "z"]
    assert life.dataset.open_now() == []


@pytest.mark.parametrize("moment", [*MOMENTS, "before content", "after content"])
async def test_a_process_that_is_killed_meanwhile_leaves_the_file_as_it_was_or_clean(life, moment):
    async with life.running() as flow:
        await commit_together(life, flow, ("a", ADA), ("z", ZOE))
    doomed = replace(life, drain_seconds=0)
    gate = life.dataset.mishaps[moment] = Barrier()
    async with doomed.running() as flow, anyio.create_task_group() as operators:
        operators.start_soon(query_operator, flow, "/erasures")
        await gate.reached.wait()
        operators.cancel_scope.cancel()
    assert uuids(life) in (["a", "z"], ["z"])

    async with life.running() as flow:
        assert (await post_record(flow, "x", ZOE)).status == 200
        assert (await query_operator(flow, "/erasures")).status == 200
    assert uuids(life) == ["x", "z"]
    assert life.dataset.open_now() == []


async def test_a_lost_begin_of_a_replacement_is_found_by_its_type(life):
    async with life.running() as flow:
        await commit_together(life, flow, ("a", ADA), ("z", ZOE))
        life.dataset.mishaps["after begin"] = no_answer
        assert (await query_operator(flow, "/erasures")).status == 503
        with anyio.fail_after(5):
            while life.dataset.open_now():
                await anyio.sleep(0.001)

    states = [(each.kind, each.state) for each in life.dataset.transactions.values()]
    assert states == [("APPEND", "COMMITTED"), ("UPDATE", "ABORTED")]


async def test_a_file_that_foundry_does_not_serve_is_named_until_it_does(life):
    content = life.dataset.read_file

    async def too_large(path, size):
        raise ContentTooLarge

    async with life.running() as flow:
        await commit_together(life, flow, ("a", ADA), ("z", ZOE))
        (path,) = life.dataset.files()
        life.dataset.read_file = too_large
        first = (await query_operator(flow, "/erasures")).body
        where = (await query_operator(flow, "/personal-data")).body
        life.dataset.read_file = content
        again = (await query_operator(flow, "/erasures")).body
        clean = (await query_operator(flow, "/personal-data")).body

    assert first["shared"] == where["shared"] == [{"path": path, "exports": 1}]
    assert first["rewritten"] == []
    assert any("Rewrite the shared files" in each for each in first["to_do"])
    assert (again["shared"], clean["shared"]) == ([], [])
    assert again["rewritten"] == [{"path": path, "rows": 1}]
    assert uuids(life) == ["z"]


async def test_a_file_of_which_only_digests_tell_is_clean_afterwards_too(life):
    """The second person too, although the file by then belongs to another transaction."""
    async with life.running() as flow:
        await commit_together(life, flow, ("a", ADA), ("z", ZOE), ("e", "auth0|eve"))
    with closing(sqlite3.connect(life.journal)) as db, db:
        prune(db, ReceiptRetention(lambda: NOON + timedelta(days=60)))
    async with life.running() as flow:
        await query_operator(flow, "/erasures")
        assert uuids(life) == ["e", "z"]
        receipt = (await query_operator(flow, "/erasures", user=ZOE)).body

    assert uuids(life) == ["e"]
    assert receipt["purged"] == {"digest": 1, "phone": 1}
    with closing(sqlite3.connect(life.journal)) as db:
        assert db.execute("SELECT count(*) FROM digest").fetchone() == (1,)


@pytest.mark.parametrize("left", [0, 1], ids=["of neither", "of one"])
async def test_rows_of_which_the_digest_is_deleted_are_found_and_erased(life, left):
    """The journal no longer knows the file, or only that it holds rows of somebody else."""
    async with life.running() as flow:
        await commit_together(life, flow, ("a", ADA), ("z", ZOE))
        (held,) = (await query_operator(flow, "/personal-data", user=ZOE)).body["shared"]
    with closing(sqlite3.connect(life.journal)) as db, db:
        (zoe,) = db.execute("SELECT user FROM export WHERE number = 2").fetchone()
        prune(db, ReceiptRetention(lambda: NOON + timedelta(days=60)))
        db.execute("UPDATE digest SET day = day + ? WHERE user = ?", [left, zoe])
        prune(db, ReceiptRetention(lambda: NOON + timedelta(days=731)))
        assert db.execute("SELECT count(*) FROM digest").fetchone() == (left,)
    async with life.running() as flow:
        receipt = (await query_operator(flow, "/erasures")).body
    assert receipt["rewritten"] == [{"path": held["path"], "rows": 1}]
    assert uuids(life) == ["z"]


async def test_exports_that_come_while_files_are_rewritten_are_erased_too(life):
    """They are committed between two steps, into a new file."""
    async with life.running() as flow:
        await commit_together(life, flow, ("a", ADA), ("z", ZOE))
        gate = life.dataset.mishaps["before commit"] = Barrier()
        answers = {}

        async def forget():
            answers["forget"] = (await query_operator(flow, "/erasures")).body

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(forget)
            await gate.reached.wait()
            tasks.start_soon(post_record, flow, "late", ADA)
            tasks.start_soon(post_record, flow, "y", ZOE)
            await anyio.wait_all_tasks_blocked()
            gate.opened.set()
        await flow.is_empty()
        where = (await query_operator(flow, "/personal-data")).body

    assert [uuid for uuid in uuids(life) if uuid in "a late"] in ([], ["late"])
    if "late" not in uuids(life):
        assert where["exports"] == {}


async def test_a_foundry_that_serves_the_old_file_is_not_asked_for_ever(life):
    async with life.running() as flow:
        await commit_together(life, flow, ("a", ADA), ("z", ZOE))
        ((_, old),) = life.dataset.files().items()

        async def stale(path, size):
            return old

        async def owner(path):
            found = await type(life.dataset).find_file(life.dataset, path)
            return replace_bytes(found, len(old))

        life.dataset.read_file, life.dataset.find_file = stale, owner
        answer = await query_operator(flow, "/erasures")

    assert answer.status == 503
    assert "old content of a replaced file" in answer.body["error"]


def replace_bytes(found, size):
    return type(found)(found.transaction, size)


async def test_groups_go_on_between_the_files_of_an_erasure(life):
    async with life.running() as flow:
        await commit_together(life, flow, ("a", ADA), ("z", ZOE))
        await commit_together(life, flow, ("b", ADA), ("y", ZOE))
        receipt = (await query_operator(flow, "/erasures")).body
        assert (await post_record(flow, "x", ZOE)).status == 200
        assert flow.seen.count_of(GroupStarted) == 3

    assert [each["rows"] for each in receipt["rewritten"]] == [1, 1]
    assert uuids(life) == ["x", "y", "z"]


async def test_a_removal_that_foundry_refuses_is_an_error_and_not_a_receipt(life):
    async def refuses(transaction, path):
        raise FoundryError("Foundry answers 403 UploadFilePermissionDenied.")

    async with life.running() as flow:
        await commit_together(life, flow, ("a", ADA))
        life.dataset.remove = refuses
        answer = await asgi(
            flow.service.operator, "POST", "/erasures", HOST, b'{"user":"auth0|ada"}'
        )
        assert answer.status == 503
        assert (await query_operator(flow, "/personal-data")).body["exports"] == {"committed": 1}
