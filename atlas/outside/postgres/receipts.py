"""Receipts for senders.

A phone may delete what it has a receipt for. So a receipt is read in a transaction that commits a
message: it waits for a standby that does not have the export yet.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from atlas.core import identifiers
from atlas.core.messages import Receipt, ReceiptPage, User
from atlas.outside.journal.entries import decode_cursor
from atlas.outside.journal.row_codec import RowCodec
from atlas.outside.postgres.connections import Session
from atlas.outside.postgres.database import COMMIT_MESSAGE, Database
from atlas.outside.postgres.rows import COLUMNS, QUALIFIED_COLUMNS, build_row

T = TypeVar("T")

FIND = f"SELECT {COLUMNS} FROM @.export WHERE sender = $1 AND id = $2"
PAGE = f"""
    SELECT {COLUMNS}, moment FROM @.export
    WHERE sender = $1 AND moment < $2 ORDER BY moment DESC LIMIT $3
"""
PAGE_WITH_KEY = f"""
    SELECT {COLUMNS}, moment FROM @.export
    WHERE sender = $1 AND moment < $2
        AND id IN (SELECT export FROM @.binding WHERE sender = $1 AND key = ANY($4))
    ORDER BY moment DESC LIMIT $3
"""
PARTS = f"""
    SELECT {QUALIFIED_COLUMNS} FROM @.binding JOIN @.export ON id = binding.export
    WHERE binding.sender = $1 AND key = $2 ORDER BY position
"""


class PostgresReceipts:
    """Implements `ports.ReceiptQueries`."""

    def __init__(self, session: Session, codec: RowCodec) -> None:
        self._session = session
        self._codec = codec

    async def find(self, user: User, id: str) -> Receipt | None:
        sender = self._codec.cipher.hash_user(user.sub)
        row = await self._read(lambda database: database.fetch_row(FIND, sender, id))
        return None if row is None else self._codec.build_receipt(build_row(row))

    async def list_page(
        self, user: User, key: str | None, limit: int, cursor: str | None
    ) -> ReceiptPage:
        cipher = self._codec.cipher
        args: list[object] = [cipher.hash_user(user.sub), decode_cursor(cursor), limit + 1]
        if key is not None:
            names = [key, identifiers.derive_stream_id(user, key)]
            args.append([cipher.hash_text(name) for name in names])
        statement = PAGE if key is None else PAGE_WITH_KEY
        rows = await self._read(lambda database: database.fetch(statement, *args))
        page = rows[:limit]
        next_cursor = str(page[-1]["moment"]) if len(rows) > limit else None
        receipts = tuple(self._codec.build_receipt(build_row(row)) for row in page)
        return ReceiptPage(receipts, next_cursor)

    async def list_parts(self, user: User, stream_id: str) -> Sequence[Receipt]:
        cipher = self._codec.cipher
        sender, key = cipher.hash_user(user.sub), cipher.hash_text(stream_id)
        rows = await self._read(lambda database: database.fetch(PARTS, sender, key))
        return [self._codec.build_receipt(build_row(row)) for row in rows]

    async def _read(self, query: Callable[[Database], Awaitable[T]]) -> T:
        async def work(database: Database) -> T:
            result = await query(database)
            if result:
                await database.fetch_value(COMMIT_MESSAGE)
            return result

        return await self._session.transact(work, is_repeatable=True)
