"""The disk is full: it is reported, nothing breaks, and writes resume when there is space."""

import subprocess
from contextlib import suppress

import pytest

from atlas.core.errors import JournalFull
from tests.conftest import needs
from tests.reliability.recording import JOURNAL
from tests.reliability.victim import list_intact_ids, open_journal
from tests.support.exports import ADA, export

pytestmark = pytest.mark.slow


class SmallDisk:
    """Three MiB, part of which is taken by another file."""

    def __init__(self, folder):
        self.journal = folder / JOURNAL
        self._others = folder / "others"
        self._others.write_bytes(bytes(1024 * 1024))

    def fill(self):
        with suppress(OSError), self._others.open("ab", buffering=0) as file:
            while file.write(bytes(4096)):
                pass

    def free(self):
        self._others.unlink()


@pytest.fixture
def disk(tmp_path):
    needs("mount", "-t", "tmpfs", "-o", "size=3m", "atlas-tests", str(tmp_path))
    try:
        yield SmallDisk(tmp_path)
    finally:
        subprocess.run(["umount", tmp_path], check=True)


async def count_until_full(call) -> int:
    """Count successful calls. After a refused commit there may be room for smaller ones."""
    for number in range(1_000):
        try:
            await call(number)
        except JournalFull:
            return number
    pytest.fail("The disk is never full.")


async def test_a_full_disk_refuses_until_there_is_room_and_then_goes_on(disk):
    with open_journal(disk.journal) as journal:
        count = await count_until_full(lambda number: journal.intake.append(export(number)))
        disk.fill()
        with pytest.raises(JournalFull):
            await journal.intake.append(export(count))
        await count_until_full(lambda _: journal.ledger.check_ready())
        page = await journal.receipts.list_page(ADA, None, 1_000, None)
        assert {receipt.id for receipt in page.receipts} == list_ids(count)

        disk.free()
        await journal.ledger.check_ready()
        await journal.intake.append(export(count))

    assert await list_intact_ids(disk.journal) == list_ids(count + 1)


def list_ids(count) -> set[str]:
    return {export(number).id for number in range(count)}
