"""A system call fails, once or for a while: acknowledged exports are safe, and the journal
continues.
"""

import os

import pytest

from tests.reliability.disk import cut_power
from tests.reliability.recording import JOURNAL, Recording, needs_strace, record
from tests.reliability.victim import CANNOT_START, SENDERS, list_intact_ids

pytestmark = pytest.mark.slow

CUTS = 5
IN_FULL = bool(os.environ.get("TESTS_IN_FULL"))
EXPORTS = 100 if IN_FULL else 60
SYNCS = range(1, 56) if IN_FULL else range(1, 34, 3)  # of all syncs of a run
WRITES = range(2, 302) if IN_FULL else range(2, 700, 64)


async def is_safe(recording: Recording, folder, seed) -> bool:
    """True if all acknowledged exports are in the journal now, and would be after a power cut."""
    kept = await list_intact_ids(folder / "disk" / JOURNAL)
    cuts = await cut_power(recording, folder, CUTS, seed)
    return set(recording.output()) <= kept and not any(cut.lost for cut in cuts)


def kept_running(recording: Recording) -> bool:
    """True if only exports of a failed commit were refused, or if the journal never opened."""
    refused = EXPORTS - len(recording.output())
    return refused <= recording.faults * SENDERS or recording.exit_code == CANNOT_START


@pytest.mark.parametrize("first", SYNCS)
async def test_a_sync_that_fails_loses_nothing_that_was_acknowledged(tmp_path, seed, first):
    needs_strace()
    recording = record(tmp_path / "disk", EXPORTS, fault=f"fdatasync:error=EIO:when={first}")

    assert recording.faults == 1
    assert kept_running(recording)
    assert await is_safe(recording, tmp_path, seed)


@pytest.mark.parametrize("first", SYNCS)
@pytest.mark.parametrize("times", [2, 3, 4, 5] if IN_FULL else [2])
async def test_nor_does_it_while_the_journal_is_closed_and_opened(tmp_path, seed, first, times):
    """After the second failure the WAL remains, with a commit that never reached the disk."""
    needs_strace()
    fault = f"fdatasync:error=EIO:when={first}..{first + times - 1}"
    recording = record(tmp_path / "disk", EXPORTS, fault=fault)

    assert recording.faults in range(1, times + 1)
    assert kept_running(recording)
    assert await is_safe(recording, tmp_path, seed)


@pytest.mark.parametrize("first", WRITES)
@pytest.mark.parametrize("error", ["ENOSPC", "EIO"])
async def test_a_write_that_fails_loses_nothing_either(tmp_path, seed, first, error):
    needs_strace()
    recording = record(tmp_path / "disk", EXPORTS, fault=f"pwrite64:error={error}:when={first}")

    assert recording.faults == 1
    assert kept_running(recording)
    assert await is_safe(recording, tmp_path, seed)


@pytest.mark.parametrize("first", range(1, 6))
async def test_a_journal_whose_name_may_be_lost_is_not_opened(tmp_path, seed, first):
    """Failing syncs of the key file, the folder and its parent folder."""
    needs_strace()
    recording = record(tmp_path / "disk", EXPORTS, fault=f"fsync:error=EIO:when={first}")

    assert (recording.faults, recording.exit_code) == (1, CANNOT_START)
    assert recording.output() == []
