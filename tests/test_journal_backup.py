"""`atlas journal check`, `stats` and `backup`: of a journal in a file, also beside its service."""

import asyncio
import base64
import json
import os
import shutil
import signal
import sqlite3
import stat
from contextlib import closing

import anyio
import pytest

from atlas import service
from atlas.cli.operator_client import read_file
from atlas.core.errors import CommandError, Unavailable
from atlas.outside.sqlite import backup, held_file
from atlas.outside.sqlite.snapshot import open_held
from atlas.settings import JournalSettings, Settings
from tests.conftest import no_file_may_grow
from tests.support.exports import export
from tests.support.filled_journals import KEY, fill, open_file
from tests.support.processes import atlas as run_atlas
from tests.support.processes import local
from tests.support.schemas import TEXT_KEY

LARGE = 5_000
OTHER_KEY = base64.b64encode(bytes([1]) * 32).decode()


@pytest.fixture
def file(tmp_path):
    """A journal with everything that a journal can hold."""

    async def write():
        with open_file(tmp_path / "journal.db") as journal:
            await fill(journal)

    anyio.run(write)
    return tmp_path / "journal.db"


@pytest.fixture
def journal(atlas, file):
    """Run `atlas journal` on that file."""

    def run(*arguments, of=file, key=TEXT_KEY):
        return atlas("journal", *arguments, ATLAS_JOURNAL=f"sqlite:///{of}", ATLAS_JOURNAL_KEY=key)

    return run


def dump(path):
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        return list(db.iterdump())


def names(folder):
    return sorted(each.name for each in folder.iterdir())


# a backup


def test_a_backup_is_the_whole_journal_in_one_file_for_its_owner_only(journal, file, tmp_path):
    (tmp_path / "copies").mkdir()
    made = journal("backup", "copies/monday.db", "--json")
    copy = tmp_path / "copies" / "monday.db"

    assert (made.code, made.err) == (0, "")
    result = json.loads(made.out)
    assert result["bytes"] == copy.stat().st_size
    assert result["exports"] == {"abandoned": 1, "accepted": 8, "committed": 4, "set_aside": 4}
    assert result["key"] == "ATLAS_JOURNAL_KEY"
    assert dump(copy) == dump(file)
    assert names(copy.parent) == ["monday.db"]
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600


def test_a_backup_is_restored_by_its_file_and_the_key_alone(journal, tmp_path):
    journal("backup", "copy.db")
    (tmp_path / "elsewhere").mkdir()
    restored = shutil.copy(tmp_path / "copy.db", tmp_path / "elsewhere" / "journal.db")

    checked = journal("check", of=restored)
    other_key = journal(
        "check", of=restored, key=base64.b64encode(bytes([1]) * 32).decode()
    ).in_one_line(78)

    assert checked.out.endswith("PASS\n")
    assert "ATLAS_JOURNAL_KEY does not open the journal" in other_key


def test_the_key_file_is_named_if_that_is_the_key(atlas, tmp_path):
    with open_file(tmp_path / "journal.db", ()):
        pass
    made = atlas("journal", "backup", "copy.db", "--journal", "journal.db")

    assert made.code == 0
    assert "journal.db.key: keep it elsewhere" in made.out


def test_a_file_is_not_written_over_without_force(journal, tmp_path):
    (tmp_path / "copy.db").write_text("an older one")
    refused = journal("backup", "copy.db").in_one_line(1)
    before = (tmp_path / "copy.db").read_text()
    forced = journal("backup", "copy.db", "--force")

    assert "copy.db already exists: name a new file, or pass --force" in refused
    assert before == "an older one"
    assert forced.code == 0
    assert dump(tmp_path / "copy.db")


@pytest.mark.parametrize(
    ("target", "named"),
    [
        ("journal.db", "belongs to the journal itself"),
        ("journal.db.lock", "belongs to the journal itself"),
        ("no/such/folder.db", "Cannot write no/such/folder.db: No such file or directory."),
        (".", ". is a folder: name a file in it."),
    ],
)
def test_a_wrong_place_for_a_backup_is_one_line(journal, file, target, named):
    before = dump(file)
    assert named in journal("backup", target, "--force").in_one_line(1)
    assert dump(file) == before


def test_a_device_or_a_pipe_is_never_replaced_by_a_backup(journal, tmp_path):
    os.mkfifo(tmp_path / "pipe")

    said = journal("backup", "pipe", "--force").in_one_line(1)

    assert "pipe is a device or a pipe: name a file." in said
    assert (tmp_path / "pipe").is_fifo()


def test_a_disk_that_takes_no_more_is_one_line_and_nothing_remains(journal, tmp_path):
    before = names(tmp_path)
    with no_file_may_grow():
        said = journal("backup", "copy.db").in_one_line(1)

    assert said.startswith("atlas: Cannot write copy.db: ")
    assert names(tmp_path) == before


