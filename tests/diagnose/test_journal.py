"""Step 5: the journal, and the transactions in it that are looked up in Foundry."""

import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from atlas.core.messages import BranchSnapshot, GroupLimits
from tests.diagnose.faults import fill_journal, with_settings
from tests.support.exports import NOON, TO_VERSION_2
from tests.support.running_system import first_failing, step

OTHER_KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="


def read_files(folder):
    """Return the files in a folder, without those of the emulators, by name."""
    return {each.name: each.read_bytes() for each in folder.iterdir() if each.is_file()}


def with_statement(statement):
    async def change(system):
        with closing(sqlite3.connect(system.journal)) as db:
            db.execute(statement)
            db.commit()

    return change


async def tear_journal(system):
    text = bytearray(system.journal.read_bytes())
    text[4096:12288] = bytes(8192)
    system.journal.write_bytes(text)


async def replace_with_text(system):
    system.journal.write_text("text" * 999)


async def delete_key(system):
    system.journal.with_name("journal.db.key").unlink()


async def leave_damaged_copy(system):
    shutil.copy(system.journal, f"{system.journal}.damaged-20260101")


JOURNALS = [
    pytest.param(
        with_statement("PRAGMA user_version = 99"), "newer Atlas", id="of a newer version"
    ),
    pytest.param(tear_journal, "damaged", id="damaged"),
    pytest.param(replace_with_text, "not a journal", id="a text"),
    pytest.param(
        with_statement("UPDATE total SET exports = exports + 1"),
        "does not balance",
        id="unbalanced",
    ),
    pytest.param(with_settings(journal_keys=(OTHER_KEY,)), "key does not open", id="another key"),
    pytest.param(delete_key, "key", id="no key"),
    pytest.param(
        with_settings(journal_bounds={"free_bytes_min": 2**60}),
        "disk of the journal",
        id="a full disk",
    ),
    pytest.param(with_settings(journal_bounds={"exports_max": 1}), "journal is full", id="full"),
    pytest.param(leave_damaged_copy, "was damaged", id="was damaged before"),
]


@pytest.mark.parametrize(("fault", "reason"), JOURNALS)
async def test_what_is_wrong_with_a_journal_is_named_and_nothing_is_changed(system, fault, reason):
    async with fill_journal(system):
        pass
    await fault(system)
    before = read_files(system.folder)
    found = await system.diagnosed()

    assert first_failing(found) == 5, step(found, 5)
    assert reason in step(found, 5).reason
    assert step(found, 5).to_do
    assert read_files(system.folder) == before


async def test_what_is_set_aside_waits_for_a_person(system):
    async with fill_journal(system, count=0, aside=2):
        pass
    found = await system.diagnosed()

    assert first_failing(found) == 5
    assert "2 exports are set aside" in step(found, 5).reason
    assert "atlas exports list --status set_aside" in step(found, 5).to_do
    assert dict(step(found, 5).evidence)["set aside: it crashes a stage"] == "2"


REFUSED = "Foundry answers 400 FileContentRefused (errorInstanceId {})."
FAILED = (
    "UPDATE export SET isolation = 1, tries = 2, turn = number, reason = '{}' WHERE number = {}"
)


async def record_failures(system, *reasons):
    async with fill_journal(system, count=len(reasons)):
        pass
    for number, reason in enumerate(reasons, 1):
        await with_statement(FAILED.format(reason, number))(system)


async def test_exports_that_failed_are_warned_of_with_why_and_what_to_do(system):
    lost = "Foundry does not answer (TimeoutError)."
    await record_failures(system, REFUSED.format("1a"), REFUSED.format("2b"), lost)
    found = await system.diagnosed()

    seen, evidence = step(found, 5), dict(step(found, 5).evidence)
    assert seen.verdict == "warn"
    assert seen.reason == "3 exports have failed and are retried apart from the others."
    assert "atlas exports list --status failed" in seen.to_do
    assert "atlas exports replay" in seen.to_do
    assert evidence["failed"] == "3 of the waiting exports"
    assert evidence[f"failed: {REFUSED.format('2b')}"] == "2", "with the id of the newest"
    assert evidence[f"failed: {lost}"] == "1"
    assert ("step 5", seen.to_do) in found.sections[-1].facts


