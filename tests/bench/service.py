"""Exports over HTTP: Atlas with its default settings and without a commit interval, and the floor.

All sides in turn, round by round, so that a slow minute of the machine is every side's; the best of
five, and the median beside it. Processor time is that of the service process. With the default
settings a sender waits for the commit, which comes every 5 s: so they are measured with many
senders, with senders that do not wait, and with an offer of so many exports a second.
"""

import shutil
import sys
from collections.abc import Callable
from dataclasses import replace

from tests.bench.offer import Offer, offered
from tests.bench.rounds import AT_ONCE, AUTO, Rows, in_turn, record_text, small_rows
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
EACH = Side("interval 0, per-export", settings={**AT_ONCE, "foundry.file_layout": '"per-export"'})
GROUP = Side("interval 0, per-group", settings={**AT_ONCE, "foundry.file_layout": '"per-group"'})
ASYNC = Side("interval 0, respond-async", settings=AT_ONCE, prefer="respond-async")
DURABLE = Side("durable floor", floor="durable")
CODEC = Side("codec floor", floor="codec")
ECHO = Side("Starlette that reads and answers", floor="echo")
PLAIN = Side("a plain service in Node", is_node=True)  # leaner than the old one

SIDES = {  # and at most how many times the floor
    DEFAULT_ASYNC: "",
    AUTO: "",
    EACH: "3.0 times or less",
    GROUP: "2.5 times or less",
    ASYNC: "2.5 times or less",
    DURABLE: "",
    CODEC: "",
    ECHO: "",
}
# Its figures on two cores, one transaction an export, quoted: it is not on this machine.
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
    """One short round of what needs no patience: for a look, and no figures."""
    yield from small_and_large(
        1, lambda load: replace(load, seconds=QUICK_SECONDS, warm_seconds=QUICK_WARM_SECONDS)
    )


def patient() -> Rows:
    yield f"{PATIENT.connections:,} senders that never rest, {PATIENT.records} records", "", ""
    for side, costs in in_turn([DEFAULT], PATIENT, PATIENT_ROUNDS).items():
        yield from small_rows(side.name, costs, "")


def small_and_large(rounds: int, shorten: Callable[[Load], Load]) -> Rows:
    beside = plain()
    sides = SIDES | dict.fromkeys(beside, "")
    small = in_turn(sides, shorten(SMALL), rounds)
    yield f"{SMALL.connections} senders that never rest, {SMALL.records} records", "", ""
    for side, to_reach in sides.items():
        yield from small_rows(side.name, small[side], to_reach, small[DURABLE])
    yield "one sender that never rests", "", ""
    for side, costs in in_turn([AUTO, GROUP, *beside], shorten(ALONE), rounds).items():
        yield from small_rows(side.name, costs, "p50 2 ms or less")
    yield f"{LARGE.connections} senders of {LARGE.records:,} records", "", ""
    for side, costs in in_turn([AUTO, CODEC, *beside], shorten(LARGE), rounds).items():
        to_reach = "10 µs or less" if side is AUTO else ""
        yield f"  {side.name}", record_text(costs, LARGE.records), to_reach


def plain() -> list[Side]:
    """The plain service, where there is a Node to run it."""
    if shutil.which("node"):
        return [PLAIN]
    print("There is no node: the plain service is left out.", file=sys.stderr, flush=True)
    return []


def offer_rows(rounds: int) -> Rows:
    """Settings as everybody has them, and a Foundry as slow as a real one."""
    yield f"{OFFER:.0f} exports/s offered, Foundry at {LATENCY_SECONDS} s a call", "", ""
    eager = Side("a commit every second", settings={"foundry.commit_interval_seconds": "1.0"})
    for side, p99 in ((DEFAULT, "8 s or less"), (eager, "3 s or less")):
        load = Offer(OFFER, OFFER_SECONDS, OFFER_WARM_SECONDS, LATENCY_SECONDS)
        several = [offered(side, load) for _ in range(rounds)]
        best = min(several, key=lambda each: (-each.share, quantile(each.took, 0.99)))
        told = ", ".join(f"{quantile(each.took, 0.99):.1f}" for each in several)
        yield f"  {side.name}: failed", f"{1 - best.share:.1%}", "none"
        yield "    p50 from due to answered", f"{quantile(best.took, 0.5):.2f} s", ""
        yield "    p99, of each round", f"{told} s", p99
