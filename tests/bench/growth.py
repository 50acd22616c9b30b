"""The cost of an export by the number of connections, records, and receipts in the journal."""

import os
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import uvloop

from tests.bench.receipts import set_receipt_count
from tests.bench.rounds import AUTO, Rows, export_rows, format_record_figures, measure_rounds
from tests.bench.senders import Exports, fetch_tokens
from tests.bench.sides import Load, measure_window, start_side, stubs

CONNECTIONS = (1, 8, 64, 512, 2_000)
RECORDS = {1: 64, 11: 64, 100: 32, 5_000: 8, 50_000: 1}  # records: senders
RECEIPTS = (0, 100_000, 1_000_000)
ROUNDS, WARM_SECONDS, LONG_SECONDS = 3, 4.0, 10.0


def measure() -> Rows:
    yield from measure_rows(Load(warm_seconds=WARM_SECONDS), ROUNDS, RECEIPTS)


def measure_quickly() -> Rows:
    yield from measure_rows(Load(seconds=1.5, warm_seconds=1.0), 1, RECEIPTS[:2])


def measure_rows(load: Load, rounds: int, receipts: tuple[int, ...]) -> Rows:
    yield f"connections without pauses, {load.records} records", "", ""
    for count in CONNECTIONS:
        costs = measure_rounds([AUTO], replace(load, connections=count), rounds)[AUTO]
        yield from export_rows(f"{count:,}", costs, "")
    yield "records per export", "", ""
    for records, senders in RECORDS.items():
        seconds = LONG_SECONDS if records > 5_000 and rounds > 1 else load.seconds
        long = replace(load, records=records, connections=senders, seconds=seconds)
        costs = measure_rounds([AUTO], long, rounds)[AUTO]
        yield f"  {records:,}, {senders} senders", format_record_figures(costs, records), ""
    yield "receipts in the journal", "", ""
    for count in receipts:
        with create_journal(count) as path:
            side = replace(AUTO, name=f"{count:,} receipts", journal=path)
            costs = measure_rounds([side], load, rounds)[side]
        yield from export_rows(f"{count:,}", costs, "")
        started = min(cost.start_seconds for cost in costs)
        yield "    ready after", f"{started:.1f} s", "2 s or less"


@contextmanager
def create_journal(count: int) -> Iterator[Path]:
    """Create a journal with `count` receipts: a few made by the service, and copies of them."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_FOLDER", Path.cwd())) as name:
        path = Path(name) / "journal.db"
        with stubs() as systems, start_side(AUTO, systems, path.parent) as service:
            exports = Exports(1, fetch_tokens(systems.first_line.split()[1]))
            url = service.url
            uvloop.run(measure_window(url, exports, Load(8, 1, 1.0, 0.0), service.pid, systems.pid))
            time.sleep(1)  # the last group is being committed
        with closing(sqlite3.connect(path)) as db, db:
            set_receipt_count(db, count)
        yield path
