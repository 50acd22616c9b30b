"""Finds entries by id, user or sub through an index, and by correlation id by decrypting."""

from atlas.core import identifiers
from atlas.outside.journal import search
from atlas.outside.journal.row_codec import RowCodec
from atlas.outside.journal.search import HEX_PREFIX, PREFIX_END, SLICE, SearchQuery, SearchResult
from atlas.outside.postgres.connections import Session
from atlas.outside.postgres.database import Database
from atlas.outside.postgres.rows import COLUMNS, build_row

FAILED = "CASE WHEN status = 'accepted' AND isolation > 0 THEN 'failed' END"
MATCHES = f"number < $2 AND ($3::text IS NULL OR $3 IN (status, {FAILED}))"
BY_ID = f"""
    SELECT number FROM @.export WHERE id >= $1 AND id < $5 AND {MATCHES}
    ORDER BY number DESC LIMIT $4
"""
FIND_USER = "SELECT sender FROM @.export WHERE sender >= $1 AND sender < $2 LIMIT 1"
BY_USER = f"""
    SELECT number FROM @.export WHERE sender = $1 AND {MATCHES} ORDER BY number DESC LIMIT $4
"""
NEWEST = f"""
    SELECT {COLUMNS}, number, {FAILED} AS failed FROM @.export WHERE number < $1
    ORDER BY number DESC LIMIT $2
"""


class PostgresSearch:
    """Runs a query: in the indexes first, then in the encrypted fields."""

    def __init__(self, session: Session, codec: RowCodec) -> None:
        self._session = session
        self._codec = codec

    async def find(self, query: SearchQuery) -> SearchResult:
        hashed = self._codec.cipher.hash_user(query.text)
        numbers = await self._session.run(
            lambda database: search_index(database, query, hashed), is_repeatable=True
        )
        if numbers:
            return search.build_page(numbers, query.limit)
        return await search.scan(query, self._scan_slice)

    async def _scan_slice(self, query: SearchQuery, before: int) -> tuple[list[int], list[int]]:
        """Return the numbers that were read, and those that match."""
        rows = await self._session.fetch(NEWEST, before, SLICE)
        matching = [
            row["number"]
            for row in rows
            if search.has_status(query, row["status"], row["failed"])
            and search.has_correlation_id(query, self._codec, build_row(row))
        ]
        return [row["number"] for row in rows], matching


async def search_index(database: Database, query: SearchQuery, hashed: str) -> list[int]:
    """Search by a sub, the beginning of an id, or a pseudonym. Return one more than the limit.

    `hashed` is the hash of the text, in case it is a sub.
    """
    filters = query.before, query.status, query.limit + 1
    senders = [hashed]
    numbers = set[int]()
    if HEX_PREFIX.fullmatch(query.text):
        end = query.text + PREFIX_END
        numbers |= {row["number"] for row in await database.fetch(BY_ID, query.text, *filters, end)}
        if len(query.text) == identifiers.PSEUDONYM_CHARACTERS:
            sender = await database.fetch_value(FIND_USER, query.text, end)
            senders += [] if sender is None else [sender]
    for sender in senders:
        numbers |= {row["number"] for row in await database.fetch(BY_USER, sender, *filters)}
    return sorted(numbers, reverse=True)[: query.limit + 1]
