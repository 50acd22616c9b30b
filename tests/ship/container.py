"""The service as a container, driven by `just prove` like a process."""

import re
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path

from tests.chaos.failpoints import Failpoint
from tests.chaos.service_process import Configuration, ServiceProcess
from tests.chaos.trial_environment import SCALES, TrialEnvironment, open_testbed
from tests.ship.image import Failed, Image, caged, podman, run

JOURNAL = "sqlite:////var/lib/atlas/journal.db"
CONFIG = "/etc/atlas/atlas.toml"
SMALL = "--memory=256m", "--memory-swap=256m"


class Container(ServiceProcess):
    """A sequence of containers that share one volume."""

    def __init__(
        self, folder: Path, settings: Configuration, name: str, image: Image, limits: Sequence[str]
    ) -> None:
        self._image = image.name
        self._limits = limits
        self.name = name
        super().__init__(folder, settings)
        self.configure("journal", url=JOURNAL)

    def build_command(self, failpoint: Failpoint | None) -> list[str]:
        assert failpoint is None, "failpoints are not part of the shipped image"
        mounts = ["--volume", f"{self.name}:/var/lib/atlas"]
        mounts += ["--volume", f"{self.file}:{CONFIG}:ro"]
        named = [f"--name={self.name}", *self._limits, *mounts, self._image]
        return caged(*named, "serve", "--config", CONFIG)

    async def kill(self) -> None:
        """Send SIGKILL to the process in the container; one to podman would not reach it."""
        with suppress(Failed):  # it has already exited
            podman("kill", "--signal", "KILL", self.name)
        if self._process is not None:
            await self._process.wait()

    def measure_peak_memory(self) -> float:
        """Return the peak memory of its cgroup since it was started."""
        pid = podman("inspect", "--format", "{{.State.Pid}}", self.name)
        text = Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8")
        if found := re.search(r":memory:(.+)", text):
            peak = Path(f"/sys/fs/cgroup/memory{found[1]}/memory.max_usage_in_bytes")
        else:
            peak = Path(f"/sys/fs/cgroup{text.strip().rpartition(':')[2]}/memory.peak")
        return int(peak.read_text(encoding="utf-8")) / 1024 / 1024


def run_inside(image: Image, *words: str) -> str:
    """Run a command in a new container and return its output. Raises Failed."""
    return run(*caged(f"--entrypoint={words[0]}", image.name, *words[1:]))


@contextmanager
def volume() -> Iterator[str]:
    """Create an empty volume with a unique name, which a container may share."""
    name = f"atlas-{uuid.uuid4().hex[:12]}"
    podman("volume", "create", name)
    try:
        yield name
    finally:
        with suppress(Failed):
            podman("rm", "--force", name)
        podman("volume", "rm", "--force", name)


@asynccontextmanager
async def open_container_testbed(
    image: Image, seed: str, *limits: str, scale: str = "ci", **changes: Mapping[str, object]
) -> AsyncIterator[tuple[TrialEnvironment, Container]]:
    """Open a testbed of `just prove` whose service is a container, not started yet."""
    with volume() as name:
        subject = partial(Container, name=name, image=image, limits=limits)
        async with open_testbed(SCALES[scale], seed, changes, subject) as bench:
            assert isinstance(bench.atlas, Container)
            yield bench, bench.atlas
