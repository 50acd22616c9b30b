"""The columns of an export, in the order of the codec's named tuples."""

from asyncpg import Record

from atlas.outside.journal.entries import ClaimedRow, LedgerRow
from atlas.outside.journal.row_codec import ExportRow

IMMUTABLE_COLUMNS = "id, sender, at, ingested, rejected, bytes"
COLUMNS = f"{IMMUTABLE_COLUMNS}, label, status, rid, file, file_bytes"
QUALIFIED_COLUMNS = ", ".join(f"export.{each}" for each in COLUMNS.split(", "))


def build_row(record: Record, first: int = 0) -> ExportRow:
    """Build a row from COLUMNS, of which the first one is at this position.

    The time is encrypted with the row as text, so it must be spelled as it was.
    """
    id, sender, at, *rest = record[first : first + 11]
    return ExportRow(id, sender, at.isoformat(), *rest)


def build_claimed_row(record: Record) -> ClaimedRow:
    """Build a row of a group from COLUMNS, isolation and tries."""
    return ClaimedRow(build_row(record), record["isolation"], record["tries"])


def build_ledger_row(record: Record) -> LedgerRow:
    """Build a row from number, tries, reason, isolation and COLUMNS."""
    number, tries, reason, isolation = record[:4]
    return LedgerRow(number, tries, reason, isolation, build_row(record, 4))
