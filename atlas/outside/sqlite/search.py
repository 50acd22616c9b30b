"""Finding an export in the journal: by what stands there in clear, else by what is sealed."""

import re
import sqlite3
from dataclasses import dataclass

from atlas.core import names
from atlas.core.messages import ListedStatus
from atlas.outside.sqlite.commits import Commits
from atlas.outside.sqlite.entries import COLUMNS, Entries, Row

# each opens a label: whoever wants to write meanwhile waits for one slice and not for all of them
SLICE, LOOKED_AT_MAX = 500, 10_000
DIGEST = re.compile(r"[0-9a-f]{4,64}")
STANDS = "CASE status WHEN 'claimed' THEN 'accepted' ELSE status END"
FAILED = "CASE WHEN status IN ('accepted', 'claimed') AND isolation > 0 THEN 'failed' END"
ASKED = f"number < :before AND (:status IS NULL OR :status IN ({STANDS}, {FAILED}))"
ALL = "\U0010ffff"  # GLOB would let a caller's * stand for anything; a range of the index does not

BY_ID = f"""
    SELECT number FROM export WHERE id >= :find AND id < :end AND {ASKED}
    ORDER BY number DESC LIMIT :limit
"""
WHOLE_USER = "SELECT user FROM export WHERE user >= ? AND user < ? LIMIT 1"
BY_USER = f"""
    SELECT number FROM export WHERE user = :user AND {ASKED} ORDER BY number DESC LIMIT :limit
"""
NEWEST = f"""
    SELECT number, {STANDS}, {FAILED}, {COLUMNS} FROM export WHERE number < ?
    ORDER BY number DESC LIMIT ?
"""


@dataclass(frozen=True, slots=True)
class Sought:
    """What is to be found, among those that stand so and are older than this number."""

    find: str
    status: ListedStatus | None
    before: int
    limit: int


@dataclass(frozen=True, slots=True)
class Found:
    """The numbers of exports, newest first.

    Where the search ended before the oldest, the number from which it goes on, and how many it has
    looked at.
    """

    numbers: list[int]
    before: int | None = None
    looked_at: int | None = None


@dataclass(frozen=True, slots=True)
class Search:
    """One question; what an index cannot answer is asked of the sealed labels."""

    commits: Commits
    entries: Entries

    async def found(self, sought: Sought) -> Found:
        if DIGEST.fullmatch(sought.find):
            numbers = await self.commits.run(lambda db: indexed(db, sought))
            if numbers:
                return page(numbers, sought.limit)
        return await self.opened(sought)

    async def opened(self, sought: Sought) -> Found:
        """By correlation id, slice by slice."""
        numbers: list[int] = []
        before, looked_at = sought.before, 0
        while looked_at < LOOKED_AT_MAX:
            seen, found = await self.slice(sought, before)
            numbers += found
            looked_at += len(seen)
            if len(numbers) > sought.limit or len(seen) < SLICE:
                return page(numbers, sought.limit)
            before = seen[-1]
        return Found(numbers, before, looked_at)

    async def slice(self, sought: Sought, before: int) -> tuple[list[int], list[int]]:
        """The numbers of those that were looked at, and of those of them that are meant."""

        def work(db: sqlite3.Connection) -> tuple[list[int], list[int]]:
            rows = db.execute(NEWEST, [before, SLICE]).fetchall()
            found = [
                number
                for number, status, failed, *columns in rows
                if sought.status in {None, status, failed}
                and self.entries.told(Row(*columns))[0].correlation_id == sought.find
            ]
            return [row[0] for row in rows], found

        return await self.commits.run(work)


def indexed(db: sqlite3.Connection, sought: Sought) -> list[int]:
    """By the beginning of an id, or by a user as he is shown; one more than was asked for."""
    given = {
        "find": sought.find,
        "end": sought.find + ALL,
        "status": sought.status,
        "before": sought.before,
        "limit": sought.limit + 1,
    }
    found = {number for (number,) in db.execute(BY_ID, given)}
    if len(sought.find) == names.PSEUDONYM_CHARACTERS:
        for (user,) in db.execute(WHOLE_USER, [given["find"], given["end"]]).fetchall():
            found |= {number for (number,) in db.execute(BY_USER, given | {"user": user})}
    return sorted(found, reverse=True)[: sought.limit + 1]


def page(numbers: list[int], limit: int) -> Found:
    """Of which the last is there only to tell that there are more."""
    shown = numbers[:limit]
    return Found(shown, shown[-1] if len(numbers) > limit else None)
