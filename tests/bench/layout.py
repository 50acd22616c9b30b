"""Files of many exports: what Parquet saves and costs."""

from collections.abc import Callable
from time import perf_counter

from atlas.core import ndjson, rows
from atlas.outside import parquet
from tests.support import generator

ROWS, TIMES = 40_000, 5
HEADER = rows.Header("auth0|ada", "iPhone", "2026-01-02T12:00:00.000Z", "")


def seconds(work: Callable[[], object]) -> float:
    began = perf_counter()
    work()
    return perf_counter() - began


def measure() -> list[tuple[str, str, str]]:
    """One processor, one thread: the file of a group, out of the lines of its exports."""
    lines = ndjson.split_lines(generator.export(ROWS), 1)
    file = rows.flatten(lines, HEADER, 1).ndjson
    packed = parquet.to_parquet(file)
    flattening = min(seconds(lambda: rows.flatten(lines, HEADER, 1)) for _ in range(TIMES))
    writing = min(seconds(lambda: parquet.to_parquet(file)) for _ in range(TIMES))
    share = flattening / (flattening + writing)
    return [
        (f"{ROWS:,} rows as Parquet: one part in ... of the bytes of NDJSON",
         f"{len(file) / len(packed):.1f}", "10 or more"),
        ("... rows in a second, as a share of those of NDJSON", f"{share:.2f}", "0.4 or more"),
    ]  # fmt: skip
