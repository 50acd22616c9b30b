"""Files of many exports: the savings and the cost of Parquet."""

from collections.abc import Callable
from time import perf_counter

from atlas.core import ndjson, rows
from atlas.outside import parquet
from tests.support import generator

ROWS, TIMES = 40_000, 5
HEADER = rows.Header("auth0|ada", "iPhone", "2026-01-02T12:00:00.000Z", "")


def time_call(work: Callable[[], object]) -> float:
    began = perf_counter()
    work()
    return perf_counter() - began


def measure() -> list[tuple[str, str, str]]:
    """Measure one group on one thread, from the lines of its exports to the file."""
    lines = ndjson.split_lines(generator.export(ROWS), 1)
    file = rows.flatten(lines, HEADER, 1).ndjson
    packed = parquet.to_parquet(file)
    flattening = min(time_call(lambda: rows.flatten(lines, HEADER, 1)) for _ in range(TIMES))
    writing = min(time_call(lambda: parquet.to_parquet(file)) for _ in range(TIMES))
    share = flattening / (flattening + writing)
    return [
        (f"{ROWS:,} rows as Parquet: times smaller than NDJSON",
         f"{len(file) / len(packed):.1f}", "10 or more"),
        ("... speed, compared with NDJSON", f"{share:.2f}", "0.4 or more"),
    ]  # fmt: skip
