"""Work that takes the processor, so that the loop turns meanwhile.

    what is quick   here and now
    in steps        in a worker process; without any, here, with a turn of the loop after each step
    else            in a thread, which shares this processor with the loop

Work in steps is a generator function: it yields where it may pause, and returns what it made.
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

from atlas.computing.memory import keep_blocks_of_a_worker

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# Flattened here in a millisecond; a thread costs a tenth of one, a worker four tenths.
QUICK_BYTES_MAX = 128 * 1024
NICENESS = 10


class Computing:
    """Where the work of a service is done. It is called with how many bytes it is about.

    A worker is started when it is needed: a start of the service has no time for them.
    """

    def __init__(self, processes: int = 0) -> None:
        self._limiter = anyio.CapacityLimiter(processes) if processes else None

    async def __call__(self, bytes: int, work: Callable[[*Ts], Any], /, *args: *Ts) -> Any:
        """What the work returns. Raises what it raises."""
        if bytes <= QUICK_BYTES_MAX:
            made = work(*args)
            return await stepwise(made) if isinstance(made, Generator) else made
        if not inspect.isgeneratorfunction(work):
            return await anyio.to_thread.run_sync(work, *args)
        if self._limiter is None:
            made = await stepwise(work(*args))
            await checkpoint()  # the next piece of the same export may be one long step
            return made
        return await self._in_a_worker(work, args)

    async def _in_a_worker(self, work: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """Twice, if the first one dies of it: the system may have ended it for its memory."""
        run = anyio.to_process.run_sync
        try:
            return await run(finished, work, args, limiter=self._limiter)
        except anyio.BrokenWorkerProcess:
            return await run(finished, work, args, limiter=self._limiter)


async def stepwise(steps: Generator[None, None, T]) -> T:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            made: T = end.value
            return made
        await checkpoint()


def finished(work: Callable[..., Generator[None, None, T]], args: tuple[Any, ...]) -> T:
    """In a worker, which leaves Ctrl-C to its parent, and ends when that has ended.

    Where processors are few, its parent's loop goes first.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
    keep_blocks_of_a_worker()
    parent, steps = os.getppid(), work(*args)
    while os.getppid() == parent:
        try:
            next(steps)
        except StopIteration as end:
            made: T = end.value
            return made
    sys.exit()
