"""`atlas serve` with the delay of its event loop: `python -m tests.bench.serve_with_delay
IDLE_SECONDS`.

Settings come from the environment. At its end it prints the 99.9th percentile, in ms, of the delay
of a task that runs every 10 ms: while idle, and afterwards.
"""

import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

EVERY_SECONDS = 0.01


class LoopDelay:
    def __init__(self, idle_seconds: float) -> None:
        self._idle_seconds = idle_seconds
        self._idle: list[float] = []
        self._busy: list[float] = []

    @asynccontextmanager
    async def measure(self) -> AsyncIterator[None]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._measure)
            yield
            tasks.cancel_scope.cancel()

    async def _measure(self) -> None:
        began = time.perf_counter()
        while True:
            due = time.perf_counter() + EVERY_SECONDS
            await anyio.sleep(EVERY_SECONDS)
            late, now = time.perf_counter() - due, time.perf_counter()
            (self._idle if now - began < self._idle_seconds else self._busy).append(late)

    def describe(self) -> str:
        return " ".join(
            f"{self.compute_quantile(delays) * 1000:.1f}" for delays in (self._idle, self._busy)
        )

    @staticmethod
    def compute_quantile(delays: list[float]) -> float:
        return sorted(delays)[int(len(delays) * 0.999)] if delays else float("nan")


def main(idle_seconds: float) -> None:
    from atlas.cli.configuration import load_settings  # noqa: PLC0415 - workers import this file, too
    from atlas.server import run  # noqa: PLC0415

    loop_delay = LoopDelay(idle_seconds)
    run(load_settings(None, os.environ), loop_delay.measure, lambda at: print(at, flush=True))
    print(loop_delay.describe(), flush=True)


if __name__ == "__main__":
    main(float(sys.argv[1]))
