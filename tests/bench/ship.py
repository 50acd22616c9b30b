"""The image in a container of 256 MB and one core: exports at a rate, and a first sync.

`just image` builds the image first. Foundry, Auth0 and the senders are outside of the container.
"""

import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio

from tests.bench import load
from tests.bench.load import Outcome, Senders
from tests.bench.service import MEMORY, beside, process, write_settings
from tests.bench.sync import FILE, SAMPLES, Synced, sampled, through
from tests.generator import stream
from tests.ship.container import CONFIG, JOURNAL, SMALL, volume
from tests.ship.image import NAME, caged, podman, version

LIMITS = [*SMALL, "--cpus=1"]
OFFERED = {"per-export": 150.0, "per-group": 300.0}
LATENCY, INTERVAL = 0.3, 1.0
SECONDS, WARM_SECONDS, ROUNDS = 60.0, 4.0, 2


@dataclass
class Shipped:
    """A container that runs: where it answers, and its first process."""

    name: str
    url: str
    pid: int


@contextmanager
def container(foundry: str, auth0: str, folder: Path, environ: dict[str, str]) -> Iterator[Shipped]:
    """In those limits, with a volume of its own."""
    with volume() as name:
        environ = beside(foundry, auth0, "", INTERVAL) | environ
        environ |= {"ATLAS_JOURNAL": JOURNAL, "ATLAS_CONFIG": CONFIG}
        mounts = [f"--volume={name}:/var/lib/atlas"]
        mounts += [f"--volume={write_settings(str(folder))}:{CONFIG}:ro"]
        said = [f"--env={key}={value}" for key, value in environ.items()]
        command = caged(f"--name={name}", *LIMITS, *mounts, *said, f"{NAME}:{version()}")
        with process(command, {}, folder / "log") as ready:
            url = ready.said.removeprefix("ready ")
            yield Shipped(name, url, int(podman("inspect", "--format={{.State.Pid}}", name)))


@contextmanager
def far_ends() -> Iterator[Sequence[str]]:
    """The addresses of Foundry and Auth0."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as foundrys:
        command = [sys.executable, "-m", "tests.bench.standins", foundrys, str(LATENCY)]
        with process(command, {}) as said:
            yield said.said.split()


def offered(layout: str, folder: Path) -> tuple[Outcome, float]:
    """What senders meet, and the memory at most, in MiB."""

    async def work(senders: Senders) -> Outcome:
        await senders.offer(OFFERED[layout], WARM_SECONDS)
        return await senders.offer(OFFERED[layout], SECONDS)

    memory: list[float] = []
    with (
        far_ends() as (foundry, auth0),
        container(foundry, auth0, folder, {"ATLAS_FILE_LAYOUT": layout}) as box,
        sampled(box.pid, memory),
    ):
        run, uvloop = load.run, {"use_uvloop": True}
        return anyio.run(run, box.url, auth0, work, backend_options=uvloop), max(memory)


def synced(folder: Path) -> Synced:
    found = Synced()
    with (
        far_ends() as (foundry, auth0),
        container(foundry, auth0, folder, {}) as box,
        sampled(box.pid, found.memory),
    ):
        anyio.run(through, box.url, auth0, folder, found)
    return found


def measure() -> Iterator[tuple[str, str, str]]:
    yield f"in a container: {' '.join(LIMITS)}, Foundry at {LATENCY} s a call", "", ""
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_FOLDER", Path.cwd())) as name:
        folder = Path(name)
        for layout, rate in OFFERED.items():
            several = [offered(layout, folder) for _ in range(ROUNDS)]
            best, memory = min(several, key=lambda each: (each[0].failed, each[0].p99))
            yield f"  {layout}: {load.RECORDS} records, offered", f"{rate:.0f}/s", ""
            yield "    answered 200", f"{best.rate:.1f}/s", f"{rate:.0f}/s"
            yield "    failed", f"{best.failed:.1%}", "none"
            yield "    p99 from due to answered, memory", f"{best.p99:.2f} s, {memory:.0f} MiB", ""
        with (folder / FILE).open("wb") as file:
            file.writelines(stream(SAMPLES))
        found = synced(folder)
        yield f"  first sync of {SAMPLES:,} samples", f"{found.seconds:.0f} s", ""
        yield "    memory", f"{max(found.memory):.0f} MiB", "256 MB"
        yield "    other phones: failed", f"{found.others.failed:.1%}", "none"
