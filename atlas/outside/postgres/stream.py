"""The rows that are not in the stream yet: see `ports.StreamQueue`.

The replica that uploads publishes, too. It does not prove that it leads: during a change of leaders
two may publish the same rows, which is harmless.
"""

from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import datetime

from asyncpg import Record

from atlas.core.errors import CorruptEntry
from atlas.core.stream import StreamBacklog, UnpublishedExport
from atlas.outside.journal.row_codec import RowCodec
from atlas.outside.postgres.connections import Session
from atlas.outside.postgres.database import Database
from atlas.outside.postgres.rows import QUALIFIED_COLUMNS, build_row

DROPPED_MAX = 1_000  # exports at once
READ = f"""
    WITH oldest AS (
        SELECT number, rows, bytes, sum(bytes) OVER (ORDER BY number) AS so_far
        FROM (SELECT * FROM @.unpublished ORDER BY number LIMIT $1) first
    )
    SELECT oldest.number, oldest.rows, {QUALIFIED_COLUMNS}, coalesce(
        (SELECT sealed FROM @.payload WHERE payload.number = oldest.number),
        (SELECT sealed FROM @.unpublished_payload kept WHERE kept.number = oldest.number)
    ) AS sealed
    FROM oldest JOIN @.export ON export.number = oldest.number
    WHERE so_far <= $2 OR so_far = oldest.bytes ORDER BY oldest.number
"""
PUBLISHED = """
    WITH published AS (DELETE FROM @.unpublished WHERE number = ANY($1))
    DELETE FROM @.unpublished_payload WHERE number = ANY($1)
"""
CLEAR = """
    WITH kept AS (DELETE FROM @.unpublished_payload)
    DELETE FROM @.unpublished
"""
# A commit may keep a payload just when its export is published.
DELETE_ORPHANS = """
    DELETE FROM @.unpublished_payload kept
    WHERE NOT EXISTS (SELECT FROM @.unpublished WHERE unpublished.number = kept.number)
"""
DROP = f"""
    WITH oldest AS (
        SELECT number, sum(bytes) OVER (ORDER BY number) - bytes AS earlier,
            (SELECT at FROM @.export WHERE export.number = first.number) AS at
        FROM (SELECT * FROM @.unpublished ORDER BY number LIMIT {DROPPED_MAX}) first
    ), dropped AS (
        DELETE FROM @.unpublished WHERE number IN (
            SELECT number FROM oldest WHERE earlier < $1 OR at < $2
        ) RETURNING rows
    )
    SELECT coalesce(sum(rows), 0)::bigint FROM dropped
"""
TOTAL = """
    SELECT coalesce(sum(rows), 0)::bigint, coalesce(sum(bytes), 0)::bigint,
        (SELECT at FROM @.export WHERE number = (SELECT min(number) FROM @.unpublished))
    FROM @.unpublished
"""


class PostgresStreamQueue:
    """Implements `ports.StreamQueue`."""

    def __init__(self, session: Session, codec: RowCodec) -> None:
        self._session = session
        self._codec = codec

    async def read_unpublished(
        self, exports_max: int, bytes_max: int
    ) -> Sequence[UnpublishedExport]:
        records = await self._session.fetch(READ, exports_max, bytes_max)
        return [self._build(record) for record in records]

    async def record_published(self, numbers: Collection[int]) -> None:
        await self._session.run(
            lambda database: database.execute(PUBLISHED, list(numbers)), is_repeatable=True
        )

    async def trim(self, bytes_max: int, before: datetime) -> StreamBacklog:
        async def work(database: Database) -> StreamBacklog:
            await database.execute(DELETE_ORPHANS)
            backlog = await read_backlog(database)
            is_old = backlog.oldest is not None and backlog.oldest < before
            if backlog.bytes <= bytes_max and not is_old:
                return backlog
            dropped: int = await database.fetch_value(DROP, backlog.bytes - bytes_max, before)
            await database.execute(DELETE_ORPHANS)
            left = await read_backlog(database)
            return StreamBacklog(left.rows, left.bytes, left.oldest, dropped)

        return await self._session.transact(work)

    async def clear(self) -> int:
        return await self._session.run(lambda database: database.execute(CLEAR), is_repeatable=True)

    def _build(self, record: Record) -> UnpublishedExport:
        row, payload = build_row(record, first=2), None
        with suppress(CorruptEntry):
            payload = self._codec.decrypt_compressed(row, record["sealed"])
        return UnpublishedExport(record[0], row.id, record["at"], record[1], row.size, payload)


async def read_backlog(database: Database) -> StreamBacklog:
    row = await database.fetch_row(TOTAL)
    return StreamBacklog() if row is None else StreamBacklog(*row)