def test_a_full_disk_is_named(tmp_path):
    def write():
        with (
            backup.create_file(tmp_path / "copy.db", replaces=False) as partial,
            backup.map_write_errors(tmp_path / "copy.db"),
            closing(sqlite3.connect(partial, isolation_level=None)) as db,
        ):
            db.execute("PRAGMA max_page_count = 1")
            db.execute("CREATE TABLE a (b)")

    with pytest.raises(CommandError, match=r"Cannot write .*copy.db: No space left on device\."):
        write()

    assert names(tmp_path) == []


def test_an_interrupted_backup_leaves_no_file_and_keeps_the_older_one(tmp_path):
    target = tmp_path / "copy.db"
    target.write_text("an older one")

    def write():
        with backup.create_file(target, replaces=True) as partial:
            partial.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()

    assert names(tmp_path) == ["copy.db"]
    assert target.read_text() == "an older one"


def test_a_file_that_appears_meanwhile_is_kept(tmp_path):
    target = tmp_path / "copy.db"
    with (
        pytest.raises(CommandError, match="already exists"),
        backup.create_file(target, replaces=False),
    ):
        target.write_text("somebody else's")

    assert target.read_text() == "somebody else's"
    assert names(tmp_path) == ["copy.db"]


def test_a_journal_in_postgres_is_backed_up_by_its_own_means(atlas):
    said = atlas("journal", "backup", "copy.db", ATLAS_JOURNAL="postgresql://db.internal/atlas")

    assert "pg_dump" in said.in_one_line(2)


def test_a_backup_is_a_file_and_no_stream(atlas):
    assert "name a file" in atlas("journal", "backup", "-").in_one_line(2)


