"""A first sync of several years, streamed through one small service while other clients go on.

Four processes: the sender, the service with its workers, the stubs, and the other clients. Memory
is the PSS of the service and its workers, sampled twice a second.
"""

import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import anyio

from atlas.core.identifiers import API_PREFIX
from tests.bench.processes import Process, list_children, measure_pss, start_process
from tests.bench.senders import (
    RECORDS,
    Exports,
    Fleet,
    Outcome,
    fetch_token,
    fetch_tokens,
    quantile,
)
from tests.bench.sides import build_environment, stubs
from tests.support.generator import stream

SAMPLES, FILE = 2_200_000, "sync.ndjson"
LATENCY, INTERVAL = 0.3, 1.0
IDLE_SECONDS, DAILY_A_SECOND = 5.0, 5.0
SAMPLE_SECONDS = 0.5
NEWEST = 20  # parts


def measure(samples: int = SAMPLES) -> Iterator[tuple[str, str, str]]:
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_FOLDER", Path.cwd())) as name:
        folder = Path(name)
        with (folder / FILE).open("wb") as file:
            file.writelines(stream(samples))
            size = file.tell()
        found = measure_sync(folder)
    yield f"a first sync of {samples:,} samples, {size / 1e9:.2f} GB, streamed as gzip", "", ""
    yield "  until its last commit", f"{found.seconds:.0f} s", "90 s or less"
    yield "  transactions", f"{found.transactions}", "60 or less"
    yield "  memory of the service and its workers", f"{max(found.memory):.0f} MiB", "256 MiB"
    yield "  ... every ten seconds", ", ".join(f"{each:.0f}" for each in found.memory[::20]), ""
    yield "  other clients: failed", f"{1 - found.others.safe_share:.1%}", "none"
    yield (
        "  other clients: p99 until a 200",
        f"{quantile(found.others.latencies, 0.99):.2f} s",
        "3 s or less",
    )
    idle, busy = found.lateness
    yield (
        "  delay of the event loop, 99.9th percentile",
        f"{busy:.1f} ms, {busy / idle:.0f} times idle",
        "20 times idle or less",
    )


@dataclass
class SyncResult:
    seconds: float = 0.0
    transactions: int = 0
    memory: list[float] = field(default_factory=list)
    others: Outcome = field(default_factory=Outcome)
    lateness: tuple[float, float] = (0.0, 0.0)


def measure_sync(folder: Path) -> SyncResult:
    found = SyncResult()
    settings = {"foundry.commit_interval_seconds": str(INTERVAL)}
    with stubs(LATENCY) as systems:
        environ = build_environment(systems, folder, settings)
        command = [sys.executable, "-m", "tests.bench.serve_with_delay", str(IDLE_SECONDS)]
        with start_process(command, environ) as atlas:
            time.sleep(IDLE_SECONDS)
            with sample_memory(atlas.pid, found.memory):
                anyio.run(run_sync, atlas.first_line, systems, folder, found)
        found.lateness = tuple(map(float, atlas.output.split()))  # type: ignore[assignment]
    found.transactions = json.loads(systems.output)["transactions"]
    return found


async def run_sync(url: str, systems: Process, folder: Path, found: SyncResult) -> None:
    auth0 = systems.first_line.split()[1]
    token, exports = fetch_token(auth0, "auth0|years"), Exports(RECORDS, fetch_tokens(auth0))

    async def others() -> None:
        fleet = Fleet(url, exports)
        while not is_over.is_set():
            found.others.add(await fleet.offer(DAILY_A_SECOND, 1.0))
        await fleet.close()

    is_over = anyio.Event()
    began = time.perf_counter()
    atlas = str(Path(sys.executable).with_name("atlas"))
    command = [atlas, "send", str(folder / FILE), "--to", url, "--stream"]
    environ = os.environ | {"ATLAS_TOKEN": token}
    async with (
        await anyio.open_process(command, env=environ, stderr=None) as sender,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(others)
        assert sender.stdout is not None
        said = (await sender.stdout.receive()).decode()
        await wait_until_committed(url, token)
        found.seconds = time.perf_counter() - began
        is_over.set()
    assert " 0 rejected" in said, said
    assert "not sent" not in said, said


async def wait_until_committed(url: str, token: str) -> None:
    """Wait until the newest parts are committed; then all are, because the oldest are committed
    first.
    """
    headers = {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        while True:
            async with session.get(f"{url}{API_PREFIX}/exports?limit={NEWEST}") as answer:
                page = await answer.json()
            if all(each["status"] == "committed" for each in page["receipts"]):
                return
            await anyio.sleep(0.2)


@contextmanager
def sample_memory(pid: int, memory: list[float]) -> Iterator[None]:
    over = threading.Event()

    def sample() -> None:
        while not over.wait(SAMPLE_SECONDS):
            memory.append(sum(map(measure_pss, [pid, *list_children(pid)])))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
