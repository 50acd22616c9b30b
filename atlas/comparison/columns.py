"""What each service makes of a record, column by column, with the marks of why the two differ.

It is written from the contract anew, and shares nothing with the stage that flattens: a bug there
would be here, too, and nobody would see it. `record` is as `javascript` sees it.
"""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from atlas.comparison.javascript import encode_canonical, is_truthy, to_doubles
from atlas.comparison.reasons import Reason
from atlas.core.errors import NOT_JSON

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
DEVICE_TEXTS_START = 10  # those from here on are found in the record's device
NUMBER = "value_double"
NON_TEXT = (
    "\0"  # stands for the compact JSON of what is no text: it is spelled otherwise on each side
)
JSON_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")

# the marks of a row: a bit for each of TEXTS, and one for each of these
NUMBER_REASONS = Reason.ZERO, Reason.INTEGER, Reason.NUMBER
ONE_SIDED_REASONS = Reason.BLANKS, Reason.REJECTED, Reason.REPLACED, Reason.NO_RECORD
MARKS = *NUMBER_REASONS, *ONE_SIDED_REASONS
MARK_BITS = {reason: 1 << len(TEXTS) + number for number, reason in enumerate(MARKS)}
NO_DEVICE: Record = {}


def find_device(record: Record) -> Record:
    device = record.get("device")
    return device if isinstance(device, dict) else NO_DEVICE


def choose_text(record: Record, name: str, other: str | None) -> object:
    """What Atlas takes for a text column: absent, null and "" fall through, zero does not."""
    value = record.get(name)
    if value is None or value == "":
        value = record.get(other) if other is not None else None
    return "" if value is None else value


def choose_old_text(record: Record, name: str, other: str | None) -> object:
    """`record.name || record.other || ''`"""
    value = record.get(name)
    if not is_truthy(value):
        value = record.get(other) if other is not None else None
    return value if is_truthy(value) else ""


def find_non_texts(record: Record) -> Iterator[tuple[int, Record, str, str | None]]:
    """Those of TEXTS that are given something else: which, where it is found, and its names."""
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
    """The text columns as Atlas should have them, and the marks of those that differ for it.

    What the old service did not make by its rule stays as it is.
    """
    expected, marks = list(row), 0
    for number, owner, name, other in find_non_texts(record):
        if is_same(row[number], choose_old_text(owner, name, other)):
            expected[number] = NON_TEXT
            marks |= 1 << number
    return expected, marks


def expect_new_texts(row: list[object], record: Record, raw: str) -> list[object]:
    """The text columns, with MADE for each that is the compact JSON of what is no text."""
    expected = list(row)
    for number, _, name, other in find_non_texts(record):
        sent = parse_exact(raw)
        owner = sent if number < DEVICE_TEXTS_START else find_device(sent)
        if row[number] == msgspec.json.encode(choose_text(owner, name, other)).decode():
            expected[number] = NON_TEXT
    return expected


def parse_exact(raw: str) -> Record:
    """With its integers as they are: a double has 53 bits of them."""
    try:
        return msgspec.json.decode(raw, type=dict[str, Any])
    except NOT_JSON:
        return {}


def expect_number(value: object, record: Record) -> tuple[object, int]:
    """`value_double` as Atlas should have it, and the mark of why it differs."""
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
    """Those that are there, with their names."""
    return ((name, record[name]) for name in names if record.get(name) is not None)


def parse_number(sent: object) -> float | None:
    """A number, or text that would be one in JSON; anything else is null."""
    if isinstance(sent, str):
        text = sent.strip()
        sent = float(text) if JSON_NUMBER.fullmatch(text) else None
    return sent + 0.0 if isinstance(sent, float) and math.isfinite(sent) else None


def is_same(one: object, other: object) -> bool:
    """To JavaScript: 1 and 1.0 are, 1 and true are not."""
    if type(one) is type(other) and not isinstance(one, dict | list):
        return one == other
    return encode_canonical(to_doubles(one)) == encode_canonical(to_doubles(other))


def is_blank(texts: list[object], value: object) -> bool:
    """A row without anything of a record in it."""
    return value is None and not any(texts)
