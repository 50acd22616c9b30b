"""Foundry or a firewall gives no usable response for some files: the others do not wait."""

from dataclasses import dataclass

import anyio
import pytest

from atlas.core.errors import CommitRefused, FoundryError
from atlas.core.events import ExportFailed, ExportSetAside, GroupCommitted, UploadPaused
from tests.conftest import ServiceHarness
from tests.support.fakes import MemoryDataset
from tests.support.journal_states import uuids
from tests.support.people import ADA, ZOE, post_record

GOOD = [f"z{number}" for number in range(4)]


@dataclass
class FirewalledDataset(MemoryDataset):
    """A firewall answers 403 at once for Eve's files; everything else takes longer."""

    is_complete: bool = False  # queries about her files get the same answer

    async def put(self, transaction, path, content):
        if "eve" in path or b'"uuid":"e' in content:
            raise FoundryError("Foundry answers 403.")
        await anyio.sleep(0.005)
        return await super().put(transaction, path, content)

    async def find_file(self, path):
        if self.is_complete and "eve" in path:
            raise FoundryError("Foundry answers 403.")
        return await super().find_file(path)


@dataclass
class AbortingDataset(MemoryDataset):
    """A dataset that aborts the transaction when it rejects the commit."""

    async def commit(self, transaction):
        if any(b"poison" in each for each in self.transactions[transaction].files.values()):
            self.transactions[transaction].state = "ABORTED"
            raise CommitRefused
        return await super().commit(transaction)


async def all_good_are_there(life):
    with anyio.fail_after(20):
        while not set(GOOD) <= set(uuids(life)):
            await anyio.sleep(0.01)


async def accept_offline(life, flow, *senders):
    """Accept all of these while Foundry is unavailable."""
    life.dataset.down = True
    for uuid, sub in senders:
        await post_record(flow, uuid, sub, Prefer="respond-async")
    life.dataset.down = False


@pytest.mark.parametrize("bad", [1, 7, 8, 12])
@pytest.mark.parametrize("layout", ["per-export", "per-group"])
async def test_files_behind_a_wall_stop_nobody_and_are_never_set_aside(tmp_path, layout, bad):
    life = ServiceHarness(tmp_path / "journal", dataset=FirewalledDataset(), layout=layout)
    async with life.running() as flow:
        eves = [(f"e{number}", "eve") for number in range(bad)]
        await accept_offline(life, flow, *eves, *((uuid, ZOE) for uuid in GOOD))
        await all_good_are_there(life)
        assert uuids(life) == GOOD
        assert await flow.waiting() == bad
        assert flow.seen.of(ExportSetAside) == []
    assert life.dataset.open_now() == []


async def test_a_wall_that_hides_its_files_slows_down_nobody(tmp_path):
    life = ServiceHarness(tmp_path / "journal", dataset=FirewalledDataset(is_complete=True))
    async with life.running() as flow:
        await accept_offline(life, flow, ("e", "eve"), ("z0", ZOE))
        for uuid in GOOD[1:]:
            assert (await post_record(flow, uuid, ZOE)).status == 200
        assert flow.seen.count_of(GroupCommitted) >= len(GOOD) - 1
        assert flow.seen.count_of(UploadPaused) <= 3, "while Foundry was down"
    assert uuids(life) == GOOD


async def test_a_foundry_that_aborts_what_it_refuses_to_commit_is_no_reason_to_stop(tmp_path):
    life = ServiceHarness(tmp_path / "journal", dataset=AbortingDataset())
    async with life.running() as flow:
        await accept_offline(life, flow, ("poison", ADA), *((uuid, ZOE) for uuid in GOOD))
        await all_good_are_there(life)
        assert flow.seen.count_of(ExportFailed) > 0
    assert uuids(life) == GOOD
