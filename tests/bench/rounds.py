"""Runs sides in turn, round by round, so that a slow minute of the machine affects all of them."""

import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import median

from tests.bench.cost import describe
from tests.bench.senders import quantile
from tests.bench.sides import NO_LIMITS, Cost, Load, Side, measure_cost

Rows = Iterator[tuple[str, str, str]]

NO_INTERVAL = {**NO_LIMITS, "foundry.commit_interval_seconds": "0.0"}
AUTO = Side("interval 0, auto", settings=NO_INTERVAL)


def measure_rounds(sides: Iterable[Side], load: Load, rounds: int) -> Mapping[Side, list[Cost]]:
    """Return the costs of each side; print each on standard error when measured."""
    found = defaultdict[Side, list[Cost]](list)
    for _ in range(rounds):
        for side in sides:
            cost = measure_cost(side, load)
            print(describe(side, load, cost), file=sys.stderr, flush=True)
            found[side].append(cost)
    return found


def export_rows(name: str, costs: Sequence[Cost], target: str, floors: Sequence[Cost] = ()) -> Rows:
    """Yield the best of each figure, and the medians; the ratio's median is that of the rounds'
    ratios.
    """
    rates = [cost.outcome.rate for cost in costs]
    cpus = [cost.milliseconds for cost in costs]
    p50s, p99s = (
        [1e3 * quantile(cost.outcome.latencies, share) for cost in costs] for share in (0.5, 0.99)
    )
    least = min((each.milliseconds for each in floors), default=0.0)
    times = min(cpus) / least if least else 0.0
    best = format_figures(max(rates), min(cpus), min(p50s), min(p99s), times)
    yield f"  {name}", best, target
    if len(costs) > 1:
        pairs = zip(cpus, floors, strict=True) if floors else ()
        ratios = [cpu / each.milliseconds for cpu, each in pairs] or [0.0]
        middles = (median(each) for each in (rates, cpus, p50s, p99s, ratios))
        yield "    ... medians", format_figures(*middles), ""


def format_figures(rate: float, cpu: float, p50: float, p99: float, ratio: float) -> str:
    times = f", {ratio:.1f} times the floor" if ratio else ""
    p50_text, p99_text = format_short(p50), format_short(p99)
    return f"{rate:,.0f}/s, {cpu:.2f} ms of CPU{times}, p50 {p50_text} ms, p99 {p99_text} ms"


def format_short(number: float) -> str:
    """Format with a decimal place only below 10."""
    return f"{number:.1f}" if number < 10 else f"{number:,.0f}"


def format_record_figures(costs: Sequence[Cost], records: int) -> str:
    """Format the cost per record of the service and its workers together."""
    cpus = [
        1e6 * (cost.service + cost.workers) / max(1, cost.outcome.safe_count * records)
        for cost in costs
    ]
    rate = max(cost.outcome.rate for cost in costs) * records
    memory = max(max(cost.memory) for cost in costs)
    text = f"{rate:,.0f} records/s, {min(cpus):.1f} µs of CPU a record"
    more = f" (median {median(cpus):.1f})" if len(costs) > 1 else ""
    return f"{text}{more}, {memory:.0f} MiB"
