"""An offer of so many exports a second, whether the last was answered or not."""

import sys
from dataclasses import dataclass

import uvloop

from tests.bench.senders import RECORDS, Exports, Fleet, Outcome, fetch_tokens, raise_descriptors
from tests.bench.sides import Side, disk, far_ends, serving


@dataclass(frozen=True)
class Offer:
    """Exports a second, for so long, behind the time to get warm; the seconds of a Foundry call."""

    a_second: float
    seconds: float
    warm_seconds: float
    latency_seconds: float = 0.0


def offered(side: Side, load: Offer) -> Outcome:
    """Answers of a side that is started afresh."""
    print(f"{side.name}: {load.a_second:.0f} exports/s offered", file=sys.stderr, flush=True)
    raise_descriptors()
    with disk() as folder, far_ends(load.latency_seconds) as far:
        exports = Exports(RECORDS, fetch_tokens(far.said.split()[1]))
        with serving(side, far, folder) as service:
            return uvloop.run(offer(service.said.removeprefix("ready "), exports, load))


async def offer(url: str, exports: Exports, load: Offer) -> Outcome:
    """Answers of a service that runs. The first of its life have no connections yet."""
    fleet = Fleet(url, exports)
    await fleet.offer(load.a_second, load.warm_seconds)
    outcome = await fleet.offer(load.a_second, load.seconds)
    await fleet.close()
    return outcome
