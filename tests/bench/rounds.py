"""Sides in turn, round by round, so that a slow minute of the machine is every side's."""

import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import median

from tests.bench.cost import describe
from tests.bench.senders import quantile
from tests.bench.sides import NO_LIMITS, Cost, Load, Side, measure_cost

Rows = Iterator[tuple[str, str, str]]

AT_ONCE = {**NO_LIMITS, "foundry.commit_interval_seconds": "0.0"}  # nobody waits for an interval
AUTO = Side("interval 0, auto", settings=AT_ONCE)


def in_turn(sides: Iterable[Side], load: Load, rounds: int) -> Mapping[Side, list[Cost]]:
    """Costs of each side. Each is told on the standard error as soon as it is there."""
    found = defaultdict[Side, list[Cost]](list)
    for _ in range(rounds):
        for side in sides:
            cost = measure_cost(side, load)
            print(describe(side, load, cost), file=sys.stderr, flush=True)
            found[side].append(cost)
    return found


def small_rows(
    name: str, costs: Sequence[Cost], to_reach: str, floors: Sequence[Cost] = ()
) -> Rows:
    """Best of each figure, and the medians; that of the times is of those round by round."""
    rates = [cost.outcome.rate for cost in costs]
    cpus = [cost.milliseconds for cost in costs]
    p50s, p99s = (
        [1e3 * quantile(cost.outcome.took, share) for cost in costs] for share in (0.5, 0.99)
    )
    least = min((each.milliseconds for each in floors), default=0.0)
    times = min(cpus) / least if least else 0.0
    best = small_text(max(rates), min(cpus), min(p50s), min(p99s), times)
    yield f"  {name}", best, to_reach
    if len(costs) > 1:
        pairs = zip(cpus, floors, strict=True) if floors else ()
        ratios = [cpu / each.milliseconds for cpu, each in pairs] or [0.0]
        middles = (median(each) for each in (rates, cpus, p50s, p99s, ratios))
        yield "    ... medians", small_text(*middles), ""


def small_text(rate: float, cpu: float, p50: float, p99: float, ratio: float) -> str:
    times = f", {ratio:.1f} times the floor" if ratio else ""
    return f"{rate:,.0f}/s, {cpu:.2f} ms of CPU{times}, p50 {brief(p50)} ms, p99 {brief(p99)} ms"


def brief(number: float) -> str:
    """With a decimal place only where that is much of it."""
    return f"{number:.1f}" if number < 10 else f"{number:,.0f}"


def record_text(costs: Sequence[Cost], records: int) -> str:
    """By the record, of the service and its workers together."""
    cpus = [
        1e6 * (cost.service + cost.workers) / max(1, cost.outcome.answered * records)
        for cost in costs
    ]
    rate = max(cost.outcome.rate for cost in costs) * records
    memory = max(max(cost.memory) for cost in costs)
    text = f"{rate:,.0f} records/s, {min(cpus):.1f} µs of CPU a record"
    more = f" (median {median(cpus):.1f})" if len(costs) > 1 else ""
    return f"{text}{more}, {memory:.0f} MiB"
