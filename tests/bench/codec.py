"""Lines to rows: Atlas against a flattener with the json module, and against a floor.

The floor is the minimum of a flattener with msgspec, two calls per line: decode the line into a
struct of the same 16 fields, and encode the finished row. It gets new rows each time, because
CPython caches the UTF-8 of a string, so that encoding a row again would only copy it.
"""

import json
import time
from collections.abc import Callable, Iterator

import msgspec
from msgspec import Struct

from atlas.core import rows
from tests.bench import workers
from tests.support import generator

LINES, ROUNDS = 4_000, 15
HEADER = rows.Header("auth0|ada", "iPhone", "2025-09-26T06:30:00.000Z", "2025-09-26T06:30:00.000Z")

Text = str | None


class Device(Struct, rename="camel", gc=False):
    hardware_version: Text = None
    model: Text = None
    name: Text = None
    manufacturer: Text = None
    software_version: Text = None


class Fields(Struct, rename="camel", gc=False):
    """The 16 columns that differ from row to row."""

    sample_type: Text = None
    source_name: Text = None
    sample_class: Text = None
    quantity_type: Text = None
    source_version: Text = None
    data_type: Text = None
    uuid: Text = None
    start_date: Text = None
    end_date: Text = None
    value_double: float | None = None
    unit: Text = None
    device: Device | None = None


Finished = msgspec.defstruct(
    "Finished",
    [(name, float | None if name == "value_double" else str) for name in rows.COLUMNS],
    gc=False,
)


def flatten_with_json(lines: list[bytes], header: rows.Header) -> bytes:
    """Flatten in the obvious way, with the standard library.

    Each row is encoded separately: a string of all rows would take four bytes a character if it
    contained a single emoji.
    """
    found = []
    for line in lines:
        record = json.loads(line)
        device = record.get("device") or {}
        value = record.get("valueDouble")
        if value is None:
            value = record.get("value", record.get("valueInteger"))
        row = {
            "auth0_user_id": header.auth0_user_id,
            "device": header.device,
            "ingested_at": header.ingested_at,
            "export_timestamp": header.export_timestamp,
            "sample_type": record.get("sampleType") or record.get("type") or "",
            "source_name": record.get("sourceName") or record.get("source") or "",
            "sample_class": record.get("sampleClass") or "",
            "quantity_type": record.get("quantityType") or "",
            "source_version": record.get("sourceVersion") or "",
            "data_type": record.get("dataType") or "",
            "uuid": record.get("uuid") or "",
            "start_date": record.get("startDate") or record.get("start") or "",
            "end_date": record.get("endDate") or record.get("end") or "",
            "value_double": value,
            "unit": record.get("unit") or "",
            "device_hardware_version": device.get("hardwareVersion") or "",
            "device_model": device.get("model") or "",
            "device_name": device.get("name") or "",
            "device_manufacturer": device.get("manufacturer") or "",
            "device_software_version": device.get("softwareVersion") or "",
            "raw_healthkit_record": line.decode(),
        }
        found.append(json.dumps(row, ensure_ascii=False).encode())
    return b"".join(row + b"\n" for row in found)


def time_call(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def run_floor(lines: list[bytes], finished: list[Struct]) -> None:
    decode, encode_into = msgspec.json.Decoder(Fields).decode, msgspec.json.Encoder().encode_into
    for line in lines:
        decode(line)
    out = bytearray()
    for row in finished:
        encode_into(row, out, -1)


def measure() -> Iterator[tuple[str, str, str]]:
    for kind, is_ascii in ("non-ASCII", False), ("ASCII", True):
        lines = [line for line in generate_lines(is_ascii) if line.isascii() is is_ascii][:LINES]
        best = {name: 1e6 * took / LINES for name, took in measure_best(lines).items()}
        yield f"a line of {len(b''.join(lines)) // LINES} bytes, {kind}", "", ""
        for name, took in best.items():
            yield f"  {name}", f"{took:.2f} µs", ""
        yield (
            "  times as fast as the json module",
            f"{best['json'] / best['Atlas']:.1f}",
            "5 or more",
        )
        yield (
            "  times the time of the floor",
            f"{best['Atlas'] / best['floor']:.2f}",
            "1.6 or less",
        )
    yield from workers.measure()


def generate_lines(is_ascii: bool) -> Iterator[bytes]:
    """Lines of ten senders with different key orders, which affect parsing."""
    for seed in range(10):
        yield from generator.lines(LINES // 9, seed, is_ascii=is_ascii)


def measure_best(lines: list[bytes]) -> dict[str, float]:
    """Return the seconds that each flattener takes for all lines, in its best round."""
    encoded = rows.flatten(lines, HEADER).ndjson.splitlines()
    expected = [json.loads(row) for row in flatten_with_json(lines, HEADER).splitlines()]
    assert expected == [json.loads(row) for row in encoded], "both do the same work"
    fresh = msgspec.json.Decoder(Finished).decode
    best = dict.fromkeys(("json", "Atlas", "floor"), float("inf"))
    for _ in range(ROUNDS):  # the floor runs after Atlas: after json, memory would be fragmented
        best["json"] = min(best["json"], time_call(lambda: flatten_with_json(lines, HEADER)))
        best["Atlas"] = min(best["Atlas"], time_call(lambda: rows.flatten(lines, HEADER)))
        finished = [fresh(row) for row in encoded]
        best["floor"] = min(best["floor"], time_call(lambda: run_floor(lines, finished)))  # noqa: B023
    return best
