"""A HealthKit record and the row it becomes: 21 columns, in the order of the dataset.

Almost every line has only the keys that the app is known to send, with values of the types it
gives them. For such a line decoding into `Usual` is all the checking there is: the types admit no
number that a double cannot hold and no nesting. Any other line takes the long way through
`unusual`, which knows every rule and decides alone what is a row and what is a reject.
"""

import math
import re
from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from atlas.core.errors import NOT_JSON
from atlas.core.messages import Reject, Table

LINE_BYTES_MAX = 8 * 1024 * 1024
DEPTH_MAX = 64
REJECTS_SHOWN = 20

Text = str | None
Integer = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Number = float | Integer | None
Scalar = str | float | Integer | bool | None


class Header(Struct, frozen=True):
    """The columns that are the same in every row of an export."""

    auth0_user_id: str
    device: str
    ingested_at: str
    export_timestamp: str


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


class Usual(Struct, rename="camel", forbid_unknown_fields=True, gc=False):
    """The keys that the app can send, and the older short names of some."""

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
    correlation_type: Text = None
    child_sample_uuids: list[str] | None = msgspec.field(default=None, name="childSampleUUIDs")
    activity_type: Scalar = None
    duration_seconds: Number = None
    active_energy_kilocalories: Number = None
    total_energy_kilocalories: Number = None
    total_distance_meters: Number = None
    workout_event_count: Number = None


class Row(Struct, gc=False):
    """One line of a file in the dataset. `value_double` is a finite number."""

    auth0_user_id: str
    device: str
    ingested_at: str
    export_timestamp: str
    sample_type: str
    source_name: str
    sample_class: str
    quantity_type: str
    source_version: str
    data_type: str
    uuid: str
    start_date: str
    end_date: str
    value_double: float | None
    unit: str
    device_hardware_version: str
    device_model: str
    device_name: str
    device_manufacturer: str
    device_software_version: str
    raw_healthkit_record: str


class Bad(Exception):
    """This line becomes no row; why, without a byte of it."""


NO_DEVICE = Device()
JSON_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")

_usual = msgspec.json.Decoder(Usual)
_anything = msgspec.json.Decoder()
_encoder = msgspec.json.Encoder()


def flatten(lines: Sequence[bytes], header: Header, first: int = 1) -> Table:
    """A row for every good line, a reject for every bad one; blank lines are nothing.

    `first` is the number of the first line. This loop is the work of Atlas, so it stands here in
    one piece: a call for each line, or a list of all rows for the garbage collector to walk, costs
    a tenth each. Of texts, absent, null and "" fall through to the next name: that is what `or`
    does here.
    """
    user, sender, ingested_at, exported_at = msgspec.structs.astuple(header)
    decode, encode_into = _usual.decode, _encoder.encode_into
    ndjson = bytearray()
    ingested = 0
    rejects: list[Reject] = []
    for line_number, line in enumerate(lines, first):
        row: Row | None
        try:
            if len(line) > LINE_BYTES_MAX:
                raise msgspec.DecodeError
            record = decode(line)
            device = record.device or NO_DEVICE
            value = record.value_double
            row = Row(
                user,
                sender,
                ingested_at,
                exported_at,
                record.sample_type or record.type or "",
                record.source_name or record.source or "",
                record.sample_class or "",
                record.quantity_type or "",
                record.source_version or "",
                record.data_type or "",
                record.uuid or "",
                record.start_date or record.start or "",
                record.end_date or record.end or "",
                number(record.value, record.value_integer) if value is None else value,
                record.unit or "",
                device.hardware_version or "",
                device.model or "",
                device.name or "",
                device.manufacturer or "",
                device.software_version or "",
                str(line, "utf-8"),
            )
        except NOT_JSON:
            try:
                row = unusual(line, header)
            except Bad as error:
                rejects.append(Reject(line_number, str(error)))
                continue
        if row is not None:
            encode_into(row, ndjson, -1)
            ndjson += b"\n"
            ingested += 1
    return Table(bytes(ndjson), ingested, len(rejects), tuple(rejects[:REJECTS_SHOWN]))


def unusual(line: bytes, header: Header) -> Row | None:
    """The row of any line; None for a blank one. Raises Bad."""
    if not line.strip():
        return None
    record = sound(line)
    given = record.get
    device = given("device")
    hardware = device.get if isinstance(device, dict) else dict[str, object]().get
    return Row(
        header.auth0_user_id,
        header.device,
        header.ingested_at,
        header.export_timestamp,
        text(given("sampleType"), given("type")),
        text(given("sourceName"), given("source")),
        text(given("sampleClass")),
        text(given("quantityType")),
        text(given("sourceVersion")),
        text(given("dataType")),
        text(given("uuid")),
        text(given("startDate"), given("start")),
        text(given("endDate"), given("end")),
        number(given("valueDouble"), given("value"), given("valueInteger")),
        text(given("unit")),
        text(hardware("hardwareVersion")),
        text(hardware("model")),
        text(hardware("name")),
        text(hardware("manufacturer")),
        text(hardware("softwareVersion")),
        str(line, "utf-8"),
    )


def sound(line: bytes) -> dict[str, object]:
    """The object on a line. Raises Bad for anything that is not one, or not sound throughout."""
    if len(line) > LINE_BYTES_MAX:
        raise Bad(f"longer than {LINE_BYTES_MAX} bytes")
    try:
        str(line, "utf-8")
        record = _anything.decode(line)
    except UnicodeDecodeError as error:
        raise Bad("not UTF-8") from error
    except RecursionError as error:
        raise Bad(f"nested deeper than {DEPTH_MAX}") from error
    except msgspec.ValidationError as error:
        raise Bad("a number is out of range") from error
    except msgspec.DecodeError as error:
        raise Bad("not valid JSON") from error
    if not isinstance(record, dict):
        raise Bad("not a JSON object")
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
                raise Bad("a number is out of range")
        level = below
    if any(isinstance(value, dict | list) for value in level):
        raise Bad(f"nested deeper than {DEPTH_MAX}")


def text(*values: object) -> str:
    """The first that is there; of another type than text, it is its compact JSON."""
    for value in values:
        if isinstance(value, str) and value:
            return value
        if not isinstance(value, str | None):
            return _encoder.encode(value).decode()
    return ""


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
