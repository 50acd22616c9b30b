"""Sides of a bench, a service out of any checkout or a floor, and how one window is measured.

Everything is started afresh: Foundry and Auth0, the service, and senders that never rest. Processor
time is what Linux books to each process between two answers.
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

from tests.bench.processes import Process, children, process, processor_seconds, pss_mib
from tests.bench.senders import RECORDS, Exports, Fleet, Outcome, fetch_tokens, raise_descriptors

HERE = Path(__file__).resolve().parents[2]
FLOORS = ("durable", "codec", "echo")
SECONDS, WARM_SECONDS, SILENT_SECONDS = 5.0, 2.0, 60.0
CONNECTIONS, SAMPLE_SECONDS = 64, 0.25
NO_LIMITS = {"foundry.uploads_at_once": "396", "foundry.requests_per_minute": "1000000"}
DISTURBED_SECONDS = 2.0
ROOM_RECORDS = 20_000  # more need more room than an export has by default
ROOM = {
    "edge.body_bytes_max": "134217728",
    "edge.flight_bytes_max": "268435456",
    "edge.flight_bytes_max_of_user": "134217728",
    "export.bytes_max": "67108864",
}


@dataclass(frozen=True, eq=False)
class Side:
    """A service, and its settings beyond the defaults: `section.name` and a TOML value."""

    name: str
    repo: Path = HERE
    floor: str = ""
    is_node: bool = False  # the plain service, beside a Foundry that lets it
    settings: Mapping[str, str] = field(default_factory=dict)
    prefer: str = ""
    journal: Path | None = None  # to begin with

    @property
    def command(self) -> tuple[list[str | Path], Path]:
        """With the folder to run it in."""
        if self.is_node:
            return ["node", HERE / "tests/bench/plain.mjs"], HERE
        if self.floor:
            return [sys.executable, "-m", "tests.bench.floor", self.floor], HERE
        return [sys.executable, "-m", "atlas", "serve"], self.repo


@dataclass(frozen=True)
class Load:
    """Senders that never rest, for so long."""

    connections: int = CONNECTIONS
    records: int = RECORDS
    seconds: float = SECONDS
    warm_seconds: float = WARM_SECONDS
    is_disturbed: bool = False  # before the window, others take all cores for a moment


@dataclass
class Cost:
    """Figures of one window. Seconds of the processor are those of a process in it."""

    outcome: Outcome
    service: float = 0.0
    workers: float = 0.0
    far_ends: float = 0.0
    senders: float = 0.0
    memory: list[float] = field(default_factory=list)  # MiB
    committed: dict[str, int] = field(default_factory=dict)  # while the service ran
    start_seconds: float = 0.0  # until it was ready

    def per_export(self, seconds: float) -> float:
        """Milliseconds."""
        return 1e3 * seconds / max(1, self.outcome.answered)

    @property
    def milliseconds(self) -> float:
        """Processor time of the service without its workers, for one export."""
        return self.per_export(self.service)


@contextmanager
def far_ends(latency_seconds: float = 0.0, *, is_lax: bool = False) -> Iterator[Process]:
    """Foundry and Auth0: the first line has both addresses."""
    command = [sys.executable, "-m", "tests.bench.far_ends", str(latency_seconds)]
    command += ["--lax"] if is_lax else []
    with process(command, {"PYTHONPATH": str(HERE)}, folder=HERE, is_signalled=False) as found:
        yield found


def environment(far: Process, folder: Path, settings: Mapping[str, str]) -> dict[str, str]:
    """The environment of a service between these far ends, with all its files in this folder.

    Few senders stand for thousands of phones, so the limit of requests of one user is off.
    """
    foundry, auth0 = far.said.split()
    sections: dict[str, list[str]] = {}
    for name, value in {"edge.rate_per_minute": "0", **settings}.items():
        section, _, key = name.partition(".")
        sections.setdefault(section, []).append(f"{key} = {value}")
    toml = "\n".join("\n".join([f"[{name}]", *lines]) for name, lines in sections.items())
    config = folder / "bench.toml"
    config.write_text(toml, encoding="utf-8")
    return {
        "ATLAS_CONFIG": str(config),
        "AUTH0_ISSUER": f"{auth0}/",
        "FOUNDRY_HOST": foundry,
        "FOUNDRY_CLIENT_ID": "local",
        "FOUNDRY_CLIENT_SECRET": "local-secret",
        "PORT": "0",
        "ATLAS_OPERATOR_LISTEN": "127.0.0.1:0",
        "ATLAS_JOURNAL": f"sqlite:///{folder}/journal.db",
    }


@contextmanager
def disk() -> Iterator[Path]:
    """A folder on the machine's disk, for a journal."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_FOLDER", Path.cwd())) as name:
        yield Path(name)


