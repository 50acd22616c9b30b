"""The disk is restored from a copy: the journal lacks everything committed since."""

import shutil
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from itertools import count

import pytest

from atlas.core import identifiers
from atlas.core.events import JournalRestored, StageCrashed, UploadPaused
from atlas.core.messages import GroupLimits
from tests.conftest import ServiceHarness, asgi
from tests.support.exports import NOON
from tests.support.fakes import Barrier, no_answer
from tests.support.journal_states import accept, entries, export_of, post_when_idle, uuids

ABC = [b"a", b"b", b"c"]
HOST = {"host": "127.0.0.1:9464"}
LAYOUTS = ["per-export", "per-group", "auto"]
FORMATS = ["ndjson", "parquet"]

each_layout = pytest.mark.parametrize("layout", LAYOUTS)


def make_service(tmp_path, layout="auto", **more) -> ServiceHarness:
    """A service whose clock advances: no two moments are the same."""
    seconds = count()
    (tmp_path / "disk").mkdir()
    now = lambda: NOON + timedelta(seconds=next(seconds))  # noqa: E731
    return ServiceHarness(tmp_path / "disk" / "journal", layout=layout, now=now, **more)


def copy_disk(life: ServiceHarness) -> None:
    shutil.copytree(life.journal.parent, life.journal.parent.with_name("snapshot"))


def restore_copy(life: ServiceHarness) -> None:
    """Restore the copy; everything written since is lost."""
    shutil.rmtree(life.journal.parent)
    shutil.copytree(life.journal.parent.with_name("snapshot"), life.journal.parent)


async def a_day_passes(life: ServiceHarness, *more: bytes) -> None:
    """Commit one export, copy the disk with three waiting, then commit them all and more."""
    await post_when_idle(life, b"before")
    await accept(life, *ABC)
    copy_disk(life)
    await post_when_idle(life)
    await post_when_idle(life, *more)


async def count_found(life: ServiceHarness) -> int:
    """Return how many exports were found in the dataset, once none is waiting."""
    async with life.running() as flow:
        await flow.is_empty()
    assert flow.seen.of(StageCrashed) == []
    assert life.dataset.complaints == []
    return sum(event.exports for event in flow.seen.of(JournalRestored))


async def count_found_without(life: ServiceHarness, call: str) -> int:
    """Return the same, and check that this call, which would have failed, was never made."""
    life.dataset.mishaps[f"before {call}"] = no_answer
    found = await count_found(life)
    assert f"before {call}" in life.dataset.mishaps
    return found


def somebody_commits(life: ServiceHarness, **files: bytes) -> None:
    rid = life.dataset.opened(is_ours=False, **files)
    life.dataset.transactions[rid].state = "COMMITTED"


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("then", LAYOUTS)
@each_layout
async def test_what_waited_in_the_copy_stands_once_whatever_its_layout_was_and_is(
    tmp_path, layout, then, format
):
    life = make_service(tmp_path, layout, format=format)
    await a_day_passes(life, b"d", b"e")
    restore_copy(life)
    life.layout = then
    assert await count_found(life) == 3
    assert uuids(life) == ["a", "b", "before", "c", "d", "e"]
    assert life.dataset.open_now() == []


@pytest.mark.parametrize(("calls", "then"), [(0, 9_000), (9_000, 0)])
async def test_nor_does_it_matter_how_many_calls_are_left(tmp_path, calls, then):
    life = make_service(tmp_path)
    life.dataset.calls = calls
    await a_day_passes(life, b"d")
    restore_copy(life)
    life.dataset.calls = then
    assert await count_found(life) == 3
    assert uuids(life) == ["a", "b", "before", "c", "d"]


@each_layout
async def test_phones_that_send_again_what_the_copy_knows_are_told_where_it_stands(
    tmp_path, layout
):
    life = make_service(tmp_path, layout)
    await a_day_passes(life)
    stood = life.dataset.files()
    restore_copy(life)
    async with life.running() as flow:
        for uuid in [b"before", *ABC]:
            answer = await flow.post(export_of(uuid))
            assert (answer.status, answer.body["replayed"]) == (200, True)
            there = life.dataset.transactions[answer.body["transaction_rid"]]
            assert answer.body["file_path"] in there.files
    assert life.dataset.files() == stood


@each_layout
async def test_what_came_after_the_copy_and_is_sent_again_stands_twice(tmp_path, layout):
    """It is indistinguishable: it was accepted at another time, and each row holds that time."""
    life = make_service(tmp_path, layout)
    await a_day_passes(life, b"d")
    restore_copy(life)
    (again,) = await post_when_idle(life, b"d")
    assert not again["replayed"]
    assert Counter(uuids(life)) == Counter(["a", "b", "before", "c", "d", "d"])


