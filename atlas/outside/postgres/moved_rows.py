"""Rows of the ledger, as a move reads them from its table and writes them to it."""

from contextlib import suppress
from datetime import UTC, datetime

import asyncpg

from atlas.outside.journal.texts import make_storable
from atlas.outside.journal.transfer import MovedExport, Row

ROW = (
    "number, id, sender, at, ingested, rejected, bytes, moment, label, tries, status, since, "
    "reason, rid, file, file_bytes, isolation, turn"
)
EXPORT_COLUMNS = ROW.split(", ")


def build_export(record: asyncpg.Record) -> MovedExport:
    number, id, sender, at, *rest = record[: len(EXPORT_COLUMNS)]
    return MovedExport(number, id, sender, at.isoformat(), *rest)


def list_columns(export: MovedExport) -> Row:
    """Return the columns in the order of the table. The lease has what is claimed."""
    reason = None if export.reason is None else make_storable(export.reason)
    status = "accepted" if export.status == "claimed" else export.status
    at = parse_time(export.at)
    return tuple(export._replace(at=at, reason=reason, status=status))  # type: ignore[arg-type]


def parse_time(text: str) -> datetime:
    """Parse the time of acceptance. A damaged one becomes 1970."""
    with suppress(ValueError):
        at = datetime.fromisoformat(text)
        if at.tzinfo is not None:
            return at
    return datetime.fromtimestamp(0, UTC)
