"""More senders than can be served, who obey no Retry-After.

First so many that never rest: the rate of exports that are safe is told as a share of that of 64
senders in the same round. In every other round, others take all cores for a moment just before.
Then ten times the load that Atlas is made for, offered for a minute: senders that never rest cannot
show how long a refusal takes, since each waits for all others. A refusal is any answer but 200.
"""

from collections.abc import Sequence
from dataclasses import replace
from statistics import median

from tests.bench.offer import Offer, offered
from tests.bench.rounds import AUTO, Rows, in_turn
from tests.bench.senders import quantile
from tests.bench.sides import Cost, Load

CONNECTIONS = (64, 2_000, 4_000, 8_000)
ROUNDS, CALM = 10, Load(seconds=8.0, warm_seconds=6.0)
TEN_TIMES = Offer(3_400.0, seconds=60.0, warm_seconds=4.0)


def measure() -> Rows:
    yield from rows(ROUNDS, CALM, TEN_TIMES)


def measure_quickly() -> Rows:
    yield from rows(
        1, replace(CALM, seconds=4.0, warm_seconds=3.0), replace(TEN_TIMES, seconds=5.0)
    )


def rows(rounds: int, calm: Load, ten_times: Offer) -> Rows:
    costs: dict[int, list[Cost]] = {count: [] for count in CONNECTIONS}
    for number in range(rounds):
        for count in CONNECTIONS:
            is_disturbed = number % 2 == 1 and count > CONNECTIONS[0]
            load = replace(calm, connections=count, is_disturbed=is_disturbed)
            costs[count] += in_turn([AUTO], load, 1)[AUTO]
    few = costs[CONNECTIONS[0]]
    yield f"senders that never rest and ignore Retry-After, {rounds} rounds", "", ""
    for count in CONNECTIONS:
        yield from connection_rows(count, costs[count], few)
    outcome = offered(AUTO, ten_times)
    peak = outcome.rate / max(each.outcome.rate for each in few)
    refused = f"{outcome.refusals:,.0f}/s, {1e3 * quantile(outcome.refused, 0.99):,.0f} ms"
    yield f"{ten_times.a_second:,.0f}/s offered for {ten_times.seconds:.0f} s", "", ""
    yield f"  safe, of the best rate of {CONNECTIONS[0]}", f"{peak:.0%}", "90 % or more"
    yield "  refusals, and their p99", refused, "50 ms or less"


def connection_rows(count: int, costs: Sequence[Cost], few: Sequence[Cost]) -> Rows:
    rates = [cost.outcome.rate for cost in costs]
    shares = [rate / each.outcome.rate for rate, each in zip(rates, few, strict=True)]
    yield (
        f"  {count:,}: safe, of the rate of {CONNECTIONS[0]}",
        f"{min(shares):.0%} at worst, median {median(shares):.0%}: {median(rates):,.0f}/s",
        "80 % or more" if count > CONNECTIONS[0] else "",
    )
    if count > CONNECTIONS[0]:
        refused = median(cost.outcome.refusals for cost in costs)
        p99 = median(quantile(cost.outcome.took, 0.99) for cost in costs)
        yield "    refusals; p99 of those that are safe", f"{refused:,.0f}/s; {p99:.1f} s", ""
