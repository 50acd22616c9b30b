"""Files of many exports: what Parquet saves and costs, and how many exports a group carries."""

import os
from collections.abc import Callable
from time import perf_counter

from atlas.core import ndjson, rows
from atlas.outside import parquet
from tests import generator
from tests.bench import load, service
from tests.bench.load import Outcome, Senders

ROWS, TIMES = 40_000, 5
CONNECTIONS, SECONDS, ROUNDS = 64, 6.0, 3
HEADER = rows.Header("auth0|ada", "iPhone", "2026-01-02T12:00:00.000Z", "")


def seconds(work: Callable[[], object]) -> float:
    began = perf_counter()
    work()
    return perf_counter() - began


def of_parquet() -> list[tuple[str, str, str]]:
    """One processor, one thread: the file of a group, out of the lines of its exports."""
    lines = ndjson.split(generator.export(ROWS), 1)
    file = rows.flatten(lines, HEADER, 1).ndjson
    packed = parquet.written(file)
    flattening = min(seconds(lambda: rows.flatten(lines, HEADER, 1)) for _ in range(TIMES))
    writing = min(seconds(lambda: parquet.written(file)) for _ in range(TIMES))
    share = flattening / (flattening + writing)
    return [
        (f"{ROWS:,} rows as Parquet: one part in ... of the bytes of NDJSON",
         f"{len(file) / len(packed):.1f}", "10 or more"),
        ("... rows in a second, as a share of those of NDJSON", f"{share:.2f}", "0.4 or more"),
    ]  # fmt: skip


def measure() -> list[tuple[str, str, str]]:
    async def restless(senders: Senders) -> Outcome:
        return await senders.never_rest(CONNECTIONS, SECONDS)

    def rate(command: list[str], layout: str) -> float:
        os.environ["ATLAS_FILE_LAYOUT"] = layout
        try:
            limits = service.NO_LIMITS
            found = (service.outcome(command, 0.0, 0.0, restless, limits) for _ in range(ROUNDS))
            return max(each.rate for each in found)
        finally:
            del os.environ["ATLAS_FILE_LAYOUT"]

    plain, each = rate(service.PLAIN, "auto"), rate(service.ATLAS, "per-export")
    group = rate(service.ATLAS, "per-group")
    what = f"{CONNECTIONS} senders that never rest, {load.RECORDS} records, Foundry at 0 s a call"
    return [
        *of_parquet(),
        (f"{what}: plain service", f"{plain:.0f}/s", ""),
        ("... Atlas, per-export", f"{each:.0f}/s", ""),
        ("... Atlas, per-group", f"{group:.0f}/s", ""),
        ("... per-group, times as many as the plain service", f"{group / plain:.1f}", "8 or more"),
    ]
