"""An accepted export is committed exactly once, whichever call to Foundry fails and however."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import timedelta

import anyio
import pytest

from atlas.actors.upload.pacing import pause_seconds
from atlas.core import identifiers
from atlas.core.errors import CommitRefused, FoundryError, JournalFull
from atlas.core.events import (
    ExportAccepted,
    ExportSetAside,
    ForeignWriterDetected,
    GroupCommitted,
    JournalDamaged,
    OrphanSuspected,
    StageCrashed,
    UploadPaused,
)
from atlas.core.messages import GroupLimits
from tests.conftest import ServiceHarness, an_export, asgi
from tests.support.fakes import MOMENTS, Barrier, no_answer
from tests.support.journal_states import accept


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_call_that_fails_or_whose_answer_is_lost_commits_once(tmp_path, moment):
    life = ServiceHarness(tmp_path / "journal")
    life.dataset.mishaps[moment] = no_answer
    async with life.running() as flow:
        answer = await flow.post(an_export())

    assert answer.status == 200
    assert life.dataset.uuids() == ["a"]
    assert life.dataset.open_now() == []


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_process_that_is_killed_commits_once_after_its_restart(tmp_path, moment):
    life = ServiceHarness(tmp_path / "journal")
    await post_and_kill(life, moment)

    async with life.running() as flow:
        answer = await flow.post(an_export())

    assert answer.status == 200
    assert life.dataset.uuids() == ["a"]
    assert life.dataset.open_now() == []


async def test_a_process_that_is_killed_while_it_recovers_commits_once(tmp_path):
    life = ServiceHarness(tmp_path / "journal")
    for moment in ("after commit", "before transaction_status", "after transaction_status"):
        await post_and_kill(life, moment)

    async with life.running() as flow:
        assert (await flow.post(an_export())).status == 200
    assert life.dataset.uuids() == ["a"]


@pytest.mark.parametrize("moment", ["after begin", "before put", "after put", "before commit"])
async def test_a_transaction_that_someone_else_commits_proves_nothing(tmp_path, moment):
    life = ServiceHarness(tmp_path / "journal")
    await accept(life, b"a", b"b", b"c")

    async def someone_commits():
        life.dataset.transactions[life.dataset.head()].state = "COMMITTED"

    life.dataset.mishaps[moment] = someone_commits
    async with life.running() as flow:
        for uuid in (b"a", b"b", b"c"):
            answer = await flow.post(an_export(b'{"uuid":"%s"}\n' % uuid))
            assert answer.status == 200
            there = life.dataset.transactions[answer.body["transaction_rid"]]
            assert there.state == "COMMITTED"
            assert answer.body["file_path"] in there.files
    assert life.dataset.uuids() == ["a", "b", "c"]


async def test_a_file_that_someone_else_commits_half_written_is_not_ours(tmp_path):
    life = ServiceHarness(tmp_path / "journal")

    async def someone_commits():
        theirs = life.dataset.transactions[life.dataset.head()]
        theirs.state, theirs.files = "COMMITTED", dict.fromkeys(theirs.files, b"")

    life.dataset.mishaps["after put"] = someone_commits
    async with life.running() as flow:
        answer = await flow.post(an_export())
    assert answer.body["transaction_rid"] == "ri.foundry.main.transaction.3", "2 found it taken"
    assert life.dataset.uuids() == ["a"]


@pytest.mark.parametrize(
    ("moment", "theirs"),
    [
        pytest.param("before branch_snapshot", {}, id="open before"),
        pytest.param("before begin", {"x": b'{"uuid":"x"}\n'}, id="opens with files of its own"),
        pytest.param("before begin", {"kind": "UPDATE"}, id="opens with another type"),
        pytest.param("before begin", {}, id="opens between our look and our begin"),
    ],
)
async def test_a_transaction_of_somebody_else_is_waited_for_and_left_alone(
    tmp_path, moment, theirs
):
    life = ServiceHarness(tmp_path / "journal")

    async def theirs_opens():
        life.dataset.opened(is_ours=False, **theirs)

    life.dataset.mishaps[moment] = theirs_opens
    async with life.running() as flow, anyio.create_task_group() as senders:
        senders.start_soon(flow.post, an_export())
        await finish_other_writer(life, flow)
    assert life.dataset.uuids() == sorted({"a", *theirs} - {"kind"})


async def test_a_transaction_that_opens_long_after_our_attempt_is_left_alone(tmp_path):
    life = ServiceHarness(tmp_path / "journal")
    await post_and_kill(life, "before begin")
    life.dataset.now += timedelta(hours=1)
    life.dataset.opened(is_ours=False)
    async with life.running() as flow:
        await finish_other_writer(life, flow)
    assert life.dataset.uuids() == ["a"]


@pytest.mark.parametrize(
    ("moment", "mishaps"),
    [
        pytest.param("after commit", {}, id="answered"),
        pytest.param("after abort", {"after begin": no_answer}, id="found and aborted"),
    ],
)
async def test_an_attempt_that_is_resolved_makes_nothing_ours_any_more(tmp_path, moment, mishaps):
    life = ServiceHarness(tmp_path / "journal", group=GroupLimits(exports_max=1))
    await accept(life, b"a", b"b")

    async def theirs_opens():
        life.dataset.opened(is_ours=False)

    life.dataset.mishaps |= mishaps | {moment: theirs_opens}
    async with life.running() as flow:
        await finish_other_writer(life, flow)
        await flow.is_empty()
    assert life.dataset.uuids() == ["a", "b"]


async def test_a_transaction_of_ours_that_opens_late_is_found_and_aborted(tmp_path):
    """By then its group has been released and claimed again; the attempt is still recorded."""
    life = ServiceHarness(tmp_path / "journal")

    async def late():
        life.dataset.opened()

    life.dataset.mishaps |= {"before begin": no_answer, "after find_orphan": late}
    async with life.running() as flow:
        assert (await flow.post(an_export())).status == 200
    states = [each.state for each in life.dataset.transactions.values()]
    assert states == ["ABORTED", "COMMITTED"]
    assert life.dataset.uuids() == ["a"]


@pytest.mark.parametrize(
    "uuids", [pytest.param([b"a"], id="ours"), pytest.param([b"a", b"b", b"c"], id="all three")]
)
async def test_a_path_that_is_taken_is_ours_already_or_makes_room(tmp_path, uuids):
    """Another service is quicker: a is in the dataset, x has taken b's path, c's path is free."""
    quicker = ServiceHarness(tmp_path / "another")
    async with quicker.running() as flow:
        first = await flow.post(an_export())
        await flow.post(an_export(b'{"uuid":"x"}'))

    async def it_was_quicker():
        life.dataset.transactions |= quicker.dataset.transactions

    life = ServiceHarness(tmp_path / "journal")
    await accept(life, *uuids)
    life.dataset.mishaps["before begin"] = it_was_quicker
    async with life.running() as flow:
        again = await flow.post(an_export())
        await flow.is_empty()
        listed = await asgi(flow.service.operator, "GET", "/exports", {"host": "127.0.0.1:9464"})
    assert again.body["transaction_rid"] == first.body["transaction_rid"]
    assert life.dataset.uuids() == sorted(["x", *map(bytes.decode, uuids)])
    assert life.dataset.open_now() == []
    tries = [entry["tries"] for entry in listed.body["entries"]]
    assert tries == [0] * len(uuids), "that a path was taken counts against nobody"


async def test_rubbish_instead_of_a_file_proves_nothing_about_it(tmp_path):
    """The journal was lost, and the first response about our own path is "It works!"."""
    lost = ServiceHarness(tmp_path / "lost")
    async with lost.running() as flow:
        first = await flow.post(an_export())
    life = replace(lost, journal=tmp_path / "journal")
    content = life.dataset.read_file

    async def rubbish(_path, _size):
        life.dataset.read_file = content
        return b"It works!"

    life.dataset.read_file = rubbish
    async with life.running() as flow:
        again = await flow.post(an_export())

    assert life.dataset.read_file == content, "it was asked for"
    assert again.body["transaction_rid"] == first.body["transaction_rid"]
    assert life.dataset.uuids() == ["a"]


async def test_a_commit_that_happened_and_is_called_refused_is_complete(tmp_path):
    life = ServiceHarness(tmp_path / "journal")

    async def refused():
        raise CommitRefused

    life.dataset.mishaps["after commit"] = refused
    async with life.running() as flow:
        answer = await flow.post(an_export())

    assert (answer.status, answer.body["transaction_rid"]) == (200, life.dataset.head())
    assert life.dataset.uuids() == ["a"]


async def test_an_empty_orphan_is_left_alone_where_others_write_too(tmp_path):
    """It may be theirs: Atlas waits until another writer ends it, and reports it meanwhile."""
    life = ServiceHarness(tmp_path / "journal", sole_writer=False)
    life.dataset.mishaps["after begin"] = no_answer
    async with life.running() as flow, anyio.create_task_group() as senders:
        senders.start_soon(flow.post, an_export())
        await flow.seen.wait_for(OrphanSuspected)
        (orphan,) = life.dataset.transactions.values()
        assert orphan.state == "OPEN"
        orphan.state = "ABORTED"
        await flow.seen.wait_for(GroupCommitted)
    assert life.dataset.uuids() == ["a"]


async def test_ever_other_transactions_on_the_branch_are_reported_as_a_second_writer(tmp_path):
    life = ServiceHarness(tmp_path / "journal")

    async def another_opens():
        for each in life.dataset.transactions.values():
            each.state = "COMMITTED"
        life.dataset.opened(is_ours=False)
        if len(life.dataset.transactions) < 4:
            life.dataset.mishaps["before begin"] = another_opens

    life.dataset.mishaps["before begin"] = another_opens
    async with life.running() as flow, anyio.create_task_group() as senders:
        senders.start_soon(flow.post, an_export())
        await flow.seen.wait_for(ForeignWriterDetected)
        life.dataset.mishaps.clear()
        for each in life.dataset.transactions.values():
            each.state = "COMMITTED"
    assert life.dataset.uuids() == ["a"]


async def test_a_file_that_foundry_refuses_is_set_aside_and_not_in_the_way(tmp_path):
    life = ServiceHarness(tmp_path / "journal")
    life.dataset.refuses.add("healthkit/raw/ada/2026-01-02T12-00-00-000Z.ndjson")
    async with life.running() as flow:
        poison = await flow.post(an_export())
        others = [await flow.post(an_export(b'{"uuid":"%d"}' % n)) for n in range(3)]
        again = await flow.post(an_export())

        assert (poison.status, poison.body["status"]) == (202, "set_aside")
        assert poison.body["warnings"] != []
        assert [answer.status for answer in others] == [200, 200, 200]
        assert again.body["status"] == "set_aside"
        assert flow.seen.of(ExportSetAside)[0].tries == 5
    assert life.dataset.uuids() == ["0", "1", "2"]
    assert life.dataset.open_now() == []


async def test_a_transaction_of_which_every_export_is_damaged_is_ended_all_the_same(tmp_path):
    """No export is claimed any more, but the open transaction must not block the branch."""
    life = ServiceHarness(tmp_path / "journal")
    await accept(life, b"a")
    with closing(sqlite3.connect(tmp_path / "journal")) as db, db:
        db.execute("UPDATE payload SET sealed = zeroblob(100)")
    life.dataset.mishaps["before abort"] = no_answer
    async with life.running() as flow:
        assert (await flow.post(an_export(b'{"uuid":"b"}\n'))).status == 200
        assert flow.seen.count_of(JournalDamaged) == 1
    assert life.dataset.uuids() == ["b"]
    assert life.dataset.open_now() == []


async def put_off():
    raise FoundryError("busy", 0.01)


@pytest.mark.parametrize("answer", [no_answer, put_off], ids=["no answer", "Retry-After"])
@pytest.mark.parametrize(("moment", "first"), [("before put", "bc"), ("after put", "abc")])
async def test_a_file_of_which_no_answer_comes_stops_no_other(tmp_path, moment, first, answer):
    """The transaction is committed, then Foundry is asked whether the file is in it."""
    life = ServiceHarness(tmp_path / "journal", uploads_at_once=1, layout="per-export")
    await accept(life, b"a", b"b", b"c")
    life.dataset.mishaps[moment] = answer
    async with life.running() as flow:
        await flow.is_empty()
        assert flow.seen.of(UploadPaused) == []
    begun = [each for each in life.dataset.transactions.values() if each.files]
    assert {each.state for each in begun} == {"COMMITTED"}
    found = b"".join(begun[0].files.values()).decode()
    assert [uuid for uuid in "abc" if f'"uuid":"{uuid}"' in found] == [*first]
    assert life.dataset.uuids() == ["a", "b", "c"]


async def test_two_neighbours_whose_paths_are_both_taken_do_not_swap_them_for_ever(tmp_path):
    life = ServiceHarness(tmp_path / "journal")
    await accept(life, b"a", b"b")
    for place in range(2):
        theirs = {POISONED.replace("000Z", f"00{place}Z"): b'{"uuid":"theirs %d"}\n' % place}
        rid = life.dataset.opened(is_ours=False, **theirs)
        life.dataset.transactions[rid].state = "COMMITTED"
    async with life.running() as flow:
        await flow.is_empty()
        assert flow.seen.of(ExportSetAside) == []
    assert life.dataset.uuids() == ["a", "b", "theirs 0", "theirs 1"]


POISONED = "healthkit/raw/ada/2026-01-02T12-00-00-000Z.ndjson"  # the path of the first export


async def test_an_export_that_crashes_the_uploader_is_found_and_set_aside(tmp_path):
    """The groups get smaller, so that none of the 40 other exports waits long."""
    life = ServiceHarness(tmp_path / "journal", group=GroupLimits(exports_max=32))
    uuids = [f"u{number:02}" for number in range(40)]
    await accept(life, b"poison", *(uuid.encode() for uuid in uuids))
    life.dataset.poisons[POISONED] = ZeroDivisionError()
    more = 0
    async with life.running() as flow:
        with anyio.fail_after(30):
            while not flow.seen.of(ExportSetAside):  # an attempt counts only while others commit
                assert (await flow.post(an_export(b'{"uuid":"v%d"}\n' % more))).status == 200
                more += 1
        await flow.is_empty()
        (told,) = flow.seen.of(ExportSetAside)
        assert (await flow.receipt(told.id, "token-of-ada")).body["status"] == "set_aside"
        assert told.correlation_id != ""
        assert flow.seen.count_of(StageCrashed) <= 5
    assert life.dataset.uuids() == sorted([*uuids, *(f"v{number}" for number in range(more))])
    assert life.dataset.open_now() == []


async def test_an_export_that_never_gets_an_answer_is_tried_alone_and_never_set_aside(tmp_path):
    """Silence is not the fault of the export. The other exports continue without it."""
    life = ServiceHarness(tmp_path / "journal")
    await accept(life, b"silent", b"a")
    life.dataset.poisons[POISONED] = FoundryError("lost")
    async with life.running() as flow:
        for number in range(20):
            assert (await flow.post(an_export(b'{"uuid":"v%d"}\n' % number))).status == 200
        assert flow.seen.of(UploadPaused) == flow.seen.of(ExportSetAside) == []
        assert await flow.waiting() == 1
    assert life.dataset.uuids() == sorted(["a", *(f"v{number}" for number in range(20))])
    assert life.dataset.open_now() == []
    life.dataset.poisons.clear()
    async with life.running() as flow:
        await flow.is_empty()
    assert "silent" in life.dataset.uuids()


async def test_no_export_is_set_aside_while_none_is_committed(tmp_path):
    """An error that affects all files is Foundry's state, however long it lasts."""
    life = ServiceHarness(tmp_path / "journal")
    await accept(life, b"a", b"b", b"c")
    paths = [POISONED.replace("000Z", f"00{number}Z") for number in range(3)]
    life.dataset.poisons = dict.fromkeys([*paths, identifiers.PROBE], FoundryError("lost"))
    async with life.running() as flow:
        await flow.seen.wait_for(UploadPaused, 12)
        life.dataset.poisons.clear()
        await flow.is_empty()
        assert flow.seen.of(ExportSetAside) == []
    assert life.dataset.uuids() == ["a", "b", "c"]


