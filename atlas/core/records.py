"""HealthKit records, decoded from lines in a fast and a slow way.

Almost every line has only the keys that the app is known to send, with values of the expected
types. Such a line is validated by decoding it into `Record`: its types admit neither nesting nor a
number that a double cannot hold, and no value is skipped unread (as a msgspec.Raw would be if its
key occurs twice). Any other line goes to `decode_slow`, which implements every rule, and alone
decides which lines are records and which are rejected.
"""

import math
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from atlas.core.errors import JSON_ERRORS

LINE_BYTES_MAX = 8 * 1024 * 1024
DEPTH_MAX = 64

Text = str | None
Integer = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Scalar = str | float | Integer | bool | None
Flat = Scalar | list[Scalar] | dict[str, Scalar]
Shallow = Scalar | list[Flat] | dict[str, Flat]


class Device(Struct, rename="camel", forbid_unknown_fields=True, gc=False):
    """The keys of HKDevice."""

    hardware_version: Text = None
    model: Text = None
    name: Text = None
    manufacturer: Text = None
    software_version: Text = None
    firmware_version: Text = None
    local_identifier: Text = None
    udi: Text = None


class Record(Struct, rename="camel", forbid_unknown_fields=True, gc=False):
    """The keys of samples, and older short names of some of them.

    Keys that only workouts and correlations have, one line in 500, are left to `decode_slow`:
    msgspec searches the fields for each key, and a quarter more of them would slow down every line
    by 3 %.
    """

    sample_type: Text = None
    source_name: Text = None
    sample_class: Text = None
    quantity_type: Text = None
    source_version: Text = None
    device: Device | None = None
    data_type: Text = None
    uuid: Text = None
    start_date: Text = None
    end_date: Text = None
    value_double: float | None = None
    unit: Text = None
    metadata: dict[str, Scalar] | None = None
    type: Text = None
    source: Text = None
    start: Text = None
    end: Text = None
    value: Scalar = None
    value_integer: Scalar = None
    source_bundle_id: Text = None
    user_provided_flag: Scalar = None
    value_text: Text = None
    category_type: Text = None
    sleep_stage: Scalar = None


class LineRejected(Exception):
    """A line is not a valid record. The message is one of REASONS."""


TOO_LONG = f"longer than {LINE_BYTES_MAX} bytes"
TOO_DEEP = f"nested deeper than {DEPTH_MAX}"
NOT_UTF8 = "not UTF-8"
OUT_OF_RANGE = "a number is out of range"
NOT_VALID = "not valid JSON"
NOT_OBJECT = "not a JSON object"
REASONS = TOO_LONG, NOT_UTF8, TOO_DEEP, OUT_OF_RANGE, NOT_VALID, NOT_OBJECT

JSON_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")

decode_fast = msgspec.json.Decoder(Record).decode
_shallow = msgspec.json.Decoder(dict[str, Shallow])
_anything = msgspec.json.Decoder()
_encoder = msgspec.json.Encoder()


def decode_slow(line: bytes) -> Record:
    """Decode the record on any line. Raises LineRejected."""
    get = decode_object(line).get
    hardware = get("device")
    return Record(
        sample_type=to_text(get("sampleType")),
        type=to_text(get("type")),
        source_name=to_text(get("sourceName")),
        source=to_text(get("source")),
        sample_class=to_text(get("sampleClass")),
        quantity_type=to_text(get("quantityType")),
        source_version=to_text(get("sourceVersion")),
        data_type=to_text(get("dataType")),
        uuid=to_text(get("uuid")),
        start_date=to_text(get("startDate")),
        start=to_text(get("start")),
        end_date=to_text(get("endDate")),
        end=to_text(get("end")),
        value_double=to_number(get("valueDouble"), get("value"), get("valueInteger")),
        unit=to_text(get("unit")),
        device=build_device(hardware) if isinstance(hardware, dict) else None,
    )


def build_device(hardware: Mapping[str, object]) -> Device:
    get = hardware.get
    return Device(
        hardware_version=to_text(get("hardwareVersion")),
        model=to_text(get("model")),
        name=to_text(get("name")),
        manufacturer=to_text(get("manufacturer")),
        software_version=to_text(get("softwareVersion")),
    )


def decode_object(line: bytes) -> Mapping[str, object]:
    """Decode and validate the JSON object on a line. Raises LineRejected.

    The types of `Shallow` validate objects of up to three levels, such as routes and
    electrocardiograms, while they are decoded.
    """
    if len(line) > LINE_BYTES_MAX:
        raise LineRejected(TOO_LONG)
    with suppress(*JSON_ERRORS):
        return _shallow.decode(line)
    try:
        str(line, "utf-8")
        record = _anything.decode(line)
    except UnicodeDecodeError as error:
        raise LineRejected(NOT_UTF8) from error
    except RecursionError as error:
        raise LineRejected(TOO_DEEP) from error
    except msgspec.ValidationError as error:
        raise LineRejected(OUT_OF_RANGE) from error
    except msgspec.DecodeError as error:
        raise LineRejected(NOT_VALID) from error
    if not isinstance(record, dict):
        raise LineRejected(NOT_OBJECT)
    check_limits(record)
    return record


def check_limits(record: object) -> None:
    """Raise LineRejected for valid JSON beyond Atlas's limits: deep nesting or huge integers."""
    values = [record]
    for _ in range(DEPTH_MAX):
        nested: list[object] = []
        for value in values:
            if isinstance(value, dict):
                nested.extend(value.values())
            elif isinstance(value, list):
                nested.extend(value)
            elif isinstance(value, int) and not is_finite(value):
                raise LineRejected(OUT_OF_RANGE)
        values = nested
    if any(isinstance(value, dict | list) for value in values):
        raise LineRejected(TOO_DEEP)


def to_text(value: object) -> str:
    """Return text as it is, null or absent as "", and any other value as compact JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else _encoder.encode(value).decode()


def to_number(*values: object) -> float | None:
    """Return the first value that is not absent as a finite number; None if it is not one.

    None and "" are absent. Text counts if it is a JSON number. Booleans do not count, though they
    are integers in Python.
    """
    candidate = next((value for value in values if value is not None and value != ""), None)
    if isinstance(candidate, str):
        candidate = parse_json_number(candidate.strip())
    if isinstance(candidate, bool) or not isinstance(candidate, int | float):
        return None
    return float(candidate) if is_finite(candidate) else None


def parse_json_number(text: str) -> float | None:
    """Parse text as a JSON number; None if it is not one."""
    return float(text) if JSON_NUMBER.fullmatch(text) else None


def is_finite(value: float) -> bool:
    """True if a double can hold the number; integers in Python are unbounded."""
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False
