"""The power fails: only synced data remain, and every acknowledged export is among them."""

import os

import pytest

from tests.reliability.disk import cut_power
from tests.reliability.recording import needs_strace, record

pytestmark = pytest.mark.slow

EXPORTS, CUTS = (5_000, 100) if os.environ.get("TESTS_IN_FULL") else (300, 40)


async def test_no_acknowledged_export_is_lost_when_the_power_fails(tmp_path, seed):
    needs_strace()
    recording = record(tmp_path / "disk", EXPORTS)
    assert len(recording.output()) == EXPORTS

    cuts = await cut_power(recording, tmp_path, CUTS, seed)

    assert [cut for cut in cuts if cut.lost] == []
    # at most the commit that was being written; of a counter in it, a single bit may be missing
    damages = [cut.damage for cut in cuts if cut.damage]
    assert all(each.transactions == 1 or each.is_one_bit for each in damages)


async def test_with_fewer_syncs_they_are_lost_so_the_test_bites(tmp_path, seed):
    needs_strace()
    recording = record(tmp_path / "disk", EXPORTS, synchronous="NORMAL")

    cuts = await cut_power(recording, tmp_path, CUTS, seed)

    assert [cut for cut in cuts if cut.lost] != []
