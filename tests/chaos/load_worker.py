"""Flood process: `python -m tests.chaos.load_worker`.

    URL NAME PHONES SECONDS          the token on standard input

Prints a LoadResult as JSON at its end.
"""

import random
import sys

import anyio
import msgspec

from tests.chaos.load_generator import LoadGenerator
from tests.chaos.load_process import LoadResult
from tests.chaos.oracle import Oracle
from tests.chaos.raw_http import RawHttpClient


async def main(url: str, name: str, phones: int, seconds: float) -> None:
    token, oracle, sockets = sys.stdin.read(), Oracle(), RawHttpClient(url)
    rng = random.Random(name)
    generator = LoadGenerator(sockets, lambda _: token, oracle, rng, name)
    stats = await generator.run_closed_loop(phones, seconds, patience=0.0)
    sockets.close()
    result = LoadResult(
        sent={name: sent.lines for name, sent in oracle.sent.items()},
        given_up=oracle.given_up,
        promised={name: sent.reply for name, sent in oracle.sent.items() if sent.reply},
        statuses=stats.statuses,
        without_retry_after=stats.without_retry_after,
        without_rate=stats.without_rate,
    )
    sys.stdout.buffer.write(msgspec.json.encode(result))


def parse_arguments(url: str, name: str, phones: str, seconds: str) -> tuple[str, str, int, float]:
    return url, name, int(phones), float(seconds)


if __name__ == "__main__":
    anyio.run(main, *parse_arguments(*sys.argv[1:]), backend_options={"use_uvloop": True})
