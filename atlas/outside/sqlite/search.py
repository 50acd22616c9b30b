"""Finds entries by id, user or sub through an index, and by correlation id by decrypting."""

import sqlite3

from atlas.core import identifiers
from atlas.outside.journal import search
from atlas.outside.journal.row_codec import ExportRow, RowCodec
from atlas.outside.journal.search import HEX_PREFIX, PREFIX_END, SLICE, SearchQuery, SearchResult
from atlas.outside.sqlite.columns import COLUMNS
from atlas.outside.sqlite.group_commit import GroupCommit, run_in_commit

PUBLIC_STATUS = "CASE status WHEN 'claimed' THEN 'accepted' ELSE status END"
FAILED = "CASE WHEN status IN ('accepted', 'claimed') AND isolation > 0 THEN 'failed' END"
MATCHES = f"number < :before AND (:status IS NULL OR :status IN ({PUBLIC_STATUS}, {FAILED}))"

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


class Search:
    """Runs a query: in the indexes first, then in the encrypted fields."""

    def __init__(self, commits: GroupCommit, codec: RowCodec) -> None:
        self._commits = commits
        self._codec = codec

    async def find(self, query: SearchQuery) -> SearchResult:
        hashed = self._codec.cipher.hash_user(query.text)
        numbers = await self._commits.run(lambda db: search_index(db, query, hashed))
        if numbers:
            return search.build_page(numbers, query.limit)
        return await search.scan(query, self._scan_slice)

    @run_in_commit
    def _scan_slice(
        self, db: sqlite3.Connection, query: SearchQuery, before: int
    ) -> tuple[list[int], list[int]]:
        """Return the numbers that were read, and those that match."""
        scanned, matching = [], []
        for number, status, failed, *columns in db.execute(NEWEST, [before, SLICE]):
            scanned.append(number)
            has_status = search.has_status(query, status, failed)
            if has_status and search.has_correlation_id(query, self._codec, ExportRow(*columns)):
                matching.append(number)
        return scanned, matching


def search_index(db: sqlite3.Connection, query: SearchQuery, hashed: str) -> list[int]:
    """Search by a sub, the beginning of an id, or a pseudonym. Return one more than the limit.

    `hashed` is the hash of the text, in case it is a sub.
    """
    params = {
        "text": query.text,
        "end": query.text + PREFIX_END,
        "status": query.status,
        "before": query.before,
        "limit": query.limit + 1,
    }
    users = [hashed]
    numbers = set[int]()
    if HEX_PREFIX.fullmatch(query.text):
        numbers |= {number for (number,) in db.execute(BY_ID, params)}
        if len(query.text) == identifiers.PSEUDONYM_CHARACTERS:
            found = db.execute(FIND_USER, [params["text"], params["end"]]).fetchall()
            users += [user for (user,) in found]
    for user in users:
        numbers |= {number for (number,) in db.execute(BY_USER, params | {"user": user})}
    return sorted(numbers, reverse=True)[: query.limit + 1]
