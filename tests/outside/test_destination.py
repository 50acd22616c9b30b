"""A journal that belongs to one dataset is opened for another."""

import sqlite3
from contextlib import closing

import pytest

from atlas.core.commits import Conclusion, Verdict
from atlas.core.errors import ConfigurationError
from atlas.core.messages import BranchSnapshot, GroupLimits
from atlas.outside.journal.capacity import CapacityLimits
from atlas.outside.sqlite.journal import open_journal
from tests.conftest import RID
from tests.support.exports import NOON, SHELF, export

BOUNDS = CapacityLimits(free_bytes=0)
TRIAL = "ri.foundry.main.dataset.1, branch trial"
PRODUCTION = "ri.foundry.main.dataset.1, branch master"


async def commit(journal):
    await journal.outbox.claim(GroupLimits(), BranchSnapshot("", NOON), "normal")
    await journal.outbox.record_open(RID, GroupLimits())
    committed = Verdict("committed", transaction=RID)
    assert await journal.outbox.conclude(Conclusion(RID, default_verdict=committed))


async def fill_journal(path, *, is_committed):
    with open_journal(path, BOUNDS, retention=SHELF, destination_name=TRIAL) as journal:
        await journal.intake.append(export(1))
        if is_committed:
            await commit(journal)


async def test_what_stands_in_another_dataset_is_not_answered_for(tmp_path):
    await fill_journal(tmp_path / "journal", is_committed=True)
    with (
        pytest.raises(ConfigurationError, match=f"committed exports to {TRIAL}, .* ATLAS_JOURNAL"),
        open_journal(tmp_path / "journal", BOUNDS, retention=SHELF, destination_name=PRODUCTION),
    ):
        pass
    with open_journal(tmp_path / "journal", BOUNDS, retention=SHELF, destination_name=TRIAL):
        pass


async def test_what_has_gone_nowhere_goes_where_it_is_sent_now(tmp_path):
    await fill_journal(tmp_path / "journal", is_committed=False)
    with open_journal(
        tmp_path / "journal", BOUNDS, retention=SHELF, destination_name=PRODUCTION
    ) as journal:
        await commit(journal)
    with (
        pytest.raises(ConfigurationError),
        open_journal(tmp_path / "journal", BOUNDS, retention=SHELF, destination_name=TRIAL),
    ):
        pass


async def test_a_command_that_sends_nothing_opens_it_for_whatever_dataset(tmp_path):
    await fill_journal(tmp_path / "journal", is_committed=True)
    with open_journal(tmp_path / "journal", BOUNDS, retention=SHELF) as journal:
        assert (await journal.ledger.list_entries(None, 1, None)).totals["committed"] == 1


async def test_a_note_that_the_disk_has_changed_is_written_anew(tmp_path):
    await fill_journal(tmp_path / "journal", is_committed=True)
    with closing(sqlite3.connect(tmp_path / "journal")) as db, db:
        db.execute("UPDATE secret SET value = x'00' WHERE name = 'destination'")
    with open_journal(tmp_path / "journal", BOUNDS, retention=SHELF, destination_name=PRODUCTION):
        pass
    with (
        pytest.raises(ConfigurationError),
        open_journal(tmp_path / "journal", BOUNDS, retention=SHELF, destination_name=TRIAL),
    ):
        pass
