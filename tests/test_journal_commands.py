"""`atlas journal`: moves, checks, keys and versions of journals, by the real command."""

import asyncio
import base64
import random
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from atlas.core.errors import ConfigurationError
from atlas.core.phones import PhoneQuery
from atlas.outside.journal.transfer import TABLES
from atlas.outside.postgres import schema
from tests.support.exports import export
from tests.support.filled_journals import CY, LATER, NEW, fill, open_file
from tests.support.postgres import open_postgres_journal, run_sql
from tests.support.replicas import list_replicas
from tests.support.schemas import COMMAND, TEXT_KEY, environment, run, run_script

OTHER_KEY = base64.b64encode(bytes([1]) * 32).decode()


@pytest.fixture
def file(tmp_path):
    """A journal with everything that a journal can hold."""
    return write_file(tmp_path / "journal.db")


def write_file(path, **more):
    async def write():
        with open_file(path) as journal:
            await fill(journal, **more)

    anyio.run(write)
    return path


def move(atlas, source, target, key=TEXT_KEY):
    return atlas("journal", "move", "--to", target, ATLAS_JOURNAL=source, ATLAS_JOURNAL_KEY=key)


def check(atlas, journal, key=TEXT_KEY):
    return atlas("journal", "check", ATLAS_JOURNAL=journal, ATLAS_JOURNAL_KEY=key)


def of_file(path):
    return f"sqlite:///{path}"