@pytest.mark.parametrize("moment", ["after begin", "after put", "before commit", "after commit"])
@each_layout
async def test_a_copy_that_was_made_while_a_group_was_under_way_is_no_other(
    tmp_path, layout, moment
):
    life = make_service(tmp_path, layout)
    await post_when_idle(life, b"before")
    await accept(life, *ABC)
    life.dataset.mishaps[moment] = gate = Barrier()
    async with life.running() as flow:
        await gate.reached.wait()
        copy_disk(life)
        gate.opened.set()
        await flow.is_empty()
    await post_when_idle(life, b"d")
    restore_copy(life)
    await count_found(life)
    assert uuids(life) == ["a", "b", "before", "c", "d"]


@pytest.mark.parametrize("is_killed", [False, True], ids=["answer lost", "killed"])
@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize("call", ["branch_snapshot", "files_under", "content"])
@each_layout
async def test_a_search_that_fails_or_is_killed_begins_anew(
    tmp_path, layout, call, side, is_killed
):
    life = make_service(tmp_path, layout)
    await a_day_passes(life, b"d")
    restore_copy(life)
    life.dataset.mishaps[f"{side} {call}"] = gate = Barrier() if is_killed else no_answer
    if is_killed:
        async with replace(life, drain_seconds=0).running():
            await gate.reached.wait()
    assert await count_found(life) == 3
    assert uuids(life) == ["a", "b", "before", "c", "d"]


async def test_while_foundry_is_away_exports_are_accepted_and_nothing_goes_out(tmp_path):
    life = make_service(tmp_path, "per-group")
    await a_day_passes(life, b"d")
    restore_copy(life)
    stood = uuids(life)
    await accept(life, b"e")
    assert uuids(life) == stood
    assert await count_found(life) == 3
    assert uuids(life) == ["a", "b", "before", "c", "d", "e"]


@pytest.mark.parametrize("end", ["ABORTED", "COMMITTED"])
async def test_a_transaction_that_the_copy_does_not_know_waits_for_somebody_to_end_it(
    tmp_path, end
):
    """It is our own, but the copy has no record of it, so it counts as another writer's.

    If it is committed, its rows are found: no search has been made before it ended.
    """
    life = make_service(tmp_path, "per-group")
    await post_when_idle(life, b"before")
    await accept(life, *ABC)
    copy_disk(life)
    life.dataset.mishaps["after put"] = gate = Barrier()
    async with replace(life, drain_seconds=0).running():
        await gate.reached.wait()
    restore_copy(life)
    async with replace(life, layout="per-export").running() as flow:
        await flow.seen.wait_for(UploadPaused, 3)
        (rid,) = life.dataset.open_now()
        life.dataset.transactions[rid].state = end
        await flow.is_empty()
    assert uuids(life) == ["a", "b", "before", "c"]


async def test_what_many_have_sent_is_found_side_by_side_and_counted(tmp_path):
    life = make_service(tmp_path, "per-export")
    await post_when_idle(life, b"before")
    life.dataset.down = True
    async with replace(life, drain_seconds=0).running() as flow:
        for name in "abcdefgh":
            export, token = export_of(name.encode()), f"token-of-{name}"
            await flow.post(export, token=token, prefer="respond-async")
    life.dataset.down = False
    copy_disk(life)
    await post_when_idle(life)
    restore_copy(life)
    assert await count_found(life) == 8
    assert uuids(life) == sorted(["before", *"abcdefgh"])


async def test_a_group_that_was_cut_otherwise_is_found_all_the_same(tmp_path):
    """Then the exports went in groups of two; now all would go together."""
    life = make_service(tmp_path, "per-group", group=GroupLimits(exports_max=2))
    await post_when_idle(life, b"before")
    await accept(life, *ABC, b"d", b"e")
    copy_disk(life)
    await post_when_idle(life, b"f")
    restore_copy(life)
    life.group = GroupLimits()
    assert await count_found(life) == 5
    assert uuids(life) == ["a", "b", "before", "c", "d", "e", "f"]


async def test_what_an_operator_has_sent_again_since_the_copy_is_found_as_well(tmp_path):
    life = make_service(tmp_path, "per-export")
    await post_when_idle(life, b"before")
    await accept(life, b"a")
    life.dataset.refuses.add(await get_last_path(life))
    await post_when_idle(life, b"b")
    copy_disk(life)
    life.dataset.refuses.clear()
    assert await replayed(life) == 1
    restore_copy(life)
    await accept(life, b"c")
    life.layout = "per-group"
    assert await count_found(life) == 1
    assert await replayed(life) == 0
    assert uuids(life) == ["a", "b", "before", "c"]
    assert {entry.reason for entry in await entries(life)} == {None}


async def get_last_path(life) -> str:
    """Return the path of the file that the last export will get."""
    path = (await entries(life))[0].receipt.path
    return f"healthkit/raw/ada/{path.rpartition('/')[2]}"


async def replayed(life) -> int:
    async with life.running() as flow:
        answer = await asgi(flow.service.operator, "POST", "/exports/replay", HOST)
        await flow.is_empty()
        return answer.body["again"]


