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
def committing(path=":memory:", again=None):
    connect = partial(sqlite3.connect, path, isolation_level=None)
    with ThreadPoolExecutor(1) as thread:
        db = thread.submit(connect).result()
        thread.submit(db.execute, "CREATE TABLE kept (text TEXT NOT NULL)").result()
        commits = GroupCommit(db, thread, again or connect)
        try:
            yield commits
        finally:
            thread.submit(commits.close).result()


def an_error_of_the_disk():
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode, error.sqlite_errorname = 1034, "SQLITE_IOERR_FSYNC"
    return error


def keep(text, then=None):
    def work(db):
        db.execute("INSERT INTO kept VALUES (?)", [text])
        if then is not None:
            raise then
        return text

    return work


async def kept(commits):
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

    async with anyio.create_task_group() as asking:
        for index, work in enumerate(works):
            asking.start_soon(ask, index, work)
    return found


async def test_an_answer_that_is_a_refusal_leaves_no_trace_and_harms_no_neighbour():
    with committing() as commits:
        found = await outcomes(commits, keep("a"), keep("b"), keep("c", Rejected()), keep("d"))

        assert found == ["a", "b", Rejected, "d"]
        assert await kept(commits) == ["a", "b", "d"]


async def test_a_bug_is_told_to_whoever_brought_it_and_nothing_of_its_commit_is_kept():
    with committing() as commits:
        works = [keep("a"), keep("b"), keep("c", ZeroDivisionError()), keep("d")]
        found = await outcomes(commits, *works)

        assert found == ["a", Unavailable, ZeroDivisionError, Unavailable]
        assert await kept(commits) == ["a"]
        assert await commits.run(keep("e")) == "e"


async def test_what_breaks_a_rule_of_the_tables_is_a_bug_and_no_trouble_of_the_disk():
    with committing() as commits:
        with pytest.raises(sqlite3.IntegrityError):
            await commits.run(keep(None))

        assert await commits.run(keep("a")) == "a"


async def test_who_does_not_wait_any_longer_is_committed_all_the_same():
    with committing() as commits:
        async with anyio.create_task_group() as asking:
            asking.start_soon(commits.run, keep("a"))
            asking.start_soon(commits.run, keep("b"))
            await anyio.lowlevel.checkpoint()
            asking.cancel_scope.cancel()

        assert await kept(commits) == ["a", "b"]


async def test_an_error_of_the_disk_is_told_without_the_words_of_sqlite():
    with committing() as commits:
        with pytest.raises(Unavailable, match="SQLITE_ERROR") as caught:
            await commits.run(lambda db: db.execute("SELECT 'heart rate' FROM nothing"))

        assert "nothing" not in str(caught.value)
        assert await commits.run(keep("a")) == "a"


async def test_what_the_disk_has_failed_is_opened_again_before_the_next_commit(tmp_path):
    with committing(tmp_path / "journal") as commits:
        await commits.run(lambda db: db.execute("CREATE TEMP TABLE of_this_connection (a)"))
        found = await outcomes(commits, keep("a"), keep("b"), keep("c", an_error_of_the_disk()))
        assert found == ["a", Unavailable, Unavailable]

        assert await kept(commits) == ["a"]
        with pytest.raises(Unavailable):
            await commits.run(lambda db: db.execute("SELECT * FROM of_this_connection"))


async def test_as_long_as_it_cannot_be_opened_again_everybody_is_told_so(tmp_path):
    failures = [CommandError("It cannot be read."), an_error_of_the_disk()]

    def again():
        if failures:
            raise failures.pop()
        return sqlite3.connect(tmp_path / "journal", isolation_level=None)

    with committing(tmp_path / "journal", again) as commits:
        for work in (keep("a", an_error_of_the_disk()), keep("b"), keep("c")):
            with pytest.raises(Unavailable):
                await commits.run(work)

        assert await commits.run(keep("d")) == "d"
        assert await kept(commits) == ["d"]


async def test_a_full_disk_is_a_full_journal_until_there_is_room_again(tmp_path):
    with committing(tmp_path / "journal") as commits:
        (pages,) = await commits.run(lambda db: db.execute("PRAGMA max_page_count = 3").fetchone())
        assert pages == 3
        with pytest.raises(JournalFull):
            await commits.run(keep("a" * 100_000))

        await commits.run(lambda db: db.execute("PRAGMA max_page_count = 1000").fetchone())
        assert await commits.run(keep("b")) == "b"
        assert await kept(commits) == ["b"]


async def test_a_file_that_is_written_anew_holds_nothing_that_was_deleted(tmp_path):
    with committing(tmp_path / "db") as commits:
        for text in ("a word that goes", "a word that stays"):
            await commits.run(keep(text))
        await commits.run(lambda db: db.execute("DELETE FROM kept WHERE text LIKE '%goes'"))
        await commits.vacuum()
        assert await kept(commits) == ["a word that stays"]

    text = (tmp_path / "db").read_bytes()
    assert (b"that goes" in text, b"that stays" in text) == (False, True)


async def test_what_the_disk_does_when_a_file_is_written_anew_is_told_and_connected_again(tmp_path):
    connections = []

    class Failing(sqlite3.Connection):
        def execute(self, statement, *given):
            if statement == "VACUUM" and len(connections) == 1:
                raise an_error_of_the_disk()
            return super().execute(statement, *given)

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
