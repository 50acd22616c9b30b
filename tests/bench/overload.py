"""More senders than can be served, which ignore Retry-After.

First senders without pauses: the rate of safe exports is a share of that of 64 senders in the same
round. In every other round, all cores are occupied for a moment before the window. Then ten times
the intended load for a minute, at a fixed rate, because senders without pauses cannot show the
latency of a refusal: each waits for all others. A refusal is any answer but 200 and 202.
"""

from collections.abc import Sequence
from dataclasses import replace
from statistics import median

from tests.bench.offer import Offer, measure_offer
from tests.bench.rounds import AUTO, Rows, measure_rounds
from tests.bench.senders import quantile
from tests.bench.sides import Cost, Load

CONNECTIONS = (64, 2_000, 4_000, 8_000)
ROUNDS, CALM = 10, Load(seconds=8.0, warm_seconds=6.0)
TEN_TIMES = Offer(3_400.0, seconds=60.0, warm_seconds=4.0)


def measure() -> Rows:
    yield from measure_rows(ROUNDS, CALM, TEN_TIMES)


def measure_quickly() -> Rows:
    yield from measure_rows(
        1, replace(CALM, seconds=4.0, warm_seconds=3.0), replace(TEN_TIMES, seconds=5.0)
    )


def measure_rows(rounds: int, calm: Load, ten_times: Offer) -> Rows:
    costs: dict[int, list[Cost]] = {count: [] for count in CONNECTIONS}
    for number in range(rounds):
        for count in CONNECTIONS:
            is_disturbed = number % 2 == 1 and count > CONNECTIONS[0]
            load = replace(calm, connections=count, is_disturbed=is_disturbed)
            costs[count] += measure_rounds([AUTO], load, 1)[AUTO]
    reference = costs[CONNECTIONS[0]]
    yield f"senders without pauses that ignore Retry-After, {rounds} rounds", "", ""
    for count in CONNECTIONS:
        yield from connection_rows(count, costs[count], reference)
    outcome = measure_offer(AUTO, ten_times)
    peak = outcome.rate / max(each.outcome.rate for each in reference)
    refused = (
        f"{outcome.refusal_rate:,.0f}/s, {1e3 * quantile(outcome.refusal_latencies, 0.99):,.0f} ms"
    )
    yield f"{ten_times.a_second:,.0f}/s offered for {ten_times.seconds:.0f} s", "", ""
    yield f"  exports stored, of the best rate of {CONNECTIONS[0]}", f"{peak:.0%}", "90 % or more"
    yield "  refusals, and their p99", refused, "50 ms or less"


def connection_rows(count: int, costs: Sequence[Cost], reference: Sequence[Cost]) -> Rows:
    rates = [cost.outcome.rate for cost in costs]
    shares = [rate / each.outcome.rate for rate, each in zip(rates, reference, strict=True)]
    yield (
        f"  {count:,}: exports stored, of the rate of {CONNECTIONS[0]}",
        f"{min(shares):.0%} at worst, median {median(shares):.0%}: {median(rates):,.0f}/s",
        "80 % or more" if count > CONNECTIONS[0] else "",
    )
    if count > CONNECTIONS[0]:
        refused = median(cost.outcome.refusal_rate for cost in costs)
        p99 = median(quantile(cost.outcome.latencies, 0.99) for cost in costs)
        yield "    refusals; p99 of the stored exports", f"{refused:,.0f}/s; {p99:.1f} s", ""