async def test_who_was_forgotten_since_the_copy_has_to_be_forgotten_again(tmp_path):
    life = make_service(tmp_path, "per-export")
    await a_day_passes(life)
    body = b'{"user":"ada"}'
    async with life.running() as flow:
        await asgi(flow.service.operator, "POST", "/erasures", HOST, body)
    assert uuids(life) == []
    restore_copy(life)
    async with life.running() as flow:
        await flow.is_empty()
        assert uuids(life) == ["a", "b", "c"]
        await asgi(flow.service.operator, "POST", "/erasures", HOST, body)
    assert uuids(life) == []


@each_layout
async def test_files_of_others_are_looked_at_and_prove_nothing(tmp_path, layout):
    """They are at our paths and among our groups, with other rows or only some of ours."""
    life = make_service(tmp_path, layout)
    await post_when_idle(life, b"before")
    await accept(life, *ABC)
    path = await get_last_path(life)
    shared = path.replace("raw/ada", "groups")
    theirs = {
        path: b'{"uuid":"theirs"}\n',
        shared: b'{"uuid":"theirs, too"}\n',
        f"{shared}.csv": b"no,row",
    }
    rid = life.dataset.opened(is_ours=False, **theirs)
    life.dataset.transactions[rid].state = "COMMITTED"
    assert await count_found(life) == 0
    del life.dataset.transactions[rid].files[f"{shared}.csv"]
    assert uuids(life) == ["a", "b", "before", "c", "theirs", "theirs, too"]


async def test_as_long_as_the_last_transaction_is_the_one_that_is_known_no_file_is_looked_for(
    tmp_path,
):
    life = make_service(tmp_path)
    await post_when_idle(life, b"before")
    await accept(life, *ABC)
    assert await count_found_without(life, "files_under") == 0
    assert uuids(life) == ["a", "b", "before", "c"]


async def test_where_others_write_no_file_is_read_but_where_ours_may_stand(tmp_path):
    life = make_service(tmp_path, "per-group")
    await post_when_idle(life, b"before")
    somebody_commits(life)
    await accept(life, *ABC)
    assert await count_found_without(life, "content") == 0
    assert uuids(life) == ["a", "b", "before", "c"]


async def test_a_search_that_fails_when_the_newest_was_found_already_begins_anew(tmp_path):
    """Two share a file; the third, in the last transaction, has its own and is found first."""
    life = make_service(tmp_path, "auto", group=GroupLimits(exports_max=2))
    await post_when_idle(life, b"before")
    await accept(life, *ABC)
    copy_disk(life)
    life.dataset.calls, life.dataset.mishaps["after commit"] = 0, make_mishap(life, calls=9_000)
    await post_when_idle(life)
    restore_copy(life)
    life.dataset.mishaps["before content"] = make_mishap(life, content=no_answer)
    assert await count_found(life) == 3
    assert uuids(life) == ["a", "b", "before", "c"]


def make_mishap(life, calls=None, content=None):
    """Return a mishap that replaces the recorded calls, or the next call's content."""

    async def happens():
        if calls is not None:
            life.dataset.calls = calls
        if content is not None:
            life.dataset.mishaps["before content"] = content

    return happens


async def test_what_is_damaged_in_the_copy_keeps_nothing_else_from_being_found(tmp_path):
    life = make_service(tmp_path, "per-group")
    await a_day_passes(life, b"d")
    restore_copy(life)
    with closing(sqlite3.connect(life.journal)) as db, db:
        last = "SELECT max(number) FROM export WHERE status = 'accepted'"
        assert db.execute(f"UPDATE export SET label = x'00' WHERE number = ({last})").rowcount == 1
    assert await count_found(life) == 2
    assert uuids(life) == ["a", "b", "before", "c", "d"]


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(b'{"ingested_at":"2026-99-99T99:99:99.000Z"}', id="no date"),
        pytest.param(b'{"ingested_at":"9999-12-31T23:59:59.000Z"}', id="the last second"),
        pytest.param(b"\xff\n{", id="no JSON"),
    ],
)
async def test_a_group_file_of_somebody_else_is_no_reason_to_stop(tmp_path, row):
    life = ServiceHarness(tmp_path / "journal", layout="per-group", now=lambda: NOON)
    await accept(life, b"a")
    path = f"{identifiers.GROUPS}2026-01-02T12-00-00-500Z.ndjson"
    somebody_commits(life, **{path: row})
    assert await count_found(life) == 0
    assert len(life.dataset.files()) == 2


async def test_a_file_that_the_journal_knows_is_not_read_again(tmp_path):
    """After an erasure, or with other writers, the head is not ours though nothing was restored."""
    life = ServiceHarness(tmp_path / "journal", layout="per-group", now=lambda: NOON)
    await post_when_idle(life, b"before")
    await accept(life, b"a")
    somebody_commits(life)
    assert await count_found_without(life, "content") == 0
    assert uuids(life) == ["a", "before"]
