"""Group commit: many units of work share a transaction, and each is atomic."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import anyio
import anyio.lowlevel
import pytest

from atlas.core.errors import CommandError, JournalFull, Rejected, Unavailable
from atlas.outside.sqlite.group_commit import GroupCommit


@contextmanager
def open_commits(path=":memory:", reconnect=None):
    connect = partial(sqlite3.connect, path, isolation_level=None)
    with ThreadPoolExecutor(1) as thread:
        db = thread.submit(connect).result()
        thread.submit(db.execute, "CREATE TABLE kept (text TEXT NOT NULL)").result()
        commits = GroupCommit(db, thread, reconnect or connect)
        try:
            yield commits
        finally:
            thread.submit(commits.close).result()


def make_disk_error():
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode, error.sqlite_errorname = 1034, "SQLITE_IOERR_FSYNC"
    return error


def insert(text, then=None):
    def work(db):
        db.execute("INSERT INTO kept VALUES (?)", [text])
        if then is not None:
            raise then
        return text

    return work


async def stored_texts(commits):
    return await commits.run(lambda db: [row[0] for row in db.execute("SELECT text FROM kept")])


async def outcomes(commits, *works):
    """Run all works concurrently and return the result or error type of each.

    All but the first queue up behind it and share a commit.
    """
    found = [None] * len(works)

    async def ask(index, work):
        try:
            found[index] = await commits.run(work)
        except (Rejected, Unavailable, ZeroDivisionError) as error:
            found[index] = type(error)

    async with anyio.create_task_group() as tasks:
        for index, work in enumerate(works):
            tasks.start_soon(ask, index, work)
    return found


async def test_an_answer_that_is_a_refusal_leaves_no_trace_and_harms_no_neighbour():
    with open_commits() as commits:
        found = await outcomes(
            commits, insert("a"), insert("b"), insert("c", Rejected()), insert("d")
        )

        assert found == ["a", "b", Rejected, "d"]
        assert await stored_texts(commits) == ["a", "b", "d"]


async def test_a_bug_is_told_to_whoever_brought_it_and_nothing_of_its_commit_is_kept():
    with open_commits() as commits:
        works = [insert("a"), insert("b"), insert("c", ZeroDivisionError()), insert("d")]
        found = await outcomes(commits, *works)

        assert found == ["a", Unavailable, ZeroDivisionError, Unavailable]
        assert await stored_texts(commits) == ["a"]
        assert await commits.run(insert("e")) == "e"


async def test_what_breaks_a_rule_of_the_tables_is_a_bug_and_no_trouble_of_the_disk():
    with open_commits() as commits:
        with pytest.raises(sqlite3.IntegrityError):
            await commits.run(insert(None))

        assert await commits.run(insert("a")) == "a"


async def test_who_does_not_wait_any_longer_is_committed_all_the_same():
    with open_commits() as commits:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(commits.run, insert("a"))
            tasks.start_soon(commits.run, insert("b"))
            await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()

        assert await stored_texts(commits) == ["a", "b"]


async def test_an_error_of_the_disk_is_told_without_the_words_of_sqlite():
    with open_commits() as commits:
        with pytest.raises(Unavailable, match="SQLITE_ERROR") as caught:
            await commits.run(lambda db: db.execute("SELECT 'heart rate' FROM nothing"))

        assert "nothing" not in str(caught.value)
        assert await commits.run(insert("a")) == "a"


async def test_what_the_disk_has_failed_is_opened_again_before_the_next_commit(tmp_path):
    with open_commits(tmp_path / "journal") as commits:
        await commits.run(lambda db: db.execute("CREATE TEMP TABLE of_this_connection (a)"))
        found = await outcomes(commits, insert("a"), insert("b"), insert("c", make_disk_error()))
        assert found == ["a", Unavailable, Unavailable]

        assert await stored_texts(commits) == ["a"]
        with pytest.raises(Unavailable):
            await commits.run(lambda db: db.execute("SELECT * FROM of_this_connection"))


async def test_as_long_as_it_cannot_be_opened_again_everybody_is_told_so(tmp_path):
    failures = [CommandError("It cannot be read."), make_disk_error()]

    def reconnect():
        if failures:
            raise failures.pop()
        return sqlite3.connect(tmp_path / "journal", isolation_level=None)

    with open_commits(tmp_path / "journal", reconnect) as commits:
        for work in (insert("a", make_disk_error()), insert("b"), insert("c")):
            with pytest.raises(Unavailable):
                await commits.run(work)

        assert await commits.run(insert("d")) == "d"
        assert await stored_texts(commits) == ["d"]


async def test_a_full_disk_is_a_full_journal_until_there_is_room_again(tmp_path):
    with open_commits(tmp_path / "journal") as commits:
        (pages,) = await commits.run(lambda db: db.execute("PRAGMA max_page_count = 3").fetchone())
        assert pages == 3
        with pytest.raises(JournalFull):
            await commits.run(insert("a" * 100_000))

        await commits.run(lambda db: db.execute("PRAGMA max_page_count = 1000").fetchone())
        assert await commits.run(insert("b")) == "b"
        assert await stored_texts(commits) == ["b"]


async def test_a_file_that_is_written_anew_holds_nothing_that_was_deleted(tmp_path):
    with open_commits(tmp_path / "db") as commits:
        for text in ("a word that goes", "a word that stays"):
            await commits.run(insert(text))
        await commits.run(lambda db: db.execute("DELETE FROM kept WHERE text LIKE '%goes'"))
        await commits.vacuum()
        assert await stored_texts(commits) == ["a word that stays"]

    text = (tmp_path / "db").read_bytes()
    assert (b"that goes" in text, b"that stays" in text) == (False, True)


async def test_what_the_disk_does_when_a_file_is_written_anew_is_told_and_connected_again(tmp_path):
    connections = []

    class Failing(sqlite3.Connection):
        def execute(self, statement, *parameters):
            if statement == "VACUUM" and len(connections) == 1:
                raise make_disk_error()
            return super().execute(statement, *parameters)

    def connect():
        connections.append(1)
        return sqlite3.connect(tmp_path / "db", isolation_level=None, factory=Failing)

    with ThreadPoolExecutor(1) as thread:
        commits = GroupCommit(thread.submit(connect).result(), thread, connect)
        with pytest.raises(Unavailable, match="SQLITE_IOERR_FSYNC"):
            await commits.vacuum()
        await commits.vacuum()
        thread.submit(commits.close).result()

    assert len(connections) == 2
