"""The image in a container of 256 MB and one core: a fixed rate of exports, and a first sync.

`just image` builds the image first. Foundry, Auth0 and the senders run outside the container.
"""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import uvloop

from tests.bench.offer import Offer, offer
from tests.bench.processes import Process, start_process
from tests.bench.senders import RECORDS, Exports, Outcome, fetch_tokens, quantile
from tests.bench.sides import NO_LIMITS, build_environment, stubs
from tests.bench.sync import FILE, SAMPLES, SyncResult, run_sync, sample_memory
from tests.ship.container import CONFIG, JOURNAL, SMALL, volume
from tests.ship.image import NAME, caged, podman, version
from tests.support.generator import stream

LIMITS = [*SMALL, "--cpus=1"]
OFFERED = {"per-export": 150.0, "per-group": 300.0}
LATENCY, INTERVAL = 0.3, 1.0
SECONDS, WARM_SECONDS, ROUNDS = 60.0, 4.0, 2


@dataclass
class Container:
    """A running container: its URL and the pid of its main process."""

    name: str
    url: str
    pid: int


@contextmanager
def start_container(systems: Process, folder: Path, layout: str) -> Iterator[Container]:
    """Start a container with these limits and a new volume."""
    settings = NO_LIMITS | {"foundry.commit_interval_seconds": str(INTERVAL)}
    settings["foundry.file_layout"] = json.dumps(layout)
    with volume() as name:
        environ = build_environment(systems, folder, settings)
        mounts = [f"--volume={name}:/var/lib/atlas"]
        mounts += [f"--volume={environ['ATLAS_CONFIG']}:{CONFIG}:ro"]
        environ |= {"ATLAS_JOURNAL": JOURNAL, "ATLAS_CONFIG": CONFIG}
        options = [f"--env={key}={value}" for key, value in environ.items()]
        command = caged(f"--name={name}", *LIMITS, *mounts, *options, f"{NAME}:{version()}")
        with start_process(command) as ready:
            url = ready.url
            yield Container(name, url, int(podman("inspect", "--format={{.State.Pid}}", name)))


def measure_offer(layout: str, folder: Path) -> tuple[Outcome, float]:
    """Return the outcome for the senders, and the peak memory in MiB."""
    memory: list[float] = []
    with (
        stubs(LATENCY) as systems,
        start_container(systems, folder, layout) as container,
        sample_memory(container.pid, memory),
    ):
        exports = Exports(RECORDS, fetch_tokens(systems.first_line.split()[1]))
        load = Offer(OFFERED[layout], SECONDS, WARM_SECONDS)
        return uvloop.run(offer(container.url, exports, load)), max(memory)


def measure_sync(folder: Path) -> SyncResult:
    found = SyncResult()
    with (
        stubs(LATENCY) as systems,
        start_container(systems, folder, "auto") as container,
        sample_memory(container.pid, found.memory),
    ):
        anyio.run(run_sync, container.url, systems, folder, found)
    return found


def measure() -> Iterator[tuple[str, str, str]]:
    yield f"in a container: {' '.join(LIMITS)}, Foundry at {LATENCY} s a call", "", ""
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_FOLDER", Path.cwd())) as name:
        folder = Path(name)
        for layout, rate in OFFERED.items():
            several = [measure_offer(layout, folder) for _ in range(ROUNDS)]
            best, memory = min(
                several, key=lambda each: (-each[0].safe_share, quantile(each[0].latencies, 0.99))
            )
            yield f"  {layout}: {RECORDS} records, offered", f"{rate:.0f}/s", ""
            yield "    answered 200", f"{best.rate:.1f}/s", f"{rate:.0f}/s"
            yield "    failed", f"{1 - best.safe_share:.1%}", "none"
            yield (
                "    p99 until the answer, memory",
                f"{p99(best):.2f} s, {memory:.0f} MiB",
                "",
            )
        with (folder / FILE).open("wb") as file:
            file.writelines(stream(SAMPLES))
        found = measure_sync(folder)
        yield f"  first sync of {SAMPLES:,} samples", f"{found.seconds:.0f} s", ""
        yield "    memory", f"{max(found.memory):.0f} MiB", "256 MB"
        yield "    other clients: failed", f"{1 - found.others.safe_share:.1%}", "none"


def p99(outcome: Outcome) -> float:
    return quantile(outcome.latencies, 0.99)
