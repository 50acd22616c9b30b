"""Exports over HTTP: Atlas with default settings, Atlas without a commit interval, and the floor.

All sides run in turn, so that a slow minute of the machine affects all of them; best of five, with
the median. CPU time is that of the service process. With the default settings a sender waits for
the commit, which happens every 5 s; so these are measured with many senders, with senders that do
not wait, and at a fixed rate.
"""

import shutil
import sys
from collections.abc import Callable
from dataclasses import replace

from tests.bench.offer import Offer, measure_offer
from tests.bench.rounds import (
    AUTO,
    NO_INTERVAL,
    Rows,
    export_rows,
    format_record_figures,
    measure_rounds,
)
from tests.bench.senders import quantile
from tests.bench.sides import Load, Side

ROUNDS, PATIENT_ROUNDS = 5, 3
SMALL, ALONE = Load(), Load(connections=1)
PATIENT = Load(connections=2_000, seconds=10.0, warm_seconds=8.0)
LARGE = Load(connections=8, records=5_000, seconds=8.0)
QUICK_SECONDS, QUICK_WARM_SECONDS = 1.5, 1.0
OFFER, OFFER_SECONDS, OFFER_WARM_SECONDS, LATENCY_SECONDS = 340.0, 15.0, 4.0, 0.3

DEFAULT = Side("default settings")
DEFAULT_ASYNC = Side("default settings, respond-async", prefer="respond-async")
EACH = Side(
    "interval 0, per-export", settings={**NO_INTERVAL, "foundry.file_layout": '"per-export"'}
)
GROUP = Side(
    "interval 0, per-group", settings={**NO_INTERVAL, "foundry.file_layout": '"per-group"'}
)
ASYNC = Side("interval 0, respond-async", settings=NO_INTERVAL, prefer="respond-async")
DURABLE = Side("durable floor", floor="durable")
CODEC = Side("codec floor", floor="codec")
ECHO = Side("Starlette that reads and answers", floor="echo")
PLAIN = Side("a plain service in Node", is_node=True)  # leaner than the old service

SIDES = {  # with the target, in times the floor
    DEFAULT_ASYNC: "",
    AUTO: "",
    EACH: "3.0 times or less",
    GROUP: "2.5 times or less",
    ASYNC: "2.5 times or less",
    DURABLE: "",
    CODEC: "",
    ECHO: "",
}
# Quoted figures on two cores with one transaction per export; it does not run here.
OLD = (
    ("the old service, quoted and not measured here", "588/s, 1.84 ms of CPU", ""),
    ("... one connection", "2 ms, 2.1 to 2.4 ms of CPU", ""),
    ("... 5,000 records, 8 connections", "43,000 records/s, 28 µs of CPU a record", ""),
)


def measure() -> Rows:
    yield from patient()
    yield from small_and_large(ROUNDS, lambda load: load)
    yield from OLD
    yield from offer_rows(PATIENT_ROUNDS)


def measure_quickly() -> Rows:
    """Measure one short round, for orientation only."""
    yield from small_and_large(
        1, lambda load: replace(load, seconds=QUICK_SECONDS, warm_seconds=QUICK_WARM_SECONDS)
    )


def patient() -> Rows:
    yield f"{PATIENT.connections:,} senders that never rest, {PATIENT.records} records", "", ""
    for side, costs in measure_rounds([DEFAULT], PATIENT, PATIENT_ROUNDS).items():
        yield from export_rows(side.name, costs, "")


def small_and_large(rounds: int, shorten: Callable[[Load], Load]) -> Rows:
    node_sides = plain()
    sides = SIDES | dict.fromkeys(node_sides, "")
    small = measure_rounds(sides, shorten(SMALL), rounds)
    yield f"{SMALL.connections} senders without pauses, {SMALL.records} records", "", ""
    for side, target in sides.items():
        yield from export_rows(side.name, small[side], target, small[DURABLE])
    yield "one sender without pauses", "", ""
    for side, costs in measure_rounds([AUTO, GROUP, *node_sides], shorten(ALONE), rounds).items():
        yield from export_rows(side.name, costs, "p50 2 ms or less")
    yield f"{LARGE.connections} senders of {LARGE.records:,} records", "", ""
    for side, costs in measure_rounds([AUTO, CODEC, *node_sides], shorten(LARGE), rounds).items():
        target = "10 µs or less" if side is AUTO else ""
        yield f"  {side.name}", format_record_figures(costs, LARGE.records), target


def plain() -> list[Side]:
    """Return the plain service if Node is installed."""
    if shutil.which("node"):
        return [PLAIN]
    print("Node is not installed: the plain service is skipped.", file=sys.stderr, flush=True)
    return []


def offer_rows(rounds: int) -> Rows:
    """Measure default settings with a Foundry as slow as the real one."""
    yield f"{OFFER:.0f} exports/s offered, Foundry at {LATENCY_SECONDS} s a call", "", ""
    eager = Side("a commit every second", settings={"foundry.commit_interval_seconds": "1.0"})
    for side, p99 in ((DEFAULT, "8 s or less"), (eager, "3 s or less")):
        load = Offer(OFFER, OFFER_SECONDS, OFFER_WARM_SECONDS, LATENCY_SECONDS)
        several = [measure_offer(side, load) for _ in range(rounds)]
        best = min(several, key=lambda each: (-each.safe_share, quantile(each.latencies, 0.99)))
        p99s = ", ".join(f"{quantile(each.latencies, 0.99):.1f}" for each in several)
        yield f"  {side.name}: failed", f"{1 - best.safe_share:.1%}", "none"
        yield "    p50 until the answer", f"{quantile(best.latencies, 0.5):.2f} s", ""
        yield "    p99, of each round", f"{p99s} s", p99
