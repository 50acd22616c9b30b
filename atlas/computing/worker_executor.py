"""Runs CPU-bound work without blocking the event loop.

small     at once, on the event loop
steps     in a worker process; without any, on the event loop, with a checkpoint after each step
other     in a thread, which shares the processor with the event loop

Work in steps is a generator function: it yields where it may pause, and returns its result.
"""

import inspect
import os
import signal
import sys
from collections.abc import Callable, Generator
from typing import Any, TypeVar, TypeVarTuple

import anyio
import anyio.to_process
import anyio.to_thread
from anyio.lowlevel import checkpoint

from atlas.computing.malloc import set_worker_thresholds

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# this much is flattened in a millisecond; a hand-over to a thread takes 0.1 ms, to a worker 0.4 ms
QUICK_BYTES_MAX = 128 * 1024
WORKER_NICENESS = 10


class WorkerExecutor:
    """Runs work where its size and kind suggest; `bytes` is the size of its input.

    Workers are started when they are needed, so that the service starts without waiting for them.
    """

    def __init__(self, processes: int = 0) -> None:
        self._limiter = anyio.CapacityLimiter(processes) if processes else None

    async def __call__(self, bytes: int, work: Callable[[*Ts], Any], /, *args: *Ts) -> Any:
        """Return or raise what the work does."""
        if bytes <= QUICK_BYTES_MAX:
            result = work(*args)
            return await run_cooperatively(result) if isinstance(result, Generator) else result
        if not inspect.isgeneratorfunction(work):
            return await anyio.to_thread.run_sync(work, *args)
        if self._limiter is None:
            result = await run_cooperatively(work(*args))
            await checkpoint()  # the caller's next work may be one long step
            return result
        return await self._run_with_retry(work, args)

    async def _run_with_retry(self, work: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """Retry once if the worker process dies, for example by the OOM killer."""
        run = anyio.to_process.run_sync
        try:
            return await run(run_in_worker, work, args, limiter=self._limiter)
        except anyio.BrokenWorkerProcess:
            return await run(run_in_worker, work, args, limiter=self._limiter)


async def run_cooperatively(steps: Generator[None, None, T]) -> T:
    """Run the steps, with a checkpoint of the event loop after each."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
        await checkpoint()


def run_in_worker(work: Callable[..., Generator[None, None, T]], args: tuple[Any, ...]) -> T:
    """Run work in this worker process, which ignores Ctrl-C and exits when its parent has ended.

    A high nice value lets the parent's event loop run first where processors are few.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.setpriority(os.PRIO_PROCESS, 0, WORKER_NICENESS)
    set_worker_thresholds()
    parent, steps = os.getppid(), work(*args)
    while os.getppid() == parent:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
    sys.exit()
