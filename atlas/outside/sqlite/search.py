"""Finding an export in the journal: by what stands there in clear, else by what is sealed."""

import re
import sqlite3
from dataclasses import dataclass

from atlas.core import identifiers
from atlas.core.messages import ListedStatus
from atlas.outside.sqlite.group_commit import GroupCommit
from atlas.outside.sqlite.row_codec import COLUMNS, ExportRow, RowCodec

# each opens a label: whoever wants to write meanwhile waits for one slice and not for all of them
SLICE, LOOKED_AT_MAX = 500, 10_000
DIGEST = re.compile(r"[0-9a-f]{4,64}")
PUBLIC_STATUS = "CASE status WHEN 'claimed' THEN 'accepted' ELSE status END"
FAILED = "CASE WHEN status IN ('accepted', 'claimed') AND isolation > 0 THEN 'failed' END"
MATCHES = f"number < :before AND (:status IS NULL OR :status IN ({PUBLIC_STATUS}, {FAILED}))"
ALL = "\U0010ffff"  # GLOB would let a caller's * stand for anything; a range of the index does not

BY_ID = f"""
    SELECT number FROM export WHERE id >= :find AND id < :end AND {MATCHES}
    ORDER BY number DESC LIMIT :limit
"""
WHOLE_USER = "SELECT user FROM export WHERE user >= ? AND user < ? LIMIT 1"
BY_USER = f"""
    SELECT number FROM export WHERE user = :user AND {MATCHES} ORDER BY number DESC LIMIT :limit
"""
NEWEST = f"""
    SELECT number, {PUBLIC_STATUS}, {FAILED}, {COLUMNS} FROM export WHERE number < ?
    ORDER BY number DESC LIMIT ?
"""


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """What is to be found, among those that stand so and are older than this number."""

    find: str
    status: ListedStatus | None
    before: int
    limit: int


@dataclass(frozen=True, slots=True)
class SearchResult:
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

    commits: GroupCommit
    entries: RowCodec

    async def find(self, sought: SearchQuery) -> SearchResult:
        if DIGEST.fullmatch(sought.find):
            numbers = await self.commits.run(lambda db: search_index(db, sought))
            if numbers:
                return build_page(numbers, sought.limit)
        return await self.scan(sought)

    async def scan(self, sought: SearchQuery) -> SearchResult:
        """By correlation id, slice by slice."""
        numbers: list[int] = []
        before, looked_at = sought.before, 0
        while looked_at < LOOKED_AT_MAX:
            scanned, matching = await self.scan_page(sought, before)
            numbers += matching
            looked_at += len(scanned)
            if len(numbers) > sought.limit or len(scanned) < SLICE:
                return build_page(numbers, sought.limit)
            before = scanned[-1]
        return SearchResult(numbers, before, looked_at)

    async def scan_page(self, sought: SearchQuery, before: int) -> tuple[list[int], list[int]]:
        """The numbers of those that were looked at, and of those of them that are meant."""

        def work(db: sqlite3.Connection) -> tuple[list[int], list[int]]:
            rows = db.execute(NEWEST, [before, SLICE]).fetchall()
            matching = [
                number
                for number, status, failed, *columns in rows
                if sought.status in {None, status, failed}
                and self.entries.fields_or_default(ExportRow(*columns))[0].correlation_id
                == sought.find
            ]
            return [row[0] for row in rows], matching

        return await self.commits.run(work)


def search_index(db: sqlite3.Connection, sought: SearchQuery) -> list[int]:
    """By the beginning of an id, or by a user as he is shown; one more than was asked for."""
    given = {
        "find": sought.find,
        "end": sought.find + ALL,
        "status": sought.status,
        "before": sought.before,
        "limit": sought.limit + 1,
    }
    numbers = {number for (number,) in db.execute(BY_ID, given)}
    if len(sought.find) == identifiers.PSEUDONYM_CHARACTERS:
        for (user,) in db.execute(WHOLE_USER, [given["find"], given["end"]]).fetchall():
            numbers |= {number for (number,) in db.execute(BY_USER, given | {"user": user})}
    return sorted(numbers, reverse=True)[: sought.limit + 1]


def build_page(numbers: list[int], limit: int) -> SearchResult:
    """Of which the last is there only to tell that there are more."""
    shown = numbers[:limit]
    return SearchResult(shown, shown[-1] if len(numbers) > limit else None)
