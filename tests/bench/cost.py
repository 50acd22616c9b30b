"""What an export costs: one side, once. `python -m tests.bench.cost --help`.

The service runs from any checkout (`--repo`), beside senders and a Foundry that are not the
bottleneck. Its figures are its processor time and that of its workers, the rate, the latency, and
its memory; the senders' and the stub's own cost is told beside them.
"""

import argparse
import asyncio
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

from tests.bench.processes import Process, children, process, processor_seconds, pss_mib
from tests.bench.senders import (
    RECORDS,
    Exports,
    Fleet,
    Outcome,
    fetch_tokens,
    quantile,
    raise_descriptors,
)

HERE = Path(__file__).resolve().parents[2]
FLOORS = ("durable", "codec", "echo")
SECONDS, WARM_SECONDS, SILENT_SECONDS = 5.0, 2.0, 60.0
CONNECTIONS = 64
NO_LIMITS = {"foundry.uploads_at_once": "396", "foundry.requests_per_minute": "1000000"}
DEFAULTS = "default"


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
    await fleet.next_answer(SILENT_SECONDS)
    loop = asyncio.get_running_loop()
    began, before = loop.time(), processors(service, far)
    fleet.outcome, cost = Outcome(), Cost(Outcome())
    while (left := began + load.seconds - loop.time()) > 0:
        await asyncio.sleep(min(left, 1.0))
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


def processors(service: int, far: int) -> Sequence[float]:
    """Seconds of the service, its workers, the far ends and the senders so far."""
    workers = sum(map(processor_seconds, children(service)))
    return [processor_seconds(service), workers, *map(processor_seconds, (far, os.getpid()))]


def describe(side: Side, load: Load, cost: Cost) -> str:
    outcome, records = cost.outcome, load.records
    sent = max(1, outcome.statuses.total())
    whole = cost.service + cost.workers
    per_record = 1e6 * whole / max(1, outcome.answered * records)
    statuses = " ".join(f"{status}:{count}" for status, count in sorted(outcome.statuses.items()))
    lines = [
        (
            f"{side.name}: {load.connections} connections x {records} records, "
            f"{outcome.seconds:.1f} s, {side.repo}"
        ),
        (
            f"exports/s {outcome.rate:.1f}   records/s {outcome.rate * records:,.0f}   "
            f"safe {outcome.share:.1%}   [{statuses}]"
        ),
        (
            f"CPU per export: service {cost.milliseconds:.3f} ms, workers "
            f"{cost.per_export(cost.workers):.3f} ms; per record, both: {per_record:.1f} µs; "
            f"cores {whole / outcome.seconds:.2f}"
        ),
        f"latency {quantiles(outcome.took)}   PSS max {max(cost.memory):.0f} MiB",
        f"refusals/s {outcome.refusals:.1f}   {quantiles(outcome.refused)}",
        (
            f"senders {1e6 * cost.senders / sent:.0f} µs a request, far ends "
            f"{1e3 * cost.per_export(cost.far_ends):.0f} µs an export; {cost.committed}"
        ),
    ]
    return "\n  ".join(lines)


def quantiles(seconds: list[float]) -> str:
    return "   ".join(f"p{100 * q:.0f} {1e3 * quantile(seconds, q):.1f} ms" for q in (0.5, 0.99))


def side_of(asked: argparse.Namespace) -> Side:
    """Settings as they were asked for; Foundry's limits of calls are off unless they are wanted."""
    settings = {} if asked.limits else dict(NO_LIMITS)
    if asked.layout != "auto":
        settings["foundry.file_layout"] = json.dumps(asked.layout)
    if asked.interval != DEFAULTS:
        settings["foundry.commit_interval_seconds"] = str(float(asked.interval))
    for text in asked.set:
        name, _, value = text.partition("=")
        settings[name] = value if is_plain_toml(value) else json.dumps(value)
    name = f"floor, {asked.floor}" if asked.floor else f"{asked.layout} {asked.prefer}".strip()
    return Side(
        "plain service in Node" if asked.node else name,
        asked.repo.resolve(),
        asked.floor or "",
        asked.node,
        settings,
        asked.prefer,
        asked.journal,
    )


def is_plain_toml(value: str) -> bool:
    """Whether it stands in TOML as it is: a number, true, false, a list, a quoted text."""
    is_number = value.replace("_", "").replace(".", "", 1).removeprefix("-").isdigit()
    return is_number or value in {"true", "false"} or value.startswith(("[", '"', "'"))


def parser() -> argparse.ArgumentParser:
    asked = argparse.ArgumentParser("python -m tests.bench.cost", description=__doc__)
    add = asked.add_argument
    add("--repo", type=Path, default=HERE, help="a checkout of Atlas (default: this one)")
    add("--floor", choices=FLOORS, help="the floor instead of a service")
    add("--node", action="store_true", help="the plain service in Node instead")
    add("--seconds", type=float, default=SECONDS)
    add("--warm-seconds", type=float, default=WARM_SECONDS)
    add("--connections", type=int, default=CONNECTIONS)
    add("--records", type=int, default=RECORDS)
    add("--layout", choices=("auto", "per-export", "per-group"), default="auto")
    add("--prefer", default="", help="a Prefer header: respond-async")
    add("--interval", default="0", help="seconds between commits, or 'default'")
    add("--limits", action="store_true", help="keep the default limits of calls to Foundry")
    add("--journal", type=Path, help="a journal to begin with; it is copied")
    add("--set", action="append", default=[], metavar="SECTION.NAME=VALUE")
    add("--rounds", type=int, default=1, help="run it so often; each is told")
    return asked


def main() -> None:
    asked = parser().parse_args()
    load = Load(asked.connections, asked.records, asked.seconds, asked.warm_seconds)
    side = side_of(asked)
    for _ in range(asked.rounds):
        print(describe(side, load, measure_cost(side, load)), flush=True)


if __name__ == "__main__":
    main()
