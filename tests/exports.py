"""Exports that are known by their number, and the moment at which they come."""

import hashlib
from datetime import UTC, datetime, timedelta

from atlas.core.messages import Flattened, Head, Packed, Reject, User
from atlas.outside.sqlite.packing import pack, unpack
from atlas.outside.sqlite.shelf import Shelf

ADA = User("auth0|ada")
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
SHELF = Shelf(lambda: NOON)
TO_VERSION_3 = """
    DROP TABLE removal;
    DROP INDEX given_up;
    PRAGMA user_version = 3;
"""  # what a journal was before anything was taken out of the dataset
TO_VERSION_2 = """
    DROP TABLE removal;
    DROP INDEX given_up;
    DROP INDEX filed;
    ALTER TABLE export DROP COLUMN file;
    ALTER TABLE export DROP COLUMN file_bytes;
    PRAGMA user_version = 2;
"""  # what a journal was before exports could share a file


def export(number: int) -> Flattened:
    """Always the same for the same number."""
    id = hashlib.sha256(str(number).encode()).hexdigest()
    at = NOON + timedelta(seconds=number)
    return Flattened(id, Head(ADA, "", "", ""), at, packed(content(id), 1))


def packed(ndjson: bytes, ingested: int, *rejects: Reject) -> Packed:
    return Packed(pack(ndjson), len(ndjson), ingested, len(rejects), rejects)


def rows_of(export: Flattened) -> bytes:
    return unpack(export.table.file)


def content(id: str) -> bytes:
    """Known by the id, of any size up to four pages, and not to be packed."""
    return hashlib.shake_128(id.encode()).digest(int(id[:4], 16) % 16_000) + b"\n"