def read_file(path):
    """Return all rows that are moved."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        rows = {table: sorted(db.execute(f"SELECT * FROM {table}"), key=repr) for table in TABLES}
        rows["total"] = db.execute("SELECT * FROM total ORDER BY status").fetchall()
        rows["intent"] = db.execute("SELECT * FROM intent").fetchall()
        rows["open_transaction"] = db.execute("SELECT * FROM open_transaction").fetchall()
        rows["secret"] = db.execute(
            "SELECT * FROM secret WHERE name NOT IN ('root', 'check') ORDER BY name"
        ).fetchall()
    return rows


def dump(path):
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        return [line for line in db.iterdump() if 'INTO "secret"' not in line]


# move


@pytest.mark.parametrize("is_open", [True, False], ids=["transaction", "intent"])
def test_a_journal_that_is_moved_there_and_back_again_is_equal(
    atlas, tmp_path, database_server, schema_name, journal_url, is_open
):
    file = write_file(tmp_path / "journal.db", is_open=is_open)
    before = read_file(file)

    there = move(atlas, of_file(file), journal_url)

    assert (there.code, there.err) == (0, "")
    assert f"?schema={schema_name}" in there.out
    assert database_server.password not in there.out
    assert not file.exists()
    assert check(atlas, journal_url).out.endswith("PASS\n")
    back = move(atlas, journal_url, of_file(file))
    assert (back.code, back.err) == (0, "")
    assert read_file(file) == before
    assert {status for status, *_ in before["total"]} > {"abandoned", "claimed"}
    assert all(before[each] for each in (*TABLES, "open_transaction" if is_open else "intent"))
    assert check(atlas, of_file(file)).out.endswith("PASS\n")


def test_an_export_that_failed_more_often_than_a_column_can_count_is_moved(
    atlas, file, journal_url, database_server, schema_name
):
    with closing(sqlite3.connect(file)) as db, db:
        db.execute("UPDATE export SET tries = 40000 WHERE tries > 0")
    moved = move(atlas, of_file(file), journal_url)
    (most,) = anyio.run(run_sql, database_server, f"SELECT max(tries) FROM {schema_name}.export")

    assert (moved.code, moved.err) == (0, "")
    assert most == 32_767


def test_a_moved_journal_works_on_where_it_was(atlas, file, journal_url):
    """The group in hand is known, what is sent again is replayed, and new exports have numbers."""

    async def use():
        async with open_postgres_journal(journal_url) as journal:
            await journal.leadership.acquire()
            hand = await journal.outbox.read_in_hand()
            again = await journal.intake.append(export(1))
            new = await journal.intake.append(export(99))
            newest = (await journal.ledger.list_entries(None, 1, None)).entries[0].receipt
            phones = (await journal.phones.list_phones(PhoneQuery(), LATER, 3)).phones
            purged = await journal.personal_data.purge(CY, ())
            left = (await journal.phones.list_phones(PhoneQuery(), LATER, 3)).phones
            return hand, again, new, newest, phones, purged, left

    move(atlas, of_file(file), journal_url)
    hand, again, new, newest, phones, purged, left = anyio.run(use)

    assert hand.transaction == "ri.foundry.main.transaction.5"
    assert len(hand.group.exports) == 4
    assert again.replayed
    assert not new.replayed
    assert newest.id == new.id
    assert sum(phone.reported_at == LATER for phone in phones) == 2
    assert (purged.rows["phone"], purged.rows["report"]) == (1, 1)
    assert len(left) == len(phones) - 1


def test_the_old_place_of_a_moved_journal_refuses_in_one_line(
    atlas, file, journal_url, schema_name
):
    move(atlas, of_file(file), journal_url)
    with pytest.raises(ConfigurationError, match="was moved to another database"), open_file(file):
        pass

    move(atlas, journal_url, of_file(file))
    said = atlas(
        "exports", "list", ATLAS_JOURNAL=journal_url, ATLAS_JOURNAL_KEY=TEXT_KEY
    ).in_one_line(78)
    assert f"was moved to {file}: set ATLAS_JOURNAL" in said
    assert schema_name in said


def test_a_replica_that_was_frozen_meanwhile_stores_nothing_in_a_moved_journal(
    atlas, file, journal_url
):
    move(atlas, of_file(file), journal_url)

    async def move_under_it():
        async with open_postgres_journal(journal_url) as journal:
            await journal.ledger.read_totals()
            process = await asyncio.create_subprocess_exec(
                *COMMAND, "journal", "move", "--to", of_file(file), env=environment(journal_url)
            )
            assert await process.wait() == 0
            with pytest.raises(Exception, match="database") as caught:
                await journal.intake.append(export(99))
            return caught.value

    assert anyio.run(move_under_it).status == 503


def test_a_target_that_is_not_empty_is_refused_and_the_source_kept(atlas, tmp_path, journal_url):
    first = write_file(tmp_path / "first.db")
    second = write_file(tmp_path / "second.db")
    move(atlas, of_file(first), journal_url)
    before = dump(second)

    assert "is not empty" in move(atlas, of_file(second), journal_url).in_one_line(1)
    assert "is not empty" in move(atlas, journal_url, of_file(second)).in_one_line(1)

    assert dump(second) == before
    assert check(atlas, journal_url).code == 0


def test_ctrl_c_ends_a_move_without_a_trace(file, journal_url, database_server, schema_name):
    """The test holds the lock of the schema, and interrupts the command when it waits for that."""
    import asyncpg  # noqa: PLC0415 - the server needs it, too

    before = dump(file)
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory'"

    async def interrupt():
        lock = f"SELECT pg_advisory_lock(hashtextextended('atlas {schema_name}', 0))"
        connection = await asyncpg.connect(database_server.url)
        await connection.execute(lock)
        process = await asyncio.create_subprocess_exec(
            *(*COMMAND, "journal", "move", "--to", journal_url),
            env=environment(of_file(file)),
            stderr=subprocess.PIPE,
        )
        async with asyncio.timeout(20):
            while not await connection.fetchval(waiting):
                await asyncio.sleep(0.01)
            process.send_signal(signal.SIGINT)
            _, said = await process.communicate()
        await connection.close()
        return process.returncode, said

    assert anyio.run(interrupt) == (130, b"")
    assert dump(file) == before
    assert run(database_server, count_schemas(schema_name)) == [0]


def test_what_an_earlier_move_has_left_is_no_target(atlas, file, journal_url):
    move(atlas, of_file(file), journal_url)
    move(atlas, journal_url, of_file(file))
    remains = file.with_name("journal.db.moved")

    assert str(remains) in move(atlas, of_file(file), journal_url).in_one_line(1)
    remains.unlink()
    assert "drop that schema" in move(atlas, of_file(file), journal_url).in_one_line(1)
    assert check(atlas, of_file(file)).code == 0


def test_the_password_of_the_database_may_be_outside_of_the_url(
    atlas, file, journal_url, database_server
):
    without = journal_url.replace(f":{database_server.password}@", "@")
    assert without != journal_url

    moved = atlas(
        *("journal", "move", "--to", without),
        ATLAS_JOURNAL=of_file(file),
        ATLAS_JOURNAL_KEY=TEXT_KEY,
        PGPASSWORD=database_server.password,
    )

    assert moved.code == 0


def test_a_wrong_key_changes_nothing(atlas, file, database_server, schema_name, journal_url):
    before = dump(file)

    assert "ATLAS_JOURNAL_KEY" in move(atlas, of_file(file), journal_url, OTHER_KEY).in_one_line(78)

    assert dump(file) == before
    assert run(database_server, count_schemas(schema_name)) == [0]
    move(atlas, of_file(file), journal_url)
    assert "ATLAS_JOURNAL_KEY" in move(atlas, journal_url, of_file(file), OTHER_KEY).in_one_line(78)
    assert not file.exists()
    assert check(atlas, journal_url).code == 0


def test_replicas_need_a_key_that_is_set(atlas, tmp_path, journal_url):
    path = tmp_path / "journal.db"

    async def create():
        with open_file(path, keys=()):
            pass

    anyio.run(create)
    said = atlas("journal", "move", "--to", journal_url, ATLAS_JOURNAL=of_file(path)).in_one_line(
        78
    )

    assert f"such as the one in {path}.key" in said


def test_a_journal_in_use_is_not_moved(atlas, file, journal_url):
    async def ignore(_topic):
        pass

    async def beat():
        async with (
            open_postgres_journal(journal_url) as journal,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(journal.peers.listen, ignore)
            while not await list_replicas(journal):
                await anyio.sleep(0.05)
            process = await asyncio.create_subprocess_exec(
                *COMMAND,
                "journal",
                "move",
                "--to",
                of_file(file),
                env=environment(journal_url),
                stderr=subprocess.PIPE,
            )
            said = (await process.communicate())[1].decode()
            tasks.cancel_scope.cancel()
            return process.returncode, said

    with open_file(file):
        assert "held by another process" in move(atlas, of_file(file), journal_url).in_one_line(75)
    move(atlas, of_file(file), journal_url)
    code, said = anyio.run(beat)

    assert (code, said.count("\n")) == (75, 1)
    assert "in the last 15 s" in said


@pytest.mark.slow
@pytest.mark.parametrize("way", ["there", "back"])
def test_a_move_that_is_killed_at_any_moment_can_be_repeated(atlas, file, journal_url, way):
    """SIGKILL at random moments of the command, until one of them has come to its end."""
    before = read_file(file)
    source, target = of_file(file), journal_url
    if way == "back":
        move(atlas, source, target)
        source, target = target, source
    rng, kills, seconds = random.Random(way), 0, 0.3
    while True:
        process = subprocess.Popen(
            [*COMMAND, "journal", "move", "--to", target],
            env=environment(source),
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            _, said = process.communicate(timeout=seconds * rng.uniform(0.8, 1.0))
            break
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            kills, seconds = kills + 1, seconds * 1.12
    assert kills >= 5
    was_done = "was moved" in said or "no journal at" in said  # killed behind its last step
    assert process.returncode == 0 or was_done, said
    if way == "there":
        move(atlas, target, source)
    assert read_file(file) == before


def test_a_move_that_was_killed_before_it_retired_the_source_goes_on(
    atlas, file, journal_url, database_server, schema_name
):
    before = read_file(file)
    move(atlas, of_file(file), journal_url)
    file.with_name("journal.db.moved").rename(file)

    assert move(atlas, of_file(file), journal_url).code == 0

    assert not file.exists()
    copy = file.with_name("copy.db")
    move(atlas, journal_url, of_file(copy))
    run(
        database_server,
        f"DELETE FROM {schema_name}.secret WHERE name = 'moved'",
        f"ALTER TABLE {schema_name}.export_moved RENAME TO export",
    )
    assert move(atlas, journal_url, of_file(copy)).code == 0
    assert read_file(copy) == before
    assert "was moved" in check(atlas, journal_url).in_one_line(78)


def count_schemas(name):
    return f"SELECT count(*) FROM pg_namespace WHERE nspname = '{name}'"


# check


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("UPDATE total SET exports = exports + 1 WHERE status = 'accepted'", "total of accepted"),
        ("DELETE FROM payload WHERE number IN (SELECT min(number) FROM payload)", "lack their"),
        ("UPDATE payload SET sealed = zeroblob(99)", "are damaged"),
        ("UPDATE export SET status = 'set_aside' WHERE status = 'committed'", None),
    ],
)
def test_the_check_finds_what_is_wrong_in_a_file(atlas, file, statement, problem):
    with closing(sqlite3.connect(file)) as db, db:
        db.execute(statement)

    ended = check(atlas, of_file(file))

    assert ended.code == (0 if problem is None else 1)
    assert problem is None or problem in ended.out


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("UPDATE {}.total SET exports = exports + 1 WHERE status = 'accepted'", "of accepted"),
        ("DELETE FROM {0}.payload WHERE number IN (SELECT min(number) FROM {0}.payload)", "lack"),
        ("UPDATE {0}.payload SET sealed = sealed || sealed", "are damaged"),
        ("UPDATE {0}.export SET status = 'committed' WHERE status = 'accepted'", "no export"),
    ],
)
def test_the_check_finds_what_is_wrong_in_a_database(
    atlas, file, database_server, schema_name, journal_url, statement, problem
):
    move(atlas, of_file(file), journal_url)
    run(database_server, statement.format(schema_name))

    ended = check(atlas, journal_url)

    assert ended.code == 1
    assert problem in ended.out
    assert "auth0" not in ended.out


def test_the_check_of_no_journal_creates_none(
    atlas, database_server, schema_name, journal_url, tmp_path
):
    assert "There is no journal" in check(atlas, journal_url).in_one_line(1)
    listed = atlas("exports", "list", ATLAS_JOURNAL=journal_url, ATLAS_JOURNAL_KEY=TEXT_KEY)
    assert "There is no journal" in listed.in_one_line(1)
    assert run(database_server, count_schemas(schema_name)) == [0]
    assert "There is no journal" in check(atlas, of_file(tmp_path / "none.db")).in_one_line(1)
    (tmp_path / "empty.db").touch()
    assert "There is no journal" in check(atlas, of_file(tmp_path / "empty.db")).in_one_line(1)


# keys


def test_the_key_is_changed_and_the_copy_for_the_old_one_dropped(atlas, file, journal_url):
    move(atlas, of_file(file), journal_url)
    both = {"ATLAS_JOURNAL": journal_url, "ATLAS_JOURNAL_KEY": f"{OTHER_KEY},{TEXT_KEY}"}
    new = both | {"ATLAS_JOURNAL_KEY": OTHER_KEY}

    assert "key 2 of ATLAS_JOURNAL_KEY" in atlas("journal", "keys", **both).out
    assert atlas("exports", "list", **both).code == 0
    listed = atlas("journal", "keys", **new).out.splitlines()
    assert sorted(line.split("  ")[-1] for line in listed) == [
        "a key that is not configured",
        "key 1 of ATLAS_JOURNAL_KEY",
    ]
    assert atlas("journal", "keys", "--drop", **new).code == 130  # nobody confirmed
    assert "1 dropped" in atlas("journal", "keys", "--drop", "--yes", **new).out
    assert len(atlas("journal", "keys", **new).out.splitlines()) == 1
    assert check(atlas, journal_url, OTHER_KEY).code == 0
    assert "ATLAS_JOURNAL_KEY" in check(atlas, journal_url).in_one_line(78)


def test_the_copies_in_a_file_are_those_for_its_key(atlas, file):
    listed = atlas("journal", "keys", "--journal", file, ATLAS_JOURNAL_KEY=TEXT_KEY).out

    assert listed.count("key 1 of ATLAS_JOURNAL_KEY") == 2
    assert f"{file}.seal" in listed


def test_a_dry_run_drops_no_more_copies_of_a_file_than_the_command(atlas, file):
    keys = ["journal", "keys", "--journal", file, "--drop"]

    assert atlas(*keys, "--dry-run", ATLAS_JOURNAL_KEY=OTHER_KEY).out.endswith(
        "0 would be dropped.\n"
    )
    assert atlas(*keys, ATLAS_JOURNAL_KEY=OTHER_KEY).out.endswith("0 dropped.\n")


def test_the_copies_of_a_journal_with_a_key_file_are_those_for_the_file(atlas, tmp_path):
    with open_file(tmp_path / "journal.db", keys=()):
        pass
    listed = atlas("journal", "keys", "--journal", tmp_path / "journal.db").out

    assert listed.count("the key file") == 2


# versions side by side


def test_a_newer_version_adds_to_the_tables_while_the_older_one_accepts(
    atlas, journal_url, database_server, schema_name
):
    """It waits for a long transaction, and its locks are no error for the older one."""

    async def migrate(*options):
        command = sys.executable, "-m", "tests.support.future_build", "journal", "migrate", *options
        process = await asyncio.create_subprocess_exec(
            *command,
            env=environment(journal_url),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        out, err = await process.communicate()
        return process.returncode, (out + err).decode()

    async def ignore(_topic):
        pass

    async def serve():
        async with (
            open_postgres_journal(journal_url) as journal,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(journal.peers.listen, ignore)
            stored = []

            async def send():
                while True:
                    stored.append(await journal.intake.append(export(len(stored))))
                    await anyio.sleep(0.005)

            async def read_for_long():
                count = f"SELECT count(*) FROM {schema_name}.export"
                await run_sql(database_server, "BEGIN", count, "SELECT pg_sleep(3)", "COMMIT")

            await journal.intake.append(export(1_000_000))
            tasks.start_soon(read_for_long)
            tasks.start_soon(send)
            expanded, before = await migrate(), len(stored)
            contracted = await migrate("--contract")
            await anyio.sleep(0.2)
            assert len(stored) > before > 0
            tasks.cancel_scope.cancel()
        return expanded, contracted

    expanded, contracted = anyio.run(serve)
    assert expanded[0] == 0
    ours = schema.VERSION
    told = f"version {ours + 1}; versions from {ours} on may write; this Atlas has {ours + 1}"
    assert told in expanded[1]
    assert contracted[0] == 75
    assert "1 replicas of an older version" in contracted[1]
    assert atlas("exports", "list", ATLAS_JOURNAL=journal_url, ATLAS_JOURNAL_KEY=TEXT_KEY).code == 0

    assert anyio.run(migrate, "--contract")[0] == 0
    said = atlas(
        "exports", "list", ATLAS_JOURNAL=journal_url, ATLAS_JOURNAL_KEY=TEXT_KEY
    ).in_one_line(78)
    assert "upgraded by a newer Atlas" in said


JOURNALS = sorted((Path(__file__).parent / "journals").glob("postgres-v*.sql"))


def test_a_journal_of_each_version_is_kept():
    names = [file.name for file in JOURNALS]
    assert names == [f"postgres-v{number}.sql" for number in range(1, schema.VERSION + 1)], (
        "VERSION was raised: python -m tests.journals.make_postgres"
    )


@pytest.mark.parametrize("old", JOURNALS, ids=lambda file: file.stem)
def test_a_journal_of_an_earlier_version_is_opened_by_this_version(
    atlas, journal_url, database_server, schema_name, old
):
    text = old.read_text(encoding="utf-8")
    run_script(database_server, text.replace("atlas_dump", schema_name))

    async def use():
        async with open_postgres_journal(journal_url) as journal:
            await journal.leadership.acquire()
            hand = await journal.outbox.read_in_hand()
            payloads = await journal.outbox.read([each.id for each in hand.group.exports])
            again = [await journal.intake.append(export(number)) for number in (1, NEW)]
            return hand, payloads, again, await journal.intake.append(export(99))

    hand, payloads, again, new = anyio.run(use)

    assert hand.transaction == "ri.foundry.main.transaction.5"
    assert len(payloads) == len(hand.group.exports) == 4
    assert [each.replayed for each in again] == [True, True]
    assert not new.replayed
    assert check(atlas, journal_url).out.endswith("PASS\n")


# a lost key


def discard(atlas, journal, key):
    return atlas("exports", "discard", "--yes", ATLAS_JOURNAL=journal, ATLAS_JOURNAL_KEY=key)


def test_what_a_lost_key_encrypted_is_discarded_and_the_receipts_stay(
    atlas, file, journal_url, database_server, schema_name
):
    move(atlas, of_file(file), journal_url)
    kept = discard(atlas, journal_url, TEXT_KEY)
    lost = discard(atlas, journal_url, OTHER_KEY)
    anyio.run(accept_one, journal_url)
    opened = check(atlas, journal_url)
    statuses = f"SELECT string_agg(DISTINCT status, ' ') FROM {schema_name}.export"
    (found,) = anyio.run(run_sql, database_server, statuses)

    assert kept.code == 1
    assert "nothing is lost" in kept.err
    assert lost.code == 0, lost.err
    assert "exports discarded" in lost.out
    assert found == "abandoned accepted committed"
    assert opened.out.endswith("PASS\n"), opened.err


async def accept_one(journal_url):
    """The first start after a lost key creates a new one."""
    async with open_postgres_journal(journal_url) as journal:
        await journal.intake.append(export(99))


def test_nothing_is_discarded_while_a_replica_runs(atlas, file, journal_url):
    move(atlas, of_file(file), journal_url)

    async def discard_meanwhile():
        async with (
            open_postgres_journal(journal_url) as journal,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(journal.peers.listen, ignore)
            await anyio.sleep(1.0)
            refused = await anyio.to_thread.run_sync(discard, atlas, journal_url, OTHER_KEY)
            tasks.cancel_scope.cancel()
        return refused

    refused = anyio.run(discard_meanwhile)

    assert refused.code != 0
    assert "stop them" in refused.err


async def ignore(_):
    pass
