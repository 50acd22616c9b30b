"""The cost of an export by number of connections, of records, and of receipts in the journal."""

import os
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import uvloop

from tests.bench.receipts import bring_receipts_to
from tests.bench.rounds import AUTO, Rows, in_turn, record_text, small_rows
from tests.bench.senders import Exports, fetch_tokens
from tests.bench.sides import Load, far_ends, measured, serving

CONNECTIONS = (1, 8, 64, 512, 2_000)
RECORDS = {1: 64, 11: 64, 100: 32, 5_000: 8, 50_000: 1}  # and senders
RECEIPTS = (0, 100_000, 1_000_000)
ROUNDS, WARM_SECONDS, LONG_SECONDS = 3, 4.0, 10.0


def measure() -> Rows:
    yield from rows(Load(warm_seconds=WARM_SECONDS), ROUNDS, RECEIPTS)


def measure_quickly() -> Rows:
    yield from rows(Load(seconds=1.5, warm_seconds=1.0), 1, RECEIPTS[:2])


def rows(load: Load, rounds: int, receipts: tuple[int, ...]) -> Rows:
    yield f"connections that never rest, {load.records} records", "", ""
    for count in CONNECTIONS:
        costs = in_turn([AUTO], replace(load, connections=count), rounds)[AUTO]
        yield from small_rows(f"{count:,}", costs, "")
    yield "records of an export", "", ""
    for records, senders in RECORDS.items():
        seconds = LONG_SECONDS if records > 5_000 and rounds > 1 else load.seconds
        long = replace(load, records=records, connections=senders, seconds=seconds)
        costs = in_turn([AUTO], long, rounds)[AUTO]
        yield f"  {records:,}, of {senders} senders", record_text(costs, records), ""
    yield "receipts in the journal", "", ""
    for count in receipts:
        with filled_journal(count) as path:
            side = replace(AUTO, name=f"{count:,} receipts", journal=path)
            costs = in_turn([side], load, rounds)[side]
        yield from small_rows(f"{count:,}", costs, "")
        started = min(cost.start_seconds for cost in costs)
        yield "    ready after", f"{started:.1f} s", "2 s or less"


@contextmanager
def filled_journal(count: int) -> Iterator[Path]:
    """A journal of so many receipts: a few that the service made, and as many copies."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_FOLDER", Path.cwd())) as name:
        path = Path(name) / "journal.db"
        with far_ends() as far, serving(AUTO, far, path.parent) as service:
            exports = Exports(1, fetch_tokens(far.said.split()[1]))
            url = service.said.removeprefix("ready ")
            uvloop.run(measured(url, exports, Load(8, 1, 1.0, 0.0), service.pid, far.pid))
            time.sleep(1)  # until the last group is committed
        with closing(sqlite3.connect(path)) as db, db:
            bring_receipts_to(db, count)
        yield path
