"""Maintenance tasks on the branch leave nothing behind, whatever happens to them."""

import anyio
import pytest

from atlas.core.errors import BranchBusy, Deposed, FoundryError
from atlas.core.events import OrphanAborted, StageCrashed
from atlas.core.identifiers import PROBE
from atlas.core.messages import RemovalResult
from tests.conftest import an_export
from tests.support.fakes import Barrier, no_answer


def states(life, kind="APPEND"):
    return [each.state for each in life.dataset.transactions.values() if each.kind == kind]


async def wait_until_closed(life):
    """Wait until no transaction is open on the branch."""
    with anyio.fail_after(5):
        while life.dataset.open_now():
            await anyio.sleep(0.001)


async def test_a_probe_puts_a_file_and_leaves_no_row(life):
    async with life.running() as flow:
        probe = await flow.service.maintenance.probe()
        await flow.post(an_export())

    assert probe.content_type == "application/x-ndjson"
    assert life.dataset.transactions[probe.transaction].files.keys() == {PROBE}
    assert states(life) == ["ABORTED", "COMMITTED"]
    assert life.dataset.uuids() == ["a"]


@pytest.mark.parametrize("listing", ["empty", "listed", "not_found"])
async def test_a_probe_tells_what_foundry_was_seen_to_do(life, listing):
    life.dataset.open_listing, life.dataset.seen = listing, {"sizeBytes": "text"}
    async with life.running() as flow:
        probe = await flow.service.maintenance.probe()

    assert probe.observations == {"sizeBytes": "text", "open transaction's listing": listing}


async def test_a_probe_does_not_fail_because_an_open_transaction_is_not_listed(life):
    life.dataset.mishaps["before describe_open"] = no_answer
    async with life.running() as flow:
        probe = await flow.service.maintenance.probe()

    assert probe.observations["open transaction's listing"] == "No answer."
    assert states(life) == ["ABORTED"]


async def test_a_probe_waits_for_the_group_that_is_under_way(life):
    gate = life.dataset.mishaps["before commit"] = Barrier()
    async with life.running() as flow, anyio.create_task_group() as tasks:
        tasks.start_soon(flow.post, an_export())
        await gate.reached.wait()
        tasks.start_soon(flow.service.maintenance.probe)
        await anyio.wait_all_tasks_blocked()
        assert states(life) == ["OPEN"]
        gate.opened.set()

    assert states(life) == ["COMMITTED", "ABORTED"]


async def test_a_group_waits_for_the_probe_that_is_under_way(life):
    gate = life.dataset.mishaps["before abort"] = Barrier()
    async with life.running() as flow, anyio.create_task_group() as tasks:
        tasks.start_soon(flow.service.maintenance.probe)
        await gate.reached.wait()
        tasks.start_soon(flow.post, an_export())
        await anyio.wait_all_tasks_blocked()
        assert states(life) == ["OPEN"]
        gate.opened.set()

    assert states(life) == ["ABORTED", "COMMITTED"]


@pytest.mark.parametrize("moment", ["after begin", "after put", "before put", "before abort"])
async def test_a_probe_of_which_an_answer_is_lost_is_ended_at_once(life, moment):
    life.dataset.mishaps[moment] = no_answer
    async with life.running() as flow:
        with pytest.raises(FoundryError):
            await flow.service.maintenance.probe()
        await wait_until_closed(life)
        answer = await flow.post(an_export())

    assert answer.status == 200
    assert states(life) == ["ABORTED", "COMMITTED"]


def probe(errands, _path):
    return errands.probe()


def remove(errands, path):
    return errands.remove([path])


@pytest.mark.parametrize(
    ("errand", "moment"),
    [
        (probe, "after begin"),
        (probe, "after put"),
        (probe, "before abort"),
        (remove, "after begin"),
        (remove, "after remove"),
        (remove, "before commit"),
    ],
)
async def test_what_dies_in_the_middle_of_an_errand_is_ended_by_its_next_life(life, errand, moment):
    """A killed process stops at the barrier."""
    async with life.running() as flow:
        path = (await flow.post(an_export())).body["file_path"]
        gate = life.dataset.mishaps[moment] = Barrier()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(errand, flow.service.maintenance, path)
            await gate.reached.wait()
            life.dataset.down = True
            tasks.cancel_scope.cancel()
    life.dataset.down = False
    async with life.running() as flow:
        await wait_until_closed(life)
        assert (await flow.post(an_export(b'{"uuid":"b"}\n'))).status == 200

    assert life.dataset.uuids() == ["a", "b"]