async def test_a_process_that_dies_again_and_again_sets_nothing_aside_that_is_alone(tmp_path):
    life = ServiceHarness(tmp_path / "journal")
    for _ in range(7):
        await post_and_kill(life, "after put")
    async with life.running() as flow:
        await flow.is_empty()
    assert life.dataset.uuids() == ["a"]


@pytest.mark.parametrize("moment", ["before put", "after put", "before commit", "after commit"])
async def test_latecomers_go_along_and_are_committed_once_whatever_is_lost(tmp_path, moment):
    """Two exports are claimed; ten more arrive while their transaction is being opened."""
    life = ServiceHarness(tmp_path / "journal")
    await accept(life, b"a", b"b")
    life.dataset.mishaps["before begin"] = gate = Barrier()
    others = [an_export(b'{"uuid":"%d"}\n' % number) for number in range(10)]
    async with life.running() as flow, anyio.create_task_group() as senders:
        await gate.reached.wait()
        for export in others:
            senders.start_soon(flow.post, export)
        await flow.seen.wait_for(ExportAccepted, 10)
        life.dataset.mishaps[moment] = no_answer
        gate.opened.set()
        await flow.is_empty()

    assert life.dataset.uuids() == sorted([*"ab", *map(str, range(10))])
    assert life.dataset.open_now() == []
    (first, *_) = life.dataset.transactions.values()
    assert len(first.files) >= 11, "one of them may have got no answer"


