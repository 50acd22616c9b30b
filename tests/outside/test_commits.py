"""Many to a commit, and each piece whole or not at all."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import anyio
import anyio.lowlevel
import pytest

from atlas.core.errors import JournalFull, Rejected, Unavailable
from atlas.outside.sqlite.commits import Commits


@contextmanager
def committing(path=":memory:"):
    with ThreadPoolExecutor(1) as thread:
        db = thread.submit(sqlite3.connect, path, isolation_level=None).result()
        thread.submit(db.execute, "CREATE TABLE kept (text TEXT NOT NULL)").result()
        try:
            yield Commits(db, thread)
        finally:
            thread.submit(db.close).result()


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
    """What each was answered; all but the first line up behind it, and share a commit."""
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
        with pytest.raises(Unavailable, match="SQLITE_CONSTRAINT") as caught:
            await commits.run(keep(None))

        assert "kept.text" not in str(caught.value)
        assert await commits.run(keep("a")) == "a"


async def test_a_full_disk_is_a_full_journal_until_there_is_room_again(tmp_path):
    with committing(tmp_path / "journal") as commits:
        (pages,) = await commits.run(lambda db: db.execute("PRAGMA max_page_count = 3").fetchone())
        assert pages == 3
        with pytest.raises(JournalFull):
            await commits.run(keep("a" * 100_000))

        await commits.run(lambda db: db.execute("PRAGMA max_page_count = 1000").fetchone())
        assert await commits.run(keep("b")) == "b"
        assert await kept(commits) == ["b"]
