"""What workers are worth: parts of a stream flattened by two, against one; and the way to them.

What two processes can be at best, here and now, is told by two that only count: a machine of
"two cores" may have two halves of one, or others on it.
"""

import multiprocessing
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.pool import Pool

import anyio

from atlas.actors.flatten import tabulate
from atlas.computing import QUICK_BYTES_MAX, WorkerExecutor, run_cooperatively
from atlas.core import rows
from atlas.core.stream_splitter import PART_BYTES
from atlas.outside.sqlite.compression import compress
from tests.support import generator

PARTS, ROUNDS, COUNTED = 4, 20, 2_000_000
HEADER = rows.Header("auth0|ada", "iPhone", "2025-09-26T06:30:00.000Z", "2025-09-26T06:30:00.000Z")
MIB = 1024 * 1024


def measure() -> Iterator[tuple[str, str, str]]:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        best = anyio.run(best_of, pool, backend_options={"use_uvloop": True})
    rate = PARTS * PART_BYTES / MIB
    yield "parts of 4 MiB, flattened and packed", "", ""
    yield "  by one worker", f"{rate / best['one']:.0f} MiB/s", ""
    yield "  by two workers", f"{rate / best['two']:.0f} MiB/s", ""
    yield "  times one", f"{best['one'] / best['two']:.2f}", "1.7 or more"
    counting = 2 * best["one counts"] / best["two count"]
    yield "  two processes that only count, times one", f"{counting:.2f}", ""
    yield f"an export of {QUICK_BYTES_MAX // 1024} KiB, alone", "", ""
    yield "  flattened here", f"{1e3 * best['here']:.1f} ms", ""
    yield "  in a worker, with the way there and back", f"{1e3 * best['there']:.1f} ms", ""
    yield "  ... of the loop's own time", f"{1e3 * best['loop']:.1f} ms", ""


async def best_of(pool: Pool) -> dict[str, float]:
    """The seconds that each takes, in the best round."""
    text = generator.export(8_000)
    part = text[: text.index(b"\n", PART_BYTES) + 1]
    export = text[: text.index(b"\n", QUICK_BYTES_MAX) + 1]
    one, two = WorkerExecutor(1), WorkerExecutor(2)
    best: dict[str, float] = defaultdict(lambda: float("inf"))

    @contextmanager
    def timed(name: str, clock: Callable[[], float] = time.perf_counter) -> Iterator[None]:
        began = clock()
        yield
        best[name] = min(best[name], clock() - began)

    for _ in range(ROUNDS):
        with timed("one counts"):
            pool.map(count, [COUNTED])
        with timed("two count"):
            pool.map(count, [COUNTED] * 2, chunksize=1)
        with timed("one"):
            await at_once(one, part)
        with timed("two"):
            await at_once(two, part)
        with timed("here"):
            await run_cooperatively(tabulate(export, HEADER, 1, compress))
        with timed("there"), timed("loop", time.process_time):
            await flattened(one, export)
    return best


def count(until: int) -> None:
    for _ in range(until):
        pass


async def at_once(computing: WorkerExecutor, part: bytes) -> None:
    async with anyio.create_task_group() as tasks:
        for _ in range(PARTS):
            tasks.start_soon(flattened, computing, part)


async def flattened(computing: WorkerExecutor, text: bytes) -> None:
    await computing(len(text), tabulate, text, HEADER, 1, compress)
