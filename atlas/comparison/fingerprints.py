"""Reduces a row to a hundred bytes of hashes, so that millions fit into memory.

Rows with equal keys hold the same record of the same user. `exact` is a hash of the row, `expected`
one of the row as Atlas should have it, both without the record and the service's timestamps.
`marks` say why the old service's row differs.
"""

from array import array
from hashlib import blake2b
from struct import Struct as Layout
from typing import Any, NamedTuple

import msgspec

from atlas.comparison import columns
from atlas.comparison.columns import MARK_BITS, MARKS, NUMBER, TEXTS
from atlas.comparison.files import ComparedRow
from atlas.comparison.javascript import ParsedRecord, encode_canonical, parse_record, to_doubles
from atlas.comparison.reasons import Reason

COLUMNS = ("device", "export_timestamp", NUMBER, *(name for name, _, _ in TEXTS))
KEY_BYTES, DIGEST_BYTES = 16, 8  # bytes
LAYOUT = Layout(
    f"<{KEY_BYTES}s{DIGEST_BYTES}s{DIGEST_BYTES}s{DIGEST_BYTES}sIIII{2 * len(COLUMNS)}s"
)
# hints only name the columns of rows that are known to differ, so 16 bits are enough
HINT_MASK, MOMENT_MASK = 0xFFFF, 0xFFFF_FFFF

to_tuple = msgspec.structs.astuple
TEXT_INDEXES = [ComparedRow.__struct_fields__.index(name) for name, _, _ in TEXTS]


class Fingerprint(NamedTuple):
    """The fingerprint of a row. `file` and `line` are the numbers of its position."""

    key: bytes
    expected: bytes
    exact: bytes
    raw: bytes
    moment: int
    marks: int
    file: int
    line: int
    hints: bytes

    def list_reasons(self) -> list[Reason]:
        """List the reasons for which it differs from a row of Atlas."""
        reasons = [reason for reason in MARKS if self.marks & MARK_BITS[reason]]
        return [*reasons, Reason.TEXT] if self.list_non_text_columns() else reasons

    def list_non_text_columns(self) -> list[str]:
        """List the text columns that do not hold text."""
        return [name for bit, (name, _, _) in enumerate(TEXTS) if self.marks & 1 << bit]

    def list_differing_columns(self, other: "Fingerprint") -> list[str]:
        """List the columns that differ."""
        own_hints, other_hints = array("H", self.hints), array("H", other.hints)
        pairs = zip(COLUMNS, own_hints, other_hints, strict=True)
        return [name for name, one, another in pairs if one != another]


def fingerprint_old(row: ComparedRow, file: int, line: int) -> bytes:
    """Pack the fingerprint of a row of the old service."""
    raw, parsed = parse_raw(row)
    texts, value = select_texts(row), to_doubles(row.value_double)
    if parsed.record is None:
        is_made_so = parsed.is_json and columns.is_blank(texts, value)
        marks, expected, number = MARK_BITS[Reason.BLANKS] if is_made_so else 0, texts, value
    else:
        expected, marks = columns.expect_old_texts(texts, parsed.record)
        number, mark = columns.expect_number(value, parsed.record)
        marks |= mark
    if not parsed.is_sound:
        marks |= MARK_BITS[Reason.REJECTED]
    elif parsed.is_replaced:
        marks |= MARK_BITS[Reason.REPLACED]
    return pack(
        FingerprintInput(row, raw, parsed, marks, file, line), [value, *texts], [number, *expected]
    )


def fingerprint_new(row: ComparedRow, file: int, line: int) -> bytes:
    """Pack the fingerprint of a row of Atlas."""
    raw, parsed = parse_raw(row)
    texts, value = select_texts(row), to_doubles(row.value_double)
    if parsed.record is None:
        marks, expected = MARK_BITS[Reason.NO_RECORD], texts
    else:
        marks, expected = 0, columns.expect_new_texts(texts, parsed.record, raw)
    return pack(
        FingerprintInput(row, raw, parsed, marks, file, line), [value, *texts], [value, *expected]
    )


class FingerprintInput(NamedTuple):
    """A row, its parsed record, its marks and its position."""

    row: ComparedRow
    raw: str
    parsed: ParsedRecord
    marks: int
    file: int
    line: int


def parse_raw(row: ComparedRow) -> tuple[str, ParsedRecord]:
    """Return the raw record as text (the old service sometimes wrote an object), and parsed."""
    raw = row.raw_healthkit_record
    text = raw if isinstance(raw, str) else encode_canonical(raw).decode()
    return text, parse_record(text)


def select_texts(row: ComparedRow) -> list[Any]:
    values = to_tuple(row)
    return [values[index] for index in TEXT_INDEXES]


def pack(source: FingerprintInput, exact: list[Any], expected: list[Any]) -> bytes:
    """Pack a fingerprint. `exact` and `expected` are `value_double` and the columns of TEXTS."""
    row = source.row
    # the service set its own time if the request had no timestamp
    timestamp = "" if row.export_timestamp == row.ingested_at else row.export_timestamp
    before = [row.device, timestamp]
    exact_digest = hash_bytes(encode_canonical([*before, *exact]), DIGEST_BYTES)
    expected_digest = (
        exact_digest
        if exact == expected
        else hash_bytes(encode_canonical([*before, *expected]), DIGEST_BYTES)
    )
    return LAYOUT.pack(
        hash_bytes(encode_canonical(row.auth0_user_id) + source.parsed.canonical, KEY_BYTES),
        expected_digest,
        exact_digest,
        hash_bytes(source.raw.encode("utf-8", "surrogatepass"), DIGEST_BYTES),
        hash_value(row.ingested_at) & MOMENT_MASK,
        source.marks,
        source.file,
        source.line,
        array("H", [hash_value(value) & HINT_MASK for value in (*before, *expected)]).tobytes(),
    )


def hash_bytes(text: bytes, size: int) -> bytes:
    return blake2b(text, digest_size=size).digest()


def hash_value(value: object) -> int:
    return hash(value if type(value) is str else encode_canonical(value))