@contextmanager
def serving(side: Side, far: Process, folder: Path) -> Iterator[Process]:
    """The side, until it is reached: its first line ends in its address."""
    environ = environment(far, folder, side.settings)
    if side.journal is not None:
        for file in side.journal.parent.glob(f"{side.journal.name}*"):
            shutil.copy(file, folder / file.name.replace(side.journal.name, "journal.db"))
    command, place = side.command
    environ["PYTHONPATH"] = str(place)
    with process(command, environ, folder=place) as found:
        yield found


def measure_cost(side: Side, load: Load) -> Cost:
    """Everything started afresh, and ended."""
    raise_descriptors()
    if load.records > ROOM_RECORDS:
        side = replace(side, settings={**ROOM, **side.settings})
    with disk() as folder, far_ends(is_lax=side.is_node) as far:
        tokens = fetch_tokens(far.said.split()[1])
        exports = Exports(load.records, tokens, side.prefer)
        with serving(side, far, folder) as service:
            url = service.said.removeprefix("ready ")
            cost = uvloop.run(measured(url, exports, load, service.pid, far.pid))
    cost.start_seconds = service.start_seconds
    cost.committed = json.loads(far.last_words)
    return cost


async def measured(url: str, exports: Exports, load: Load, service: int, far: int) -> Cost:
    """A window that begins and ends with an answer, behind the time to get warm."""
    fleet = Fleet(url, exports)
    fleet.never_rest(load.connections)
    await asyncio.sleep(load.warm_seconds)
    if load.is_disturbed:
        await disturb()
    await fleet.next_answer(SILENT_SECONDS)
    loop = asyncio.get_running_loop()
    began, before = loop.time(), processors(service, far)
    fleet.outcome, cost = Outcome(), Cost(Outcome())
    while (left := began + load.seconds - loop.time()) > 0:
        await asyncio.sleep(min(left, SAMPLE_SECONDS))
        cost.memory.append(sum(map(pss_mib, [service, *children(service)])))
    await fleet.next_answer(SILENT_SECONDS)
    cost.outcome, fleet.outcome, fleet.is_over = fleet.outcome, Outcome(), True
    cost.outcome.seconds = loop.time() - began
    after = processors(service, far)
    cost.service, cost.workers, cost.far_ends, cost.senders = (
        end - start for start, end in zip(before, after, strict=True)
    )
    await fleet.close()
    return cost


async def disturb() -> None:
    """Take all cores for a moment, and give the service as long to recover."""
    busy = f"import time; end = time.time() + {DISTURBED_SECONDS}\nwhile time.time() < end: pass"
    commands = [(sys.executable, "-c", busy)] * (os.cpu_count() or 1)
    others = [await asyncio.create_subprocess_exec(*command) for command in commands]
    for other in others:
        await other.wait()
    await asyncio.sleep(DISTURBED_SECONDS)


def processors(service: int, far: int) -> Sequence[float]:
    """Seconds of the service, its workers, the far ends and the senders so far."""
    workers = sum(map(processor_seconds, children(service)))
    return [processor_seconds(service), workers, *map(processor_seconds, (far, os.getpid()))]
