"""Exports that crashed a stage, stored unchanged, and exports that were set aside."""

from collections.abc import Collection
from datetime import datetime

import msgspec

from atlas.core import identifiers
from atlas.core.messages import Receipt, StageInput
from atlas.outside.journal.capacity import CapacityLimits
from atlas.outside.journal.compression import compress
from atlas.outside.journal.entries import CRASH_REASON, build_replayed
from atlas.outside.journal.row_codec import ExportRow, ImmutableColumns, PrivateFields, RowCodec
from atlas.outside.postgres.connections import Session
from atlas.outside.postgres.database import COMMIT_MESSAGE, Database
from atlas.outside.postgres.insertion import read_totals
from atlas.outside.postgres.rows import COLUMNS, build_row

ORIGINAL = f"status = 'set_aside' AND reason = '{CRASH_REASON}'"
INSERT = f"""
    INSERT INTO @.export
        (id, sender, at, ingested, rejected, bytes, moment, label, status, reason)
    VALUES ($1, $2, $3, 0, 0, $4, $5, $6, 'set_aside', '{CRASH_REASON}')
    ON CONFLICT DO NOTHING RETURNING number
"""
INSERT_PAYLOAD = "INSERT INTO @.payload (number, sealed) VALUES ($1, $2)"
FIND = f"SELECT {COLUMNS} FROM @.export WHERE id = $1"
FIND_ORIGINAL = f"""
    SELECT {COLUMNS}, (SELECT sealed FROM @.payload WHERE payload.number = export.number)
    FROM @.export WHERE id = $1 AND {ORIGINAL}
"""
REQUEUE = f"""
    WITH requeued AS (
        UPDATE @.export SET status = 'accepted', tries = 0, since = NULL, reason = NULL, rid = NULL
        WHERE status = 'set_aside' AND reason IS DISTINCT FROM '{CRASH_REASON}'
            AND ($1::text IS NULL OR id = $1)
            AND EXISTS (SELECT FROM @.payload WHERE payload.number = export.number)
        RETURNING number, ingested, bytes
    ), enqueued AS (
        INSERT INTO @.unpublished (number, rows, bytes)
        SELECT number, ingested, bytes FROM requeued WHERE $2 ON CONFLICT DO NOTHING
    )
    SELECT count(*) FROM requeued
"""
ABANDON = """
    WITH abandoned AS (
        UPDATE @.export SET status = 'abandoned'
        WHERE status = 'set_aside' AND ($1::text IS NULL OR id = $1) RETURNING number
    ), deleted AS (
        DELETE FROM @.payload USING abandoned WHERE payload.number = abandoned.number
    )
    SELECT count(*) FROM abandoned
"""
DELETE_ABANDONED = "DELETE FROM @.export WHERE id = $1 AND status = 'abandoned'"

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(StageInput)


class PostgresDeadLetters:
    """Implements `ports.DeadLetters`."""

    def __init__(
        self,
        session: Session,
        codec: RowCodec,
        limits: CapacityLimits,
        *,
        is_streamed: bool = False,
    ) -> None:
        self._session = session
        self._codec = codec
        self._limits = limits
        self._is_streamed = is_streamed

    async def store(self, original: StageInput, id: str, at: datetime) -> Receipt:
        codec, head = self._codec, original.head
        message = _encoder.encode(original)
        sender = codec.cipher.hash_user(head.user.sub)
        fixed = ImmutableColumns(id, sender, at.isoformat(), 0, 0, len(message))
        label = codec.encrypt_fields(
            fixed, PrivateFields(head.user.sub, "", (), head.correlation_id)
        )
        payload = codec.encrypt_payload(fixed, compress(message))

        async def work(database: Database) -> Receipt:
            await database.fetch_value(COMMIT_MESSAGE)
            await database.execute(DELETE_ABANDONED, id)
            moment = identifiers.count_milliseconds(at)  # no path, so only unique
            while True:
                existing = await database.fetch_row(FIND, id)
                if existing is not None:
                    return build_replayed(codec, build_row(existing))
                (await read_totals(database)).take(self._limits, len(message))
                number = await database.fetch_value(
                    INSERT, id, sender, at, len(message), moment, label
                )
                if number is not None:
                    break
                moment += 1
            await database.execute(INSERT_PAYLOAD, number, payload)
            await database.notify("set_aside")
            return codec.build_receipt(ExportRow(*fixed, label, "set_aside", None))

        return await self._session.transact(work, is_repeatable=True)

    async def list_original_ids(self) -> Collection[str]:
        rows = await self._session.fetch(f"SELECT id FROM @.export WHERE {ORIGINAL}")
        return [row["id"] for row in rows]

    async def read_original(self, id: str) -> StageInput | None:
        row = await self._session.run(
            lambda database: database.fetch_row(FIND_ORIGINAL, id), is_repeatable=True
        )
        if row is None:
            return None
        original: StageInput = _decoder.decode(
            self._codec.decrypt_payload(build_row(row), row["sealed"])
        )
        return original

    async def delete(self, id: str) -> None:
        async def work(database: Database) -> None:
            await database.execute(f"DELETE FROM @.export WHERE id = $1 AND {ORIGINAL}", id)
            await database.notify("set_aside")

        await self._session.transact(work, is_repeatable=True)

    async def requeue(self, id: str | None) -> int:
        async def work(database: Database) -> int:
            requeued: int = await database.fetch_value(REQUEUE, id, self._is_streamed)
            await database.notify("stored")
            return requeued

        return await self._session.transact(work)

    async def abandon(self, id: str | None) -> int:
        async def work(database: Database) -> int:
            abandoned: int = await database.fetch_value(ABANDON, id)
            await database.notify("set_aside")
            return abandoned

        return await self._session.transact(work)