async def test_what_failed_is_no_gap_and_a_warning_is_no_failure(system):
    await record_failures(system, REFUSED.format("1a"))
    found = await system.diagnosed()

    assert step(found, 5).reason.startswith("1 export has failed and is retried apart")
    assert step(found, 10).verdict == "pass"
    assert found.exit_code == 0


async def test_what_failed_beside_others_that_wait_too_long_hides_no_gap(system):
    async with fill_journal(system, count=2):
        pass
    await with_statement(FAILED.format("Foundry answers 400.", 1))(system)

    assert first_failing(await system.diagnosed()) == 10


async def test_what_is_set_aside_is_counted_by_reason_and_not_by_instance(system):
    await record_failures(system, REFUSED.format("1a"), REFUSED.format("2b"))
    await with_statement("UPDATE export SET status = 'set_aside'")(system)
    found = await system.diagnosed()

    assert dict(step(found, 5).evidence)[f"set aside: {REFUSED.format('2b')}"] == "2"


async def test_exports_that_wait_while_nothing_is_committed_are_a_gap(system):
    async with fill_journal(system, count=3):
        pass
    found = await system.diagnosed()

    assert first_failing(found) == 10
    assert step(found, 10).reason.startswith("3 exports wait, the oldest for ")
    assert "atlas serve" in step(found, 10).to_do


async def test_exports_that_wait_for_a_moment_are_no_gap(system):
    async with fill_journal(system, count=3):
        pass
    found = await system.diagnosed(clock=lambda: NOON + timedelta(minutes=14))

    assert step(found, 10).verdict == "pass"


async def test_what_stands_in_the_log_only_is_seen_too_and_the_log_is_left_alone(system, tmp_path):
    async with fill_journal(system, count=4):
        copy = tmp_path / "killed"
        copy.mkdir()
        for file in tmp_path.iterdir():
            if file.is_file():
                shutil.copy(file, copy)
    assert (copy / "journal.db-wal").stat().st_size > 0
    before = read_files(copy)
    found = await replace(system, folder=copy).diagnosed()

    assert dict(step(found, 5).evidence)["waiting"] == "4 of 1,000,000 exports"
    assert read_files(copy) == before


async def test_an_owner_that_does_not_answer_is_named_and_its_branch_left_alone(system):
    async with fill_journal(system):
        found = await system.diagnosed(is_locked=True)

    assert first_failing(found) == 5
    assert "does not answer" in step(found, 5).reason
    assert "see step 5" in step(found, 9).reason
    assert system.states() == []


async def test_a_journal_that_is_taken_from_under_a_service_is_named(system):
    async with system.serving() as serving:
        system.journal.unlink()
        found = await serving.diagnosed()

    assert first_failing(found) == 5
    assert "cannot be read" in step(found, 5).reason


async def test_a_journal_of_an_older_version_is_seen_and_not_converted(system):
    async with fill_journal(system, count=2):
        pass
    with closing(sqlite3.connect(system.journal)) as db:
        db.executescript(TO_VERSION_2)
    before = read_files(system.folder)
    found = await system.diagnosed(clock=lambda: NOON)

    assert dict(step(found, 5).evidence)["waiting"] == "2 of 1,000,000 exports"
    assert dict(step(found, 5).evidence)["note"] == "written by an earlier version (v2)"
    assert read_files(system.folder) == before


async def test_a_transaction_of_ours_is_known_as_ours(system):
    opened_now = system.foundry.branches.begin(system.dataset, "master", "APPEND")
    async with fill_journal(system) as journal:
        await journal.outbox.record_intent(BranchSnapshot("", NOON), "APPEND")
        await journal.outbox.record_open(opened_now.rid, GroupLimits())
    found = await system.diagnosed(clock=lambda: datetime.now(UTC))

    assert step(found, 8).verdict == "pass"
    assert dict(step(found, 8).evidence)["owner"] == "ours"
    assert step(found, 9).verdict == "unknown"
    assert system.states() == ["OPEN"]
