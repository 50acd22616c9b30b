"""The disk fails a call, once or for a while. Who was answered is safe, and it goes on."""

import os

import pytest

from tests.reliability.disk import cut_off
from tests.reliability.recording import JOURNAL, Recording, needs_strace, recorded
from tests.reliability.victim import AT_ONCE, CANNOT_START, kept_in

pytestmark = pytest.mark.slow

CUTS = 5
IN_FULL = bool(os.environ.get("TESTS_IN_FULL"))
EXPORTS = 100 if IN_FULL else 60
SYNCS = range(1, 56) if IN_FULL else range(1, 34, 3)  # of those there are
WRITES = range(2, 302) if IN_FULL else range(2, 700, 64)


async def is_safe(recording: Recording, folder, seed) -> bool:
    """Is all that was acknowledged there now, and was it whenever the power had failed?"""
    kept = await kept_in(folder / "disk" / JOURNAL)
    cuts = await cut_off(recording, folder, CUTS, seed)
    return set(recording.said()) <= kept and not any(cut.lost for cut in cuts)


def goes_on(recording: Recording) -> bool:
    """Only those were refused who shared a commit that failed; or there never was a journal."""
    refused = EXPORTS - len(recording.said())
    return refused <= recording.faults * AT_ONCE or recording.exit_code == CANNOT_START


@pytest.mark.parametrize("first", SYNCS)
async def test_a_sync_that_fails_loses_nothing_that_was_acknowledged(tmp_path, seed, first):
    needs_strace()
    recording = recorded(tmp_path / "disk", EXPORTS, fault=f"fdatasync:error=EIO:when={first}")

    assert recording.faults == 1
    assert goes_on(recording)
    assert await is_safe(recording, tmp_path, seed)


@pytest.mark.parametrize("first", SYNCS)
@pytest.mark.parametrize("times", [2, 3, 4, 5] if IN_FULL else [2])
async def test_nor_does_it_while_the_journal_is_closed_and_opened(tmp_path, seed, first, times):
    """The second failure keeps the log there, and in it a commit that never reached the disk."""
    needs_strace()
    fault = f"fdatasync:error=EIO:when={first}..{first + times - 1}"
    recording = recorded(tmp_path / "disk", EXPORTS, fault=fault)

    assert recording.faults in range(1, times + 1)
    assert goes_on(recording)
    assert await is_safe(recording, tmp_path, seed)


@pytest.mark.parametrize("first", WRITES)
@pytest.mark.parametrize("error", ["ENOSPC", "EIO"])
async def test_a_write_that_fails_loses_nothing_either(tmp_path, seed, first, error):
    needs_strace()
    recording = recorded(tmp_path / "disk", EXPORTS, fault=f"pwrite64:error={error}:when={first}")

    assert recording.faults == 1
    assert goes_on(recording)
    assert await is_safe(recording, tmp_path, seed)


@pytest.mark.parametrize("first", range(1, 6))
async def test_a_journal_whose_name_may_be_lost_is_not_opened(tmp_path, seed, first):
    """Those of its keys, the folder, and the one above it that says that there is such a folder."""
    needs_strace()
    recording = recorded(tmp_path / "disk", EXPORTS, fault=f"fsync:error=EIO:when={first}")

    assert (recording.faults, recording.exit_code) == (1, CANNOT_START)
    assert recording.said() == []
