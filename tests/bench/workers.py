"""The benefit of workers: parts of a stream flattened by two against one, and the cost of transfer.

The limit of two processes on this machine is measured with two that only count, because "two cores"
may be two halves of one, or shared with others.
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
from atlas.outside.journal.compression import compress
from tests.support import generator

PARTS, ROUNDS, COUNTED = 4, 20, 2_000_000
HEADER = rows.Header("auth0|ada", "iPhone", "2025-09-26T06:30:00.000Z", "2025-09-26T06:30:00.000Z")
MIB = 1024 * 1024


def measure() -> Iterator[tuple[str, str, str]]:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        best = anyio.run(measure_best, pool, backend_options={"use_uvloop": True})
    rate = PARTS * PART_BYTES / MIB
    yield "parts of 4 MiB, flattened and compressed", "", ""
    yield "  by one worker", f"{rate / best['one']:.0f} MiB/s", ""
    yield "  by two workers", f"{rate / best['two']:.0f} MiB/s", ""
    yield "  times one", f"{best['one'] / best['two']:.2f}", "1.7 or more"
    counting = 2 * best["one counts"] / best["two count"]
    yield "  two processes that only count, times one", f"{counting:.2f}", ""
    yield f"an export of {QUICK_BYTES_MAX // 1024} KiB, alone", "", ""
    yield "  on the event loop", f"{1e3 * best['here']:.1f} ms", ""
    yield "  in a worker, with the transfer", f"{1e3 * best['there']:.1f} ms", ""
    yield "  ... CPU time of the event loop", f"{1e3 * best['loop']:.1f} ms", ""


async def measure_best(pool: Pool) -> dict[str, float]:
    """Return the seconds that each takes, in its best round."""
    text = generator.export(8_000)
    part = text[: text.index(b"\n", PART_BYTES) + 1]
    export = text[: text.index(b"\n", QUICK_BYTES_MAX) + 1]
    one, two = WorkerExecutor(1), WorkerExecutor(2)
    best: dict[str, float] = defaultdict(lambda: float("inf"))

    @contextmanager
    def record_time(name: str, clock: Callable[[], float] = time.perf_counter) -> Iterator[None]:
        began = clock()
        yield
        best[name] = min(best[name], clock() - began)

    for _ in range(ROUNDS):
        with record_time("one counts"):
            pool.map(count, [COUNTED])
        with record_time("two count"):
            pool.map(count, [COUNTED] * 2, chunksize=1)
        with record_time("one"):
            await flatten_parts(one, part)
        with record_time("two"):
            await flatten_parts(two, part)
        with record_time("here"):
            await run_cooperatively(tabulate(export, HEADER, 1, compress))
        with record_time("there"), record_time("loop", time.process_time):
            await flatten_part(one, export)
    return best


def count(until: int) -> None:
    for _ in range(until):
        pass


async def flatten_parts(computing: WorkerExecutor, part: bytes) -> None:
    async with anyio.create_task_group() as tasks:
        for _ in range(PARTS):
            tasks.start_soon(flatten_part, computing, part)


async def flatten_part(computing: WorkerExecutor, text: bytes) -> None:
    await computing(len(text), tabulate, text, HEADER, 1, compress)
