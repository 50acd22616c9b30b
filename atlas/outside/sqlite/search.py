"""Finds entries by id or user through an index, and by correlation id by decrypting."""

import re
import sqlite3
from dataclasses import dataclass

from atlas.core import identifiers
from atlas.core.messages import ListedStatus
from atlas.outside.sqlite.group_commit import GroupCommit, run_in_commit
from atlas.outside.sqlite.row_codec import COLUMNS, ExportRow, RowCodec

# each row is decrypted: other operations wait for one slice, not for the whole search
SLICE, LOOKED_AT_MAX = 500, 10_000
HEX_PREFIX = re.compile(r"[0-9a-f]{4,64}")
PUBLIC_STATUS = "CASE status WHEN 'claimed' THEN 'accepted' ELSE status END"
FAILED = "CASE WHEN status IN ('accepted', 'claimed') AND isolation > 0 THEN 'failed' END"
MATCHES = f"number < :before AND (:status IS NULL OR :status IN ({PUBLIC_STATUS}, {FAILED}))"
PREFIX_END = "\U0010ffff"  # a prefix is a range of the index; with GLOB, a * would be a wildcard

BY_ID = f"""
    SELECT number FROM export WHERE id >= :text AND id < :end AND {MATCHES}
    ORDER BY number DESC LIMIT :limit
"""
FIND_USER = "SELECT user FROM export WHERE user >= ? AND user < ? LIMIT 1"
BY_USER = f"""
    SELECT number FROM export WHERE user = :user AND {MATCHES} ORDER BY number DESC LIMIT :limit
"""
NEWEST = f"""
    SELECT number, {PUBLIC_STATUS}, {FAILED}, {COLUMNS} FROM export WHERE number < ?
    ORDER BY number DESC LIMIT ?
"""


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """Selects the entries with this text and status that are older than the number `before`."""

    text: str
    status: ListedStatus | None
    before: int
    limit: int


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The numbers of exports, newest first.

    `before` is the number to continue from, if there are more. `looked_at` is the number of rows
    read, if the search stopped before the oldest.
    """

    numbers: list[int]
    before: int | None = None
    looked_at: int | None = None


class Search:
    """Runs a query: in the indexes first, then in the encrypted fields."""

    def __init__(self, commits: GroupCommit, codec: RowCodec) -> None:
        self._commits = commits
        self._codec = codec

    async def find(self, query: SearchQuery) -> SearchResult:
        if HEX_PREFIX.fullmatch(query.text):
            numbers = await self._commits.run(lambda db: search_index(db, query))
            if numbers:
                return build_page(numbers, query.limit)
        return await self._scan(query)

    async def _scan(self, query: SearchQuery) -> SearchResult:
        """Search by correlation id, slice by slice."""
        numbers: list[int] = []
        before, looked_at = query.before, 0
        while looked_at < LOOKED_AT_MAX:
            scanned, matching = await self._scan_slice(query, before)
            numbers += matching
            looked_at += len(scanned)
            if len(numbers) > query.limit or len(scanned) < SLICE:
                return build_page(numbers, query.limit)
            before = scanned[-1]
        return SearchResult(numbers, before, looked_at)

    @run_in_commit
    def _scan_slice(
        self, db: sqlite3.Connection, query: SearchQuery, before: int
    ) -> tuple[list[int], list[int]]:
        """Return the numbers that were read, and those that match."""
        scanned, matching = [], []
        for number, status, failed, *columns in db.execute(NEWEST, [before, SLICE]):
            scanned.append(number)
            if query.status in {None, status, failed}:
                fields, _ = self._codec.fields_or_default(ExportRow(*columns))
                if fields.correlation_id == query.text:
                    matching.append(number)
        return scanned, matching


def search_index(db: sqlite3.Connection, query: SearchQuery) -> list[int]:
    """Search by the beginning of an id, or by a pseudonym. Return one more than the limit."""
    params = {
        "text": query.text,
        "end": query.text + PREFIX_END,
        "status": query.status,
        "before": query.before,
        "limit": query.limit + 1,
    }
    numbers = {number for (number,) in db.execute(BY_ID, params)}
    if len(query.text) == identifiers.PSEUDONYM_CHARACTERS:
        for (user,) in db.execute(FIND_USER, [params["text"], params["end"]]).fetchall():
            numbers |= {number for (number,) in db.execute(BY_USER, params | {"user": user})}
    return sorted(numbers, reverse=True)[: query.limit + 1]


def build_page(numbers: list[int], limit: int) -> SearchResult:
    """Cut to the limit; a longer list means that there are more."""
    page = numbers[:limit]
    return SearchResult(page, page[-1] if len(numbers) > limit else None)
