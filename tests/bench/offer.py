"""A fixed rate of exports, sent without waiting for answers."""

import sys
from dataclasses import dataclass

import uvloop

from tests.bench.senders import RECORDS, Exports, Fleet, Outcome, fetch_tokens, raise_descriptors
from tests.bench.sides import Side, disk_folder, start_side, stubs


@dataclass(frozen=True)
class Offer:
    """Exports a second, the measured and the warm-up seconds, and the seconds of a Foundry call."""

    a_second: float
    seconds: float
    warm_seconds: float
    latency_seconds: float = 0.0


def measure_offer(side: Side, load: Offer) -> Outcome:
    """Start a side and send the load to it."""
    print(f"{side.name}: {load.a_second:.0f} exports/s offered", file=sys.stderr, flush=True)
    raise_descriptors()
    with disk_folder() as folder, stubs(load.latency_seconds) as systems:
        exports = Exports(RECORDS, fetch_tokens(systems.first_line.split()[1]))
        with start_side(side, systems, folder) as service:
            return uvloop.run(offer(service.url, exports, load))


async def offer(url: str, exports: Exports, load: Offer) -> Outcome:
    """Send the load to a running service, after a warm-up that opens the connections."""
    fleet = Fleet(url, exports)
    await fleet.offer(load.a_second, load.warm_seconds)
    outcome = await fleet.offer(load.a_second, load.seconds)
    await fleet.close()
    return outcome
