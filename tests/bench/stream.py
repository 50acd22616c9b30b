"""A stream beside the dataset: how soon it has a row, and what that costs the others.

Exports are offered at a fixed rate, with a Foundry at 0.1 s a call. Both sides run in turn; the
figures are ratios of the best of each. A record says when it was accepted, which is before the
phone has its answer, and the stub of Foundry knows when it answers.
"""

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf
from pathlib import Path

import uvloop

from atlas.core.commits import Conclusion, Verdict
from atlas.core.messages import (
    BranchSnapshot,
    CompressedRows,
    ExportMetadata,
    FlattenedExport,
    GroupLimits,
    User,
)
from atlas.core.rows import flatten
from atlas.outside.journal.capacity import CapacityLimits
from atlas.outside.sqlite.journal import open_journal
from tests.bench.codec import HEADER
from tests.bench.journal import journal_folder
from tests.bench.offer import Offer, offer
from tests.bench.processes import measure_cpu_seconds
from tests.bench.senders import RECORDS, Exports, Outcome, fetch_tokens, quantile, raise_descriptors
from tests.bench.sides import Side, disk_folder, start_side, stubs
from tests.support.emulated_stream import STREAM
from tests.support.exports import NOON, packed
from tests.support.generator import lines

ROUNDS, JOURNAL_ROUNDS = 3, 9
EXPORTS = 3_000
LOAD = Offer(a_second=100.0, seconds=20.0, warm_seconds=4.0, latency_seconds=0.1)
QUICK = Offer(a_second=100.0, seconds=5.0, warm_seconds=2.0, latency_seconds=0.1)
INTERVAL = {"foundry.commit_interval_seconds": "1.0"}
WITH_STREAM = {**INTERVAL, "stream.rid": json.dumps(STREAM)}
WAYS = {"a 202": "respond-async", "a 200": ""}
SLOWER_MAX = 1.03


@dataclass
class Figures:
    """The figures of one side, of each round."""

    outcomes: list[Outcome] = field(default_factory=list)
    counts: list[dict[str, float]] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)  # ms an export

    def find_best(self, share: float) -> float:
        return min(quantile(each.latencies, share) for each in self.outcomes)


def measure() -> Iterator[tuple[str, str, str]]:
    yield from measure_journal(JOURNAL_ROUNDS)
    yield from measure_rounds(LOAD, ROUNDS)


def measure_quickly() -> Iterator[tuple[str, str, str]]:
    yield from measure_journal(3)
    yield from measure_rounds(QUICK, 1)


def measure_journal(rounds: int) -> Iterator[tuple[str, str, str]]:
    """Compare the CPU time of the journal alone: on a busy machine, rates would say little."""
    table = packed(flatten(tuple(lines(RECORDS)), HEADER).ndjson, RECORDS)
    best = {False: (inf, inf), True: (inf, inf)}
    for _ in range(rounds):
        for is_streamed, before in best.items():
            with journal_folder() as path:
                took = asyncio.run(time_journal(path, table, is_streamed=is_streamed))
            best[is_streamed] = min(before[0], took[0]), min(before[1], took[1])
    for name, without, with_stream in zip(("accept", "commit"), *best.values(), strict=True):
        label = f"the journal {name}s an export: CPU with a stream, and without"
        text = f"{1e6 * with_stream / EXPORTS:.0f} µs, {with_stream / without:.3f} times"
        yield label, text, f"{SLOWER_MAX} or less of the service"


async def time_journal(
    path: Path, table: CompressedRows, *, is_streamed: bool
) -> tuple[float, float]:
    """Return the CPU seconds until all exports are accepted, and then until all are committed.

    None is published in between: the worst case, in which all payloads are kept for the stream.
    """
    head, limits = ExportMetadata(User("auth0|ada"), "phone", "", ""), GroupLimits()
    exports = [FlattenedExport(f"{n:064x}", head, NOON, table) for n in range(EXPORTS)]
    with open_journal(path, CapacityLimits(free_bytes=0), is_streamed=is_streamed) as journal:
        began = time.process_time()
        await asyncio.gather(*map(journal.intake.append, exports))
        accepted = time.process_time()
        verdict = Verdict("committed", transaction="txn")
        while await journal.outbox.claim(limits, BranchSnapshot("", NOON), "normal"):
            group = await journal.outbox.record_open("txn", limits)
            await journal.outbox.read([each.id for each in group.exports])
            await journal.outbox.conclude(Conclusion("txn", default_verdict=verdict))
        return accepted - began, time.process_time() - accepted


def measure_rounds(load: Offer, rounds: int) -> Iterator[tuple[str, str, str]]:
    yield f"{load.a_second:.0f} exports/s, Foundry at {load.latency_seconds} s a call", "", ""
    for answer, prefer in WAYS.items():
        sides = {
            Side("without a stream", settings=INTERVAL, prefer=prefer): Figures(),
            Side("with a stream", settings=WITH_STREAM, prefer=prefer): Figures(),
        }
        for _ in range(rounds):
            for side, figures in sides.items():
                measure_side(side, load, figures)
        without, with_stream = sides.values()
        yield from compare(answer, without, with_stream)


def compare(answer: str, without: Figures, with_stream: Figures) -> Iterator[tuple[str, str, str]]:
    p50s, p99s = (
        sorted(each[f"delay_{name}"] for each in with_stream.counts) for name in ("p50", "p99")
    )
    yield (
        f"  rows published: p50, p99 of each round, until {answer}",
        (f"{p50s[0]:.2f} s, " + ", ".join(f"{each:.2f}" for each in p99s) + " s"),
        "2 s or less",
    )
    for share in (0.5, 0.99):
        before, after = without.find_best(share), with_stream.find_best(share)
        text = f"{1e3 * after:,.1f} ms, {after / before:.3f} times"
        yield f"  ... p{100 * share:.0f} until {answer}, and without", text, f"{SLOWER_MAX} or less"
    committed = [max(each["rows"] for each in side.counts) for side in (without, with_stream)]
    yield "  ... rows committed, and without", f"{committed[1] / committed[0]:.3f} times", "1"
    cpu = [min(each.cpu) for each in (without, with_stream)]
    yield "  ... CPU of the service, an export", f"{cpu[1]:.2f} ms, {cpu[1] / cpu[0]:.2f} times", ""


def measure_side(side: Side, load: Offer, figures: Figures) -> None:
    """Start a side, send the load to it, and add its figures."""
    raise_descriptors()
    with disk_folder() as folder, stubs(load.latency_seconds) as systems:
        exports = Exports(RECORDS, fetch_tokens(systems.first_line.split()[1]), side.prefer)
        with start_side(side, systems, folder) as service:
            url = service.first_line.removeprefix("ready ")
            figures.outcomes.append(uvloop.run(offer(url, exports, load)))
            used = measure_cpu_seconds(service.pid)
    exports_sent = load.a_second * (load.seconds + load.warm_seconds)
    figures.cpu.append(1e3 * used / exports_sent)
    figures.counts.append(json.loads(systems.output))
    outcome, count = figures.outcomes[-1], figures.counts[-1]
    print(
        f"{side.name} {side.prefer}: {dict(outcome.statuses)} p50 "
        f"{quantile(outcome.latencies, 0.5):.4f} p99 {quantile(outcome.latencies, 0.99):.4f} "
        f"cpu {figures.cpu[-1]:.2f} ms {count}",
        file=sys.stderr,
        flush=True,
    )
