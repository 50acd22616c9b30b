"""From lines to rows: Atlas, against a flattener of the json module, and against the floor.

The floor is what a flattener on msgspec cannot do without, in two calls for each line: the same
lines decoded into a struct of the same 16 fields, and the finished rows encoded. It is given fresh
rows each time, as every flattener has to: CPython keeps a string's UTF-8 once it was asked for, and
a row that was encoded before would not be encoded again but copied.
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
    """What the 16 columns that differ from row to row are read from."""

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


def plain(lines: list[bytes], header: rows.Header) -> bytes:
    """As one would write it, with the standard library.

    Each row is encoded at once: a text of all of them would take four bytes for every character
    where there is one emoji in it.
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


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def floor(lines: list[bytes], finished: list[Struct]) -> None:
    decode, encode_into = msgspec.json.Decoder(Fields).decode, msgspec.json.Encoder().encode_into
    for line in lines:
        decode(line)
    out = bytearray()
    for row in finished:
        encode_into(row, out, -1)


def measure() -> Iterator[tuple[str, str, str]]:
    """What, how much, and what was to be reached."""
    for kind, is_ascii in ("non-ASCII", False), ("ASCII", True):
        lines = [line for line in mixed(is_ascii) if line.isascii() is is_ascii][:LINES]
        best = {name: 1e6 * took / LINES for name, took in best_of(lines).items()}
        yield f"a line of {len(b''.join(lines)) // LINES} bytes, {kind}", "", ""
        for name, took in best.items():
            yield f"  {name}", f"{took:.2f} µs", ""
        yield (
            "  times as fast as the json module",
            f"{best['json'] / best['Atlas']:.1f}",
            "5 or more",
        )
        yield "  times the time of the floor", f"{best['Atlas'] / best['floor']:.2f}", "1.6 or less"
    yield from workers.measure()


def mixed(is_ascii: bool) -> Iterator[bytes]:
    """Of ten senders: each has an order of keys of its own, and where the name stands matters."""
    for seed in range(10):
        yield from generator.lines(LINES // 9, seed, is_ascii=is_ascii)


def best_of(lines: list[bytes]) -> dict[str, float]:
    """The seconds that each takes for all of them, in the best round."""
    encoded = rows.flatten(lines, HEADER).ndjson.splitlines()
    as_plain = [json.loads(row) for row in plain(lines, HEADER).splitlines()]
    assert as_plain == [json.loads(row) for row in encoded], "both do the same work"
    fresh = msgspec.json.Decoder(Finished).decode
    best = dict.fromkeys(("json", "Atlas", "floor"), float("inf"))
    for _ in range(ROUNDS):  # the floor behind Atlas: behind json it would find its memory taken
        best["json"] = min(best["json"], seconds(lambda: plain(lines, HEADER)))
        best["Atlas"] = min(best["Atlas"], seconds(lambda: rows.flatten(lines, HEADER)))
        finished = [fresh(row) for row in encoded]
        best["floor"] = min(best["floor"], seconds(lambda: floor(lines, finished)))  # noqa: B023
    return best
