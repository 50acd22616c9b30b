"""Computes the columns that each service makes of a record, and marks why the two differ.

It is an independent implementation of the contract, and shares nothing with the flatten stage:
otherwise a bug there would go unnoticed. Records come from `javascript`.
"""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from atlas.comparison.javascript import encode_canonical, is_truthy, to_doubles
from atlas.comparison.reasons import Reason
from atlas.core.errors import JSON_ERRORS

Record = Mapping[str, object]

TEXTS: tuple[tuple[str, str, str | None], ...] = (
    ("sample_type", "sampleType", "type"),
    ("source_name", "sourceName", "source"),
    ("sample_class", "sampleClass", None),
    ("quantity_type", "quantityType", None),
    ("source_version", "sourceVersion", None),
    ("data_type", "dataType", None),
    ("uuid", "uuid", None),
    ("start_date", "startDate", "start"),
    ("end_date", "endDate", "end"),
    ("unit", "unit", None),
    ("device_hardware_version", "hardwareVersion", None),
    ("device_model", "model", None),
    ("device_name", "name", None),
    ("device_manufacturer", "manufacturer", None),
    ("device_software_version", "softwareVersion", None),
)
DEVICE_TEXTS_START = 10  # from this index on, texts are read from the record's device
NUMBER = "value_double"
NON_TEXT = "\0"  # replaces compact JSON in a text column, because each side formats it differently
JSON_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")

# The marks of a row: a bit for each of TEXTS, and one for each of these.
NUMBER_REASONS = Reason.ZERO, Reason.INTEGER, Reason.NUMBER
ONE_SIDED_REASONS = Reason.BLANKS, Reason.REJECTED, Reason.REPLACED, Reason.NO_RECORD
MARKS = *NUMBER_REASONS, *ONE_SIDED_REASONS
MARK_BITS = {reason: 1 << len(TEXTS) + number for number, reason in enumerate(MARKS)}
NO_DEVICE: Record = {}


def find_device(record: Record) -> Record:
    device = record.get("device")
    return device if isinstance(device, dict) else NO_DEVICE


def choose_text(record: Record, name: str, other: str | None) -> object:
    """Choose the value of a text column as Atlas does: null and "" fall through, zero does not."""
    value = record.get(name)
    if value is None or value == "":
        value = record.get(other) if other is not None else None
    return "" if value is None else value


def choose_old_text(record: Record, name: str, other: str | None) -> object:
    """Choose it as the old service did: `record.name || record.other || ''`."""
    value = record.get(name)
    if not is_truthy(value):
        value = record.get(other) if other is not None else None
    return value if is_truthy(value) else ""


def find_non_texts(record: Record) -> Iterator[tuple[int, Record, str, str | None]]:
    """Yield index, owner and both names of each of TEXTS whose value is not text."""
    owner = record
    for number, (_, name, other) in enumerate(TEXTS):
        if number == DEVICE_TEXTS_START:
            owner = find_device(record)
        value = owner.get(name)
        if isinstance(value, str) and value:  # as nearly always
            continue
        if not isinstance(choose_text(owner, name, other), str):
            yield number, owner, name, other


def expect_old_texts(row: list[object], record: Record) -> tuple[list[object], int]:
    """Return the text columns as Atlas should have them, and the marks of those that differ.

    Values that do not follow the old service's rule stay as they are.
    """
    expected, marks = list(row), 0
    for number, owner, name, other in find_non_texts(record):
        if is_same(row[number], choose_old_text(owner, name, other)):
            expected[number] = NON_TEXT
            marks |= 1 << number
    return expected, marks


def expect_new_texts(row: list[object], record: Record, raw: str) -> list[object]:
    """Return the text columns, with NON_TEXT for each that holds compact JSON."""
    expected = list(row)
    for number, _, name, other in find_non_texts(record):
        sent = parse_exact(raw)
        owner = sent if number < DEVICE_TEXTS_START else find_device(sent)
        if row[number] == msgspec.json.encode(choose_text(owner, name, other)).decode():
            expected[number] = NON_TEXT
    return expected


def parse_exact(raw: str) -> Record:
    """Parse a record with exact integers: a double only has 53 bits."""
    try:
        return msgspec.json.decode(raw, type=dict[str, Any])
    except JSON_ERRORS:
        return {}


def expect_number(value: object, record: Record) -> tuple[object, int]:
    """Return `value_double` as Atlas should have it, and the mark of the difference."""
    name, sent = next(find_numbers(record), ("", None))
    expected = parse_number(sent)
    if is_same(value, expected):
        return expected, 0
    old_values = (
        each for _, each in find_numbers(record, ("valueDouble", "value")) if is_truthy(each)
    )
    if not is_same(value, next(old_values, None)):
        return value, 0
    if name == "valueInteger":
        return expected, MARK_BITS[Reason.INTEGER]
    return expected, MARK_BITS[
        Reason.ZERO if sent == 0.0 and not isinstance(sent, bool) else Reason.NUMBER
    ]


def find_numbers(
    record: Record, names: tuple[str, ...] = ("valueDouble", "value", "valueInteger")
) -> Iterator[tuple[str, object]]:
    """Yield the fields that are neither absent nor null nor "", with their names."""
    return ((name, record[name]) for name in names if record.get(name) not in (None, ""))


def parse_number(sent: object) -> float | None:
    """Parse a number, or text that is a JSON number. Anything else is None."""
    if isinstance(sent, str):
        text = sent.strip()
        sent = float(text) if JSON_NUMBER.fullmatch(text) else None
    return sent + 0.0 if isinstance(sent, float) and math.isfinite(sent) else None


def is_same(one: object, other: object) -> bool:
    """Compare as JavaScript does: 1 is 1.0, but not true."""
    if type(one) is type(other) and not isinstance(one, dict | list):
        return one == other
    return encode_canonical(to_doubles(one)) == encode_canonical(to_doubles(other))


def is_blank(texts: list[object], value: object) -> bool:
    """True if a row holds nothing of a record."""
    return value is None and not any(texts)
