"""A HealthKit record as it is read from a line: the usual way, and the long one.

Almost every line has only the keys that the app is known to send, with values of the types it
gives them. For such a line decoding into `Record` is all the checking there is: the types admit no
number that a double cannot hold and no nesting, and nothing on the line is passed over unread (as
a msgspec.Raw would be, when its key comes twice). Any other line takes the long way through
`unusual`, which knows every rule and decides alone what is a record and what is a reject.
"""

import math
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from atlas.core.errors import NOT_JSON

LINE_BYTES_MAX = 8 * 1024 * 1024
DEPTH_MAX = 64

Text = str | None
Integer = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Number = float | Integer | None
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
    """The keys of samples, and the older short names of some.

    What only workouts and correlations have, one line in 500, is left to `unusual`: msgspec walks
    along the fields to find a key, and a quarter more of them would cost every line 3 %.
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
    value_double: Number = None
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


class Bad(Exception):
    """This line becomes no row; why, as one of REASONS."""


TOO_LONG = f"longer than {LINE_BYTES_MAX} bytes"
TOO_DEEP = f"nested deeper than {DEPTH_MAX}"
NOT_UTF8 = "not UTF-8"
OUT_OF_RANGE = "a number is out of range"
NOT_VALID = "not valid JSON"
NO_OBJECT = "not a JSON object"
REASONS = TOO_LONG, NOT_UTF8, TOO_DEEP, OUT_OF_RANGE, NOT_VALID, NO_OBJECT

JSON_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")

usual = msgspec.json.Decoder(Record).decode
_shallow = msgspec.json.Decoder(dict[str, Shallow])
_anything = msgspec.json.Decoder()
_encoder = msgspec.json.Encoder()


def unusual(line: bytes) -> Record:
    """The record on any line. Raises Bad."""
    given = sound(line).get
    hardware = given("device")
    return Record(
        sample_type=text(given("sampleType")),
        type=text(given("type")),
        source_name=text(given("sourceName")),
        source=text(given("source")),
        sample_class=text(given("sampleClass")),
        quantity_type=text(given("quantityType")),
        source_version=text(given("sourceVersion")),
        data_type=text(given("dataType")),
        uuid=text(given("uuid")),
        start_date=text(given("startDate")),
        start=text(given("start")),
        end_date=text(given("endDate")),
        end=text(given("end")),
        value_double=number(given("valueDouble"), given("value"), given("valueInteger")),
        unit=text(given("unit")),
        device=device(hardware) if isinstance(hardware, dict) else None,
    )


def device(hardware: Mapping[str, object]) -> Device:
    given = hardware.get
    return Device(
        hardware_version=text(given("hardwareVersion")),
        model=text(given("model")),
        name=text(given("name")),
        manufacturer=text(given("manufacturer")),
        software_version=text(given("softwareVersion")),
    )


def sound(line: bytes) -> Mapping[str, object]:
    """The object on a line. Raises Bad for anything that is not one, or not sound throughout.

    What nests three deep at most, as a route does and an electrocardiogram, the types of `Shallow`
    inspect while they decode it.
    """
    if len(line) > LINE_BYTES_MAX:
        raise Bad(TOO_LONG)
    with suppress(*NOT_JSON):
        return _shallow.decode(line)
    try:
        str(line, "utf-8")
        record = _anything.decode(line)
    except UnicodeDecodeError as error:
        raise Bad(NOT_UTF8) from error
    except RecursionError as error:
        raise Bad(TOO_DEEP) from error
    except msgspec.ValidationError as error:
        raise Bad(OUT_OF_RANGE) from error
    except msgspec.DecodeError as error:
        raise Bad(NOT_VALID) from error
    if not isinstance(record, dict):
        raise Bad(NO_OBJECT)
    inspect(record)
    return record


def inspect(record: object) -> None:
    """Raises Bad for what JSON allows and Atlas does not: great depth, an integer without end."""
    level = [record]
    for _ in range(DEPTH_MAX):
        below: list[object] = []
        for value in level:
            if isinstance(value, dict):
                below.extend(value.values())
            elif isinstance(value, list):
                below.extend(value)
            elif isinstance(value, int) and not is_finite(value):
                raise Bad(OUT_OF_RANGE)
        level = below
    if any(isinstance(value, dict | list) for value in level):
        raise Bad(TOO_DEEP)


def text(value: object) -> str:
    """Of another type than text, it is its compact JSON; what is absent or null is ""."""
    if value is None:
        return ""
    return value if isinstance(value, str) else _encoder.encode(value).decode()


def number(*values: object) -> float | None:
    """The first that is there, if it is a number, or text that would be one in JSON.

    Zero is a number; true is none, though Python counts it an int.
    """
    given = next((value for value in values if value is not None), None)
    if isinstance(given, str):
        given = parsed(given.strip())
    if isinstance(given, bool) or not isinstance(given, int | float):
        return None
    return given if is_finite(given) else None


def parsed(given: str) -> float | None:
    """The number that a text is, if JSON would call it one."""
    found = JSON_NUMBER.fullmatch(given)
    if found is None:
        return None
    is_integer = found[2] is None and found[3] is None and len(given) < 300
    return int(given) if is_integer else float(given)


def is_finite(value: float) -> bool:
    """Whether a double can hold it; an int of Python has no end."""
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False
