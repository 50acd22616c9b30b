"""Who floods, in a process of its own: `python -m tests.chaos.flooder`.

    URL NAME PHONES SECONDS          the token on standard input

At its end it prints a Flood as JSON.
"""

import random
import sys

import anyio
import msgspec

from tests.chaos.crowd import Crowd
from tests.chaos.flood import Flood
from tests.chaos.oracle import Oracle
from tests.chaos.sockets import Sockets


async def main(url: str, name: str, phones: int, seconds: float) -> None:
    token, oracle, sockets = sys.stdin.read(), Oracle(), Sockets(url)
    chance = random.Random(name)
    crowd = Crowd(sockets, lambda _: token, oracle, chance, name)
    tally = await crowd.never_rest(phones, seconds, patience=0.0)
    sockets.close()
    flood = Flood(
        sent={name: sent.lines for name, sent in oracle.sent.items()},
        given_up=oracle.given_up,
        promised={name: sent.reply for name, sent in oracle.sent.items() if sent.reply},
        statuses=tally.statuses,
        without_retry_after=tally.without_retry_after,
        without_rate=tally.without_rate,
    )
    sys.stdout.buffer.write(msgspec.json.encode(flood))


def arguments(url: str, name: str, phones: str, seconds: str) -> tuple[str, str, int, float]:
    return url, name, int(phones), float(seconds)


if __name__ == "__main__":
    anyio.run(main, *arguments(*sys.argv[1:]), backend_options={"use_uvloop": True})
