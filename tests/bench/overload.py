"""More senders than can be served, who never rest and obey no Retry-After.

The rate of exports that are safe is told as a share of that of 64 senders in the same round: worst
and median. A refusal is any other answer, and a connection that breaks.
"""

from collections.abc import Mapping, Sequence
from statistics import median

from tests.bench.cost import Cost, Load
from tests.bench.rounds import AUTO, Rows, in_turn
from tests.bench.senders import quantile

CONNECTIONS = (64, 2_000, 4_000, 8_000)
ROUNDS, SECONDS, WARM_SECONDS = 5, 10.0, 6.0
QUICK_SECONDS, QUICK_WARM_SECONDS = 5.0, 4.0


def measure() -> Rows:
    yield from rows(ROUNDS, SECONDS, WARM_SECONDS)


def measure_quickly() -> Rows:
    yield from rows(1, QUICK_SECONDS, QUICK_WARM_SECONDS)


def rows(rounds: int, seconds: float, warm_seconds: float) -> Rows:
    loads = [Load(count, seconds=seconds, warm_seconds=warm_seconds) for count in CONNECTIONS]
    costs: Mapping[int, list[Cost]] = {count: [] for count in CONNECTIONS}
    for _ in range(rounds):
        for load in loads:
            costs[load.connections] += in_turn([AUTO], load, 1)[AUTO]
    yield "senders that never rest and ignore Retry-After", "", ""
    for count in CONNECTIONS:
        yield from connection_rows(count, costs[count], costs[CONNECTIONS[0]])


def connection_rows(count: int, costs: Sequence[Cost], few: Sequence[Cost]) -> Rows:
    shares = [
        cost.outcome.rate / max(1e-9, each.outcome.rate)
        for cost, each in zip(costs, few, strict=True)
    ]
    rates = [cost.outcome.rate for cost in costs]
    yield (
        f"  {count:,}: safe, of the rate of {CONNECTIONS[0]}",
        f"{min(shares):.0%} at worst, median {median(shares):.0%}: {median(rates):,.0f}/s",
        "80 % or more" if count > CONNECTIONS[0] else "",
    )
    refused = [second for cost in costs for second in cost.outcome.refused]
    if refused:
        rate = median(cost.outcome.refusals for cost in costs)
        p99 = 1e3 * quantile(refused, 0.99)
        yield "    refusals, and their p99", f"{rate:,.0f}/s, {p99:,.0f} ms", "50 ms or less"
