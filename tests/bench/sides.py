"""Sides of a benchmark (the service of a checkout, or a floor), and the measurement of one window.

Each window starts everything again: Foundry and Auth0, the service, and senders without
pauses. CPU time is that of each process between two answers.
"""

import asyncio
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import uvloop

from tests.bench.processes import (
    Process,
    list_children,
    measure_cpu_seconds,
    measure_pss,
    start_process,
)
from tests.bench.senders import (
    RECORDS,
    USERS,
    Exports,
    Fleet,
    Outcome,
    fetch_tokens,
    raise_descriptors,
)

HERE = Path(__file__).resolve().parents[2]
FLOORS = ("durable", "codec", "echo")
SECONDS, WARM_SECONDS, SILENT_SECONDS = 5.0, 2.0, 60.0
CONNECTIONS, SAMPLE_SECONDS = 64, 0.25
NO_LIMITS = {"foundry.uploads_at_once": "396", "foundry.requests_per_minute": "1000000"}
DISTURBED_SECONDS = 2.0
LARGE_RECORDS = 20_000  # more records exceed the default limits
LARGE_LIMITS = {
    "edge.body_bytes_max": "134217728",
    "edge.flight_bytes_max": "268435456",
    "edge.flight_bytes_max_of_user": "134217728",
    "export.bytes_max": "67108864",
}


@dataclass(frozen=True, eq=False)
class Side:
    """A service with its settings other than the defaults: `section.name` and a TOML value."""

    name: str
    repo: Path = HERE
    floor: str = ""
    is_node: bool = False  # the plain service, with a lax Foundry
    settings: Mapping[str, str] = field(default_factory=dict)
    prefer: str = ""
    journal: Path | None = None  # the initial journal

    @property
    def command(self) -> tuple[list[str | Path], Path]:
        """The command, and the folder to run it in."""
        if self.is_node:
            return ["node", HERE / "tests/bench/plain.mjs"], HERE
        if self.floor:
            return [sys.executable, "-m", "tests.bench.floor", self.floor], HERE
        return [sys.executable, "-m", "atlas", "serve"], self.repo


@dataclass(frozen=True)
class Load:
    """Senders without pauses, and the duration."""

    connections: int = CONNECTIONS
    records: int = RECORDS
    seconds: float = SECONDS
    warm_seconds: float = WARM_SECONDS
    is_disturbed: bool = False  # occupy all cores for a moment before the window
    users: int = USERS


@dataclass
class Cost:
    """Figures of one window. CPU seconds are those of each process within it."""

    outcome: Outcome
    service: float = 0.0
    workers: float = 0.0
    stubs: float = 0.0
    senders: float = 0.0
    memory: list[float] = field(default_factory=list)  # MiB
    committed: dict[str, int] = field(default_factory=dict)  # Foundry's counts
    start_seconds: float = 0.0  # until the service was ready

    def per_export(self, seconds: float) -> float:
        """Return milliseconds per export."""
        return 1e3 * seconds / max(1, self.outcome.safe_count)

    @property
    def milliseconds(self) -> float:
        """CPU time per export of the service without its workers."""
        return self.per_export(self.service)


@contextmanager
def stubs(latency_seconds: float = 0.0, *, is_lax: bool = False) -> Iterator[Process]:
    """Start the stubs of Foundry and Auth0; the first line has both addresses."""
    command = [sys.executable, "-m", "tests.bench.stubs", str(latency_seconds)]
    command += ["--lax"] if is_lax else []
    with start_process(
        command, {"PYTHONPATH": str(HERE)}, folder=HERE, is_signalled=False
    ) as found:
        yield found