def test_ctrl_c_ends_a_copy_at_once_and_leaves_no_file(file, tmp_path):
    settings = Settings(journal=JournalSettings(url=f"sqlite:///{file}", keys=(TEXT_KEY,)))

    def interrupt(_done, _total):
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(100):  # Python handles the signal between two steps
            pass
        pytest.fail("The copy goes on.")

    def back_up(is_held):
        target = tmp_path / "copy.db"
        return service.back_up_journal(settings, target, interrupt, is_held=is_held, replaces=False)

    before = names(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        read_file(settings, back_up)

    assert names(tmp_path) == before


# statistics


def test_the_statistics_are_those_of_the_file(journal, file):
    told = json.loads(journal("stats", "--json").out)
    text = journal("stats").out

    assert {status: each["exports"] for status, each in told["exports"].items()} == {
        "abandoned": 1,
        "accepted": 8,
        "committed": 4,
        "set_aside": 4,
    }
    assert (told["users"], told["digests"]) == (1, 4)
    assert told["bytes"] == file.stat().st_size
    assert told["wal_bytes"] == 0
    assert told["oldest"].startswith("2026-")
    assert "Set aside  4 exports, " in text
    assert "Oldest     has waited for " in text


def test_the_statistics_of_a_shared_journal_are_those_of_its_database(atlas, file, journal_url):
    named = {"ATLAS_JOURNAL_KEY": TEXT_KEY}
    before = json.loads(
        atlas("journal", "stats", "--json", ATLAS_JOURNAL=f"sqlite:///{file}", **named).out
    )
    atlas("journal", "move", "--to", journal_url, ATLAS_JOURNAL=f"sqlite:///{file}", **named)
    after = atlas("journal", "stats", "--json", ATLAS_JOURNAL=journal_url, **named)

    assert (after.code, after.err) == (0, "")
    told = json.loads(after.out)
    same = ("exports", "users", "digests")
    assert {name: told[name] for name in same} == {name: before[name] for name in same}
    assert told["bytes"] > 0
    assert told["free_bytes"] is None


# a file that is held


async def hold(journal):
    async with journal.file.hold():
        pass


async def test_a_file_that_is_held_stays_as_it_was_while_the_service_writes(tmp_path):
    path = tmp_path / "journal.db"
    with open_file(path) as journal:
        await journal.intake.append(export(1))
        async with journal.file.hold():
            before = path.read_bytes()
            for number in range(2, 2 + LARGE):
                await journal.intake.append(export(number))
            unchanged = path.read_bytes() == before
            log = path.with_name("journal.db-wal").stat().st_size
            with open_held(path, [KEY]) as tables:
                held = (await tables.count()).exports
        async with journal.file.hold():
            with open_held(path, [KEY]) as tables:
                later = (await tables.count()).exports

    assert log > 16 * 2**20, "a checkpoint would be due"
    assert unchanged
    assert (held["accepted"][0], later["accepted"][0]) == (1, 1 + LARGE)


async def test_a_file_is_held_for_one_command_and_not_while_it_is_checked(tmp_path, monkeypatch):
    with open_file(tmp_path / "journal.db") as journal:
        async with journal.file.hold():
            monkeypatch.setattr(held_file, "WAIT_SECONDS", 0.1)
            with pytest.raises(Unavailable, match="Another command"):
                await asyncio.create_task(hold(journal))
        journal.file.is_checked = False
        with pytest.raises(Unavailable, match="still checking the journal"):
            await hold(journal)
        journal.file.is_checked = True
        await hold(journal)


async def test_a_file_that_changes_all_the_same_is_not_believed(tmp_path):
    path = tmp_path / "journal.db"
    with open_file(path) as journal:
        await journal.intake.append(export(1))
        await hold(journal)

    def read():
        with open_held(path, [KEY]):
            os.utime(path)  # as a rewrite by the service does

    with pytest.raises(CommandError, match="Run the command again"):
        read()


async def test_a_copy_of_a_file_that_changed_meanwhile_is_not_kept(file, tmp_path):
    settings = Settings(journal=JournalSettings(url=f"sqlite:///{file}", keys=(TEXT_KEY,)))
    before = names(tmp_path)
    with pytest.raises(CommandError, match="Run the command again"):
        await service.back_up_journal(
            settings,
            tmp_path / "copy.db",
            lambda _done, _total: os.utime(file),
            is_held=True,
            replaces=False,
        )

    assert names(tmp_path) == before


@pytest.mark.slow
def test_beside_a_running_service_all_is_checked_counted_and_copied(tmp_path):
    with local(tmp_path) as running:
        assert running.post("a", "wait=20")[0] == 200
        named = ["--journal", running.journal]
        checked = run_atlas(tmp_path, "journal", "check", *named)
        counted = run_atlas(tmp_path, "journal", "stats", "--json", *named)
        copied = run_atlas(tmp_path, "journal", "backup", "copy.db", *named)
        listed = run_atlas(tmp_path, "exports", "list", "--json", *named)
        (entry,) = json.loads(listed.stdout)["entries"]
        replayed = run_atlas(tmp_path, "exports", "replay", entry["receipt"]["id"], *named)
        assert running.post("b", "wait=20")[0] == 200

    assert (replayed.returncode, replayed.stdout) == (1, "")
    assert "is committed: its rows are in the dataset" in replayed.stderr
    assert replayed.stderr.count("\n") == 1
    assert (checked.returncode, checked.stderr) == (0, "")
    assert checked.stdout.endswith("PASS\n")
    assert json.loads(counted.stdout)["exports"]["committed"]["exports"] == 1
    assert (copied.returncode, copied.stderr) == (0, "")
    assert "Exports    1 committed" in copied.stdout
    shutil.copy(running.journal.with_name("journal.db.key"), tmp_path / "copy.db.key")
    restored = run_atlas(tmp_path, "journal", "check", "--journal", "copy.db")
    assert "1 committed" in restored.stdout


def test_a_journal_whose_service_does_not_answer_is_said_to_be_in_use(journal, file):
    with open_file(file):
        for command in (["check"], ["stats"], ["backup", "copy.db"]):
            assert "is held by another process" in journal(*command).in_one_line(75)


# dry runs


def test_a_dry_run_of_a_move_says_what_would_be_moved_and_moves_nothing(journal, file, tmp_path):
    before = names(tmp_path)
    to = "postgresql://atlas:secret@db.internal/atlas"
    planned = journal("move", "--to", to, "--dry-run")

    assert (planned.code, planned.err) == (0, "")
    assert planned.out.startswith(f"17 exports would be moved from {file} to ")
    assert "secret" not in planned.out
    assert names(tmp_path) == before


def test_a_dry_run_of_a_migration_says_what_would_be_and_changes_nothing(atlas, file, journal_url):
    named = {"ATLAS_JOURNAL_KEY": TEXT_KEY}
    atlas("journal", "move", "--to", journal_url, ATLAS_JOURNAL=f"sqlite:///{file}", **named)
    migrate = ("journal", "migrate")
    before = atlas(*migrate, "--json", ATLAS_JOURNAL=journal_url, **named)
    planned = atlas(*migrate, "--contract", "--dry-run", ATLAS_JOURNAL=journal_url, **named)
    after = atlas(*migrate, "--json", ATLAS_JOURNAL=journal_url, **named)

    assert (planned.code, planned.err) == (0, "")
    assert planned.out.endswith("on could write. Nothing was changed.\n")
    assert before.out == after.out
    assert json.loads(after.out).keys() == {"present", "writers", "ours"}


def test_a_dry_run_of_keys_lists_what_would_be_dropped(journal):
    planned = journal("keys", "--drop", "--dry-run")

    assert (planned.code, planned.out) == (0, "0 would be dropped.\n")
    assert len(json.loads(journal("keys", "--json").out)["copies"]) == 2
