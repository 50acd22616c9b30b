"""The disk is full: it is said, nothing breaks, and it is over when there is room again."""

import subprocess
from contextlib import suppress

import pytest

from atlas.core.errors import JournalFull
from tests.conftest import needs
from tests.reliability.recording import JOURNAL
from tests.reliability.victim import journal_at, kept_in
from tests.support.exports import ADA, export

pytestmark = pytest.mark.slow


class SmallDisk:
    """Three MiB, of which others take what they want."""

    def __init__(self, folder):
        self.journal = folder / JOURNAL
        self._others = folder / "others"
        self._others.write_bytes(bytes(1024 * 1024))

    def others_take_the_rest(self):
        with suppress(OSError), self._others.open("ab", buffering=0) as file:
            while file.write(bytes(4096)):
                pass

    def others_go(self):
        self._others.unlink()


@pytest.fixture
def disk(tmp_path):
    needs("mount", "-t", "tmpfs", "-o", "size=3m", "atlas-tests", str(tmp_path))
    try:
        yield SmallDisk(tmp_path)
    finally:
        subprocess.run(["umount", tmp_path], check=True)


async def until_full(call) -> int:
    """How often it went well. What is left of a refused commit is room for smaller ones."""
    for number in range(1_000):
        try:
            await call(number)
        except JournalFull:
            return number
    pytest.fail("The disk is never full.")


async def test_a_full_disk_refuses_until_there_is_room_and_then_goes_on(disk):
    with journal_at(disk.journal) as journal:
        count = await until_full(lambda number: journal.intake.append(export(number)))
        disk.others_take_the_rest()
        with pytest.raises(JournalFull):
            await journal.intake.append(export(count))
        await until_full(lambda _: journal.ledger.check_ready())
        page = await journal.receipts.list_page(ADA, None, 1_000, None)
        assert {receipt.id for receipt in page.receipts} == ids(count)

        disk.others_go()
        await journal.ledger.check_ready()
        await journal.intake.append(export(count))

    assert await kept_in(disk.journal) == ids(count + 1)


def ids(count) -> set[str]:
    return {export(number).id for number in range(count)}