def build_environment(
    systems: Process, folder: Path, settings: Mapping[str, str]
) -> dict[str, str]:
    """Build the environment of a service that uses these stubs, with all its files in this folder.

    A few users represent thousands, so the request limit per user is off.
    """
    foundry, auth0 = systems.first_line.split()
    sections: dict[str, list[str]] = {}
    for name, value in {"edge.rate_per_minute": "0", **settings}.items():
        section, _, key = name.partition(".")
        sections.setdefault(section, []).append(f"{key} = {value}")
    toml = "\n".join("\n".join([f"[{name}]", *lines]) for name, lines in sections.items())
    config = folder / "bench.toml"
    config.write_text(toml, encoding="utf-8")
    journal = {"ATLAS_JOURNAL": f"sqlite:///{folder}/journal.db"}
    return {
        **({} if "journal.url" in settings else journal),
        "ATLAS_CONFIG": str(config),
        "AUTH0_ISSUER": f"{auth0}/",
        "FOUNDRY_HOST": foundry,
        "FOUNDRY_CLIENT_ID": "local",
        "FOUNDRY_CLIENT_SECRET": "local-secret",
        "PORT": "0",
        "ATLAS_OPERATOR_LISTEN": "127.0.0.1:0",
    }


@contextmanager
def disk_folder() -> Iterator[Path]:
    """Create a folder on disk, for a journal."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_FOLDER", Path.cwd())) as name:
        yield Path(name)


@contextmanager
def start_side(side: Side, systems: Process, folder: Path) -> Iterator[Process]:
    """Start the side and wait until it is ready; its first line ends with its address."""
    environ = build_environment(systems, folder, side.settings)
    if side.journal is not None:
        for file in side.journal.parent.glob(f"{side.journal.name}*"):
            shutil.copy(file, folder / file.name.replace(side.journal.name, "journal.db"))
    command, place = side.command
    environ["PYTHONPATH"] = str(place)
    with start_process(command, environ, folder=place) as found:
        yield found


def measure_cost(side: Side, load: Load) -> Cost:
    """Start everything, measure one window, and end everything."""
    raise_descriptors()
    if load.records > LARGE_RECORDS:
        side = replace(side, settings={**LARGE_LIMITS, **side.settings})
    with disk_folder() as folder, stubs(is_lax=side.is_node) as systems:
        tokens = fetch_tokens(systems.first_line.split()[1], load.users)
        exports = Exports(load.records, tokens, side.prefer)
        with start_side(side, systems, folder) as service:
            url = service.url
            cost = uvloop.run(measure_window(url, exports, load, service.pid, systems.pid))
    cost.start_seconds = service.start_seconds
    cost.committed = json.loads(systems.output)
    return cost


async def measure_window(
    url: str, exports: Exports, load: Load, service: int, systems: int
) -> Cost:
    """Measure a window that begins and ends with an answer, after the warm-up."""
    fleet = Fleet(url, exports)
    fleet.send_without_pauses(load.connections)
    await asyncio.sleep(load.warm_seconds)
    if load.is_disturbed:
        await disturb()
    await fleet.wait_for_answer(SILENT_SECONDS)
    loop = asyncio.get_running_loop()
    began, before = loop.time(), measure_cpu(service, systems)
    fleet.outcome, cost = Outcome(), Cost(Outcome())
    while (left := began + load.seconds - loop.time()) > 0:
        await asyncio.sleep(min(left, SAMPLE_SECONDS))
        cost.memory.append(sum(map(measure_pss, [service, *list_children(service)])))
    await fleet.wait_for_answer(SILENT_SECONDS)
    cost.outcome, fleet.outcome, fleet.is_over = fleet.outcome, Outcome(), True
    cost.outcome.seconds = loop.time() - began
    after = measure_cpu(service, systems)
    cost.service, cost.workers, cost.stubs, cost.senders = (
        end - start for start, end in zip(before, after, strict=True)
    )
    await fleet.close()
    return cost


async def disturb() -> None:
    """Occupy all cores for a moment, and give the service the same time to recover."""
    busy = f"import time; end = time.time() + {DISTURBED_SECONDS}\nwhile time.time() < end: pass"
    commands = [(sys.executable, "-c", busy)] * (os.cpu_count() or 1)
    others = [await asyncio.create_subprocess_exec(*command) for command in commands]
    for other in others:
        await other.wait()
    await asyncio.sleep(DISTURBED_SECONDS)


def measure_cpu(service: int, systems: int) -> Sequence[float]:
    """Return the CPU seconds so far of the service, its workers, the stubs and the senders."""
    workers = sum(map(measure_cpu_seconds, list_children(service)))
    return [
        measure_cpu_seconds(service),
        workers,
        *map(measure_cpu_seconds, (systems, os.getpid())),
    ]
