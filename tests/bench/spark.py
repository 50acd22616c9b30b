"""The transforms for Foundry on 2 million rows: a full run, and one after an append of 1 %.

Spark runs in this process, on two cores. Both runs find it warm, as the second table of a build
does. The tables are compared with DuckDB's, and their size with a count that shares no code.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from importlib import import_module
from itertools import islice
from pathlib import Path
from time import perf_counter

import msgspec

from atlas.core import rows
from tests.support import generator
from tests.support.transforms import (
    TransformsRun,
    build_in_duckdb,
    find_differences,
    require_spark,
)

USERS, ROWS, FILE_ROWS = 4, 2_000_000, 40_000  # 500,000 samples of a user are 17 months
SHARE = 100  # 1 % is appended
FULL_TIMES, TIMES = 2, 3
FIRST, NEXT = "2026-01-02T12:00:00.000Z", "2026-01-03T12:00:00.000Z"
COUNT = """
    WITH gone AS (SELECT DISTINCT auth0_user_id, uuid FROM raw WHERE uuid <> ''
        AND sample_type = '' AND start_date = '')
    SELECT count(DISTINCT (auth0_user_id, uuid)) FROM raw ANTI JOIN gone USING (auth0_user_id, uuid)
"""
Figures = list[tuple[str, str, str]]


def measure() -> Figures:
    return measure_rows(ROWS, FULL_TIMES, TIMES)


def measure_quickly() -> Figures:
    return measure_rows(ROWS // 50, 1, 1)


def measure_rows(count: int, full_times: int, times: int) -> Figures:
    require_spark()
    spark = import_module("healthkit.local").start_spark("2")
    with tempfile.TemporaryDirectory() as folder:
        try:
            warm_up(spark, Path(folder, "warm"))
            return measure_runs(TransformsRun(spark, Path(folder, "run")), count, full_times, times)
        finally:
            spark.stop()


def warm_up(spark: object, folder: Path) -> None:
    run = TransformsRun(spark, folder)
    put_base(run, FILE_ROWS)
    run.update()
    put_append(run, FILE_ROWS)
    run.update()


def measure_runs(run: TransformsRun, count: int, full_times: int, times: int) -> Figures:
    put_base(run, count)
    size = sum(path.stat().st_size for path in run.raw.rglob("*.ndjson"))
    full = min(time_full(run) for _ in range(full_times))
    put_append(run, count)
    run.out.rename(run.folder / "base")
    added = min(time_append(run) for _ in range(times))
    duck = build_in_duckdb(run.raw, "UTC")
    ((counted,),) = duck.execute(COUNT).fetchall()
    differences = sum(map(len, find_differences(duck, run.out).values()))
    ((samples,),) = duck.execute("SELECT count(*) FROM spark.samples").fetchall()
    return [
        (f"{count:,} rows, {size / 1e9:.1f} GB of NDJSON: all tables", f"{full:.0f} s", ""),
        ("... after an append of 1 %, late and deleted samples among it", f"{added:.1f} s", ""),
        ("... as a share of the full run", f"{added / full:.2f}", "0.2 or less"),
        ("... samples; by a count in DuckDB", f"{samples:,}; {counted:,}", "the same"),
        ("... rows that differ from the tables of DuckDB", f"{differences}", "none"),
    ]


def time_full(run: TransformsRun) -> float:
    shutil.rmtree(run.out, ignore_errors=True)
    return time_update(run)


def time_append(run: TransformsRun) -> float:
    """Time an update of the tables that the full run has made."""
    shutil.rmtree(run.out, ignore_errors=True)
    shutil.copytree(run.folder / "base", run.out, copy_function=os.link)
    return time_update(run)


def time_update(run: TransformsRun) -> float:
    began = perf_counter()
    run.update()
    return perf_counter() - began


def put_base(run: TransformsRun, count: int) -> None:
    for user in range(USERS):
        lines = generator.lines(count // USERS, user + 1)
        for number, block in enumerate(cut(lines)):
            put(run, f"base/{user}-{number}", user, FIRST, block)


def put_append(run: TransformsRun, count: int) -> None:
    """Append the samples of the next days, samples sent again, and deletions of recent ones."""
    each = count // USERS
    new = each // SHARE
    for user in range(USERS):
        lines = list(islice(generator.lines(each + new, user + 1), each - new, None))
        again, fresh = lines[: new // 50], lines[new:]
        deleted = [delete(line) for line in lines[new // 2 : new : 50]]
        put(run, f"append/{user}", user, NEXT, again + fresh + deleted)


def delete(line: bytes) -> bytes:
    return msgspec.json.encode({"uuid": msgspec.json.decode(line)["uuid"]})


def cut(lines: Iterator[bytes]) -> Iterator[list[bytes]]:
    while block := list(islice(lines, FILE_ROWS)):
        yield block


def put(run: TransformsRun, name: str, user: int, at: str, lines: list[bytes]) -> None:
    header = rows.Header(f"auth0|{user}", "iPhone", at, at)
    run.put(f"{name}.ndjson", rows.flatten(lines, header).ndjson)
