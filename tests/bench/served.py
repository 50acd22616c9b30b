"""`atlas serve`, and how late its loop was: `python -m tests.bench.served IDLE_SECONDS`.

Settings come from the environment. At its end it prints how late a task was that wanted to run
every 10 ms: in 999 of 1,000 cases at most so many ms, while it was idle and afterwards.
"""

import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

EVERY_SECONDS = 0.01


class Lateness:
    def __init__(self, idle_seconds: float) -> None:
        self._idle_seconds = idle_seconds
        self._idle: list[float] = []
        self._busy: list[float] = []

    @asynccontextmanager
    async def measured(self) -> AsyncIterator[None]:
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

    def told(self) -> str:
        return " ".join(f"{self.of(found) * 1000:.1f}" for found in (self._idle, self._busy))

    @staticmethod
    def of(found: list[float]) -> float:
        return sorted(found)[int(len(found) * 0.999)] if found else float("nan")


def main(idle_seconds: float) -> None:
    from atlas.cli.configuration import load_settings  # noqa: PLC0415 - workers import this file, too
    from atlas.server import run  # noqa: PLC0415

    lateness = Lateness(idle_seconds)
    run(load_settings(None, os.environ), lateness.measured, lambda at: print(at, flush=True))
    print(lateness.told(), flush=True)


if __name__ == "__main__":
    main(float(sys.argv[1]))
