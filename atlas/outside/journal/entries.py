"""Receipts, entries and files, built from rows."""

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from atlas.core import identifiers
from atlas.core.errors import CorruptEntry, Rejected
from atlas.core.messages import (
    ClaimedExport,
    File,
    FlattenedExport,
    Isolation,
    JournalEntry,
    Receipt,
)
from atlas.outside.journal.row_codec import (
    NO_FIELDS,
    ExportRow,
    RowCodec,
    build_receipt,
    find_path,
)

CRASH_REASON = "it crashes a stage"
ISOLATIONS: tuple[Isolation, ...] = "none", "own_file", "small_group", "small_group", "alone"


class ClaimedRow(NamedTuple):
    """A row of a group."""

    row: ExportRow
    isolation: int = 0
    tries: int = 0


class LedgerRow(NamedTuple):
    """A row as operators see it."""

    number: int
    tries: int
    reason: str | None
    isolation: int
    row: ExportRow


def is_replaceable(row: ExportRow, reason: str | None) -> bool:
    """True if the same export is accepted as a new one: it was abandoned, or crashed a stage."""
    return row.status == "abandoned" or (row.status == "set_aside" and reason == CRASH_REASON)


def build_replayed(codec: RowCodec, row: ExportRow) -> Receipt:
    return msgspec.structs.replace(codec.build_receipt(row), replayed=True)


def build_reduced_receipt(export: FlattenedExport, rid: str | None) -> Receipt:
    """Build the receipt of a repeated export from its content, as only its id is stored."""
    table = export.table
    return Receipt(
        id=export.id,
        status="committed",
        at=export.at,
        path="",
        ingested=table.ingested,
        rejected=table.rejected,
        rejects=table.rejects,
        transaction=rid,
        replayed=True,
    )


def build_entry(ledger_row: LedgerRow, codec: RowCodec) -> JournalEntry:
    """Build an entry. Users are shown as pseudonyms only."""
    _, tries, reason, isolation, row = ledger_row
    fields, at = codec.fields_or_default(row)
    user = row.user[: identifiers.PSEUDONYM_CHARACTERS]
    receipt = build_receipt(row, fields, at)
    path = identifiers.pseudonymize_path(receipt.path, user) if receipt.path else ""
    receipt = msgspec.structs.replace(receipt, path=path)
    shown: Isolation = "none"
    if receipt.status == "accepted":
        shown = ISOLATIONS[min(isolation, len(ISOLATIONS) - 1)]
    return JournalEntry(receipt, user, row.size, tries, reason, fields.correlation_id, shown)


def group_by_file(codec: RowCodec, rows: Iterable[ClaimedRow]) -> tuple[File, ...]:
    """Group exports by the file recorded for them.

    An export with corrupt fields has no path; its payload cannot be read either.
    """
    files: dict[str, tuple[str, int, list[ClaimedExport]]] = {}
    for row, isolation, tries in rows:
        try:
            fields = codec.decrypt_fields(row)
        except CorruptEntry:
            fields = NO_FIELDS
        details = fields.correlation_id, fields.trace, isolation, tries, fields.sub
        export = ClaimedExport(row.id, row.size, row.ingested, *details)
        size = row.size if row.file_bytes is None else row.file_bytes
        path = find_path(row, fields)
        files.setdefault(path or row.id, (path, size, []))[2].append(export)
    return tuple(File(path, size, tuple(exports)) for path, size, exports in files.values())


def decode_cursor(cursor: str | None) -> int:
    """Return the moment before which the page begins. Raises Rejected for an invalid cursor."""
    if cursor is None:
        return 2**62
    if not (cursor.isascii() and cursor.isdecimal() and len(cursor) < 19):
        raise Rejected("cursor is invalid: use the one of the previous page.")
    return int(cursor)