async def test_a_bug_of_the_uploader_costs_a_restart_and_counts_only_without_success(tmp_path):
    """Seven crashes would stop the service, had nothing succeeded in between."""
    life = ServiceHarness(tmp_path / "journal")

    async def bug():
        raise ZeroDivisionError

    async with life.running() as flow:
        for number in range(7):
            life.dataset.mishaps["before commit"] = bug
            assert (await flow.post(an_export(b'{"uuid":"%d"}\n' % number))).status == 200
        assert flow.seen.count_of(StageCrashed) == 7

    assert life.dataset.uuids() == [*"0123456"]
    assert life.dataset.open_now() == []


async def test_an_uploader_that_only_crashes_ends_the_service(tmp_path):
    life = ServiceHarness(tmp_path / "journal")
    await accept(life, b"a")

    async def bug():
        life.dataset.mishaps["before branch_snapshot"] = bug
        raise ZeroDivisionError

    life.dataset.mishaps["before branch_snapshot"] = bug
    with pytest.raises(BaseExceptionGroup) as ended:
        async with life.running():
            await anyio.sleep(5)
    assert ended.group_contains(ZeroDivisionError)

    life.dataset.mishaps.clear()
    async with life.running() as flow:
        await flow.is_empty()
    assert life.dataset.uuids() == ["a"]


async def finish_other_writer(life, flow):
    """Commit their transaction after several failed attempts of ours, then wait for our commit."""
    with anyio.fail_after(5):
        await flow.seen.wait_for(UploadPaused, 5)
        (theirs,) = [each for each in life.dataset.transactions.values() if not each.is_ours]
        assert theirs.state == "OPEN"
        theirs.state = "COMMITTED"
        await flow.seen.wait_for(GroupCommitted)


async def post_and_kill(life, moment):
    """Kill both client and service when Foundry is called, or has responded."""
    life.dataset.mishaps[moment] = gate = Barrier()
    doomed = replace(life, drain_seconds=0)
    async with doomed.running() as flow, anyio.create_task_group() as senders:
        senders.start_soon(flow.post, an_export())
        await gate.reached.wait()
        senders.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        pytest.param(FoundryError("", 7.0), 7.5, id="Foundry says when"),
        pytest.param(FoundryError(), 0.5, id="Foundry does not say"),
        pytest.param(JournalFull(), 0.5, id="what phones are told is not for the uploader"),
    ],
)
def test_the_uploader_waits_for_foundry_and_not_for_what_phones_are_told(error, seconds):
    assert pause_seconds(error, 0, 1.0) == seconds