async def test_a_removal_that_was_committed_when_we_died_is_not_taken_back(life):
    async with life.running() as flow:
        path = (await flow.post(an_export())).body["file_path"]
        gate = life.dataset.mishaps["after commit"] = Barrier()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(remove, flow.service.maintenance, path)
            await gate.reached.wait()
            tasks.cancel_scope.cancel()
    async with life.running() as flow:
        assert (await flow.post(an_export(b'{"uuid":"b"}\n'))).status == 200

    assert life.dataset.uuids() == ["b"]
    assert states(life, "DELETE") == ["COMMITTED"]


async def test_files_are_taken_out_in_one_transaction(life):
    async with life.running() as flow:
        exports = [an_export(b'{"uuid":"%d"}\n' % number) for number in range(5)]
        paths = [(await flow.post(export)).body["file_path"] for export in exports]
        removed = await flow.service.maintenance.remove(paths[1:])

    assert removed.files == 4
    assert states(life, "DELETE") == ["COMMITTED"]
    assert life.dataset.uuids() == ["0"]


@pytest.mark.parametrize(("paths", "states_of_it"), [([], []), (["no/such.json"], ["ABORTED"])])
async def test_what_is_not_there_is_taken_out_without_a_commit(life, paths, states_of_it):
    async with life.running() as flow:
        assert await flow.service.maintenance.remove(paths) == RemovalResult(0)

    assert states(life, "DELETE") == states_of_it


async def test_the_lost_begin_of_a_removal_is_found_by_its_type(life):
    life.dataset.mishaps["after begin"] = no_answer
    async with life.running() as flow:
        path = (await flow.post(an_export())).body["file_path"]
        life.dataset.mishaps["after begin"] = no_answer
        with pytest.raises(FoundryError):
            await flow.service.maintenance.remove([path])
        await flow.seen.wait_for(OrphanAborted, 2)

    assert states(life, "DELETE") == ["ABORTED"]
    assert life.dataset.uuids() == ["a"]


async def test_a_transaction_of_somebody_else_is_not_touched_by_a_probe(life):
    foreign = life.dataset.opened(is_ours=False)
    async with life.running() as flow:
        for _ in range(2):
            with pytest.raises(BranchBusy):
                await flow.service.maintenance.probe()
        life.dataset.transactions[foreign].state = "COMMITTED"
        assert (await flow.post(an_export())).status == 200


async def test_a_removal_of_somebody_else_is_no_orphan_of_our_append(life):
    """It was opened at the time of our lost attempt; the transaction type tells them apart."""

    async def his():
        life.dataset.opened(is_ours=False, kind="DELETE")
        raise FoundryError("No answer.")

    async with life.running() as flow:
        life.dataset.mishaps["before begin"] = his
        with pytest.raises(FoundryError):
            await flow.service.maintenance.probe()
        await anyio.wait_all_tasks_blocked()

    assert states(life, "DELETE") == ["OPEN"]


async def test_an_errand_that_waited_while_the_uploader_crashed_leaves_nothing_open(life):
    """The uploader's memory is lost in the crash; the task's transaction is not."""
    gate = Barrier()

    async def crash():
        await gate()
        raise ZeroDivisionError

    async def in_vain(errands):
        with pytest.raises(FoundryError):
            await errands.remove(["no/such/file"])

    life.dataset.mishaps["before commit"] = crash
    async with life.running() as flow, anyio.create_task_group() as tasks:
        tasks.start_soon(flow.post, an_export())
        await gate.reached.wait()
        tasks.start_soon(in_vain, flow.service.maintenance)
        await anyio.wait_all_tasks_blocked()
        life.dataset.mishaps["after begin"] = no_answer
        gate.opened.set()
        await flow.seen.wait_for(OrphanAborted)
        await flow.is_empty()

    assert states(life, "DELETE") == ["ABORTED"]
    assert life.dataset.open_now() == []
    assert life.dataset.uuids() == ["a"]


async def test_an_errand_that_outlives_its_term_brings_nothing_of_it_into_the_next(life):
    async with life.running() as flow:
        await flow.post(an_export())
        uploader = flow.service.maintenance.uploader
        async with uploader.exclusive():
            uploader.begin_term()
        assert uploader.step.state.phase == "recovering"
        assert not uploader.step.state.memory.is_reconciled
        await flow.post(an_export(b'{"uuid":"b"}\n'))


async def test_a_replica_that_is_deposed_abandons_its_transaction_and_leads_again_if_it_can(life):
    async def depose():
        raise Deposed

    life.dataset.mishaps["after put"] = depose
    async with life.running() as flow:
        answer = await flow.post(an_export())
        await flow.is_empty()
    assert answer.status in {200, 202}
    assert states(life) == ["ABORTED", "COMMITTED"]
    assert flow.seen.of(StageCrashed) == []
