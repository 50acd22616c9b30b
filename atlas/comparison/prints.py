"""What is kept of a row: a hundred bytes, of which none tells anything of it.

Rows whose keys are equal hold the same record of the same user. `ought` is the row as Atlas should
have it, `exact` as it is, either without the record and the moments of a service; `marks` say why
the old service has it otherwise.
"""

from array import array
from hashlib import blake2b
from struct import Struct as Layout
from typing import Any, NamedTuple

import msgspec

from atlas.comparison import columns
from atlas.comparison.columns import BIT, MARKS, NUMBER, TEXTS
from atlas.comparison.files import Row
from atlas.comparison.javascript import Sight, doubles, seen, spelled
from atlas.comparison.reasons import Reason

COLUMNS = ("device", "export_timestamp", NUMBER, *(name for name, _, _ in TEXTS))
KEY, DIGEST = 16, 8  # bytes
LAYOUT = Layout(f"<{KEY}s{DIGEST}s{DIGEST}s{DIGEST}sIIII{2 * len(COLUMNS)}s")
HINT, MOMENT = 0xFFFF, 0xFFFF_FFFF  # hints only name the columns of rows that are known to differ

columns_of = msgspec.structs.astuple
PLACES = [Row.__struct_fields__.index(name) for name, _, _ in TEXTS]


class Print(NamedTuple):
    """A row, as it is kept. `file` and `line` are the numbers of where it stands."""

    key: bytes
    ought: bytes
    exact: bytes
    raw: bytes
    moment: int
    marks: int
    file: int
    line: int
    hints: bytes

    def reasons(self) -> list[Reason]:
        """Why it is not as Atlas has it."""
        found = [reason for reason in MARKS if self.marks & BIT[reason]]
        return [*found, Reason.TEXT] if self.texts() else found

    def texts(self) -> list[str]:
        """The columns that hold something else than text."""
        return [name for bit, (name, _, _) in enumerate(TEXTS) if self.marks & 1 << bit]

    def other_than(self, other: "Print") -> list[str]:
        """The columns that differ."""
        ours, theirs = array("H", self.hints), array("H", other.hints)
        pairs = zip(COLUMNS, ours, theirs, strict=True)
        return [name for name, one, another in pairs if one != another]


def of_old(row: Row, file: int, line: int) -> bytes:
    """A row of the old service, to be kept."""
    raw, sight = record_of(row)
    texts, value = texts_of(row), doubles(row.value_double)
    if sight.record is None:
        is_made_so = sight.is_json and columns.is_blank(texts, value)
        marks, ought, number = BIT[Reason.BLANKS] if is_made_so else 0, texts, value
    else:
        ought, marks = columns.texts_of_old(texts, sight.record)
        number, mark = columns.number_of_old(value, sight.record)
        marks |= mark
    if not sight.is_sound:
        marks |= BIT[Reason.REJECTED]
    elif sight.is_replaced:
        marks |= BIT[Reason.REPLACED]
    return packed(Seen(row, raw, sight, marks, file, line), [value, *texts], [number, *ought])


def of_ours(row: Row, file: int, line: int) -> bytes:
    """A row of Atlas, to be kept."""
    raw, sight = record_of(row)
    texts, value = texts_of(row), doubles(row.value_double)
    if sight.record is None:
        marks, ought = BIT[Reason.NO_RECORD], texts
    else:
        marks, ought = 0, columns.texts_of_ours(texts, sight.record, raw)
    return packed(Seen(row, raw, sight, marks, file, line), [value, *texts], [value, *ought])


class Seen(NamedTuple):
    """A row, and what is known of it."""

    row: Row
    raw: str
    sight: Sight
    marks: int
    file: int
    line: int


def record_of(row: Row) -> tuple[str, Sight]:
    """As text, be it that the old service put the object itself there."""
    raw = row.raw_healthkit_record
    text = raw if isinstance(raw, str) else spelled(raw).decode()
    return text, seen(text)


def texts_of(row: Row) -> list[Any]:
    found = columns_of(row)
    return [found[place] for place in PLACES]


def packed(found: Seen, exact: list[Any], ought: list[Any]) -> bytes:
    """`exact` and `ought` are `value_double` and the columns of TEXTS."""
    row = found.row
    # the moment of a service, if the request had none
    timestamp = "" if row.export_timestamp == row.ingested_at else row.export_timestamp
    before = [row.device, timestamp]
    is_exact = digest(spelled([*before, *exact]), DIGEST)
    is_ought = is_exact if exact == ought else digest(spelled([*before, *ought]), DIGEST)
    return LAYOUT.pack(
        digest(spelled(row.auth0_user_id) + found.sight.canonical, KEY),
        is_ought,
        is_exact,
        digest(found.raw.encode("utf-8", "surrogatepass"), DIGEST),
        hashed(row.ingested_at) & MOMENT,
        found.marks,
        found.file,
        found.line,
        array("H", [hashed(value) & HINT for value in (*before, *ought)]).tobytes(),
    )


def digest(text: bytes, size: int) -> bytes:
    return blake2b(text, digest_size=size).digest()


def hashed(value: object) -> int:
    return hash(value if type(value) is str else spelled(value))
