"""The bench of one trial: stand-ins, the service, phones and the oracle, all of them fresh."""

import math
import random
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import anyio

from atlas.local.foundry.state import DATASET
from tests.chaos import emulators
from tests.chaos.clients import Clients
from tests.chaos.emulators import HOST, Emulators
from tests.chaos.failpoints import Failpoint
from tests.chaos.oracle import Balance, Oracle
from tests.chaos.service_process import Broken, Configuration, ServiceProcess, Totals

COMMIT_INTERVAL_SECONDS, REPLY_SECONDS, CALL_SECONDS = 0.2, 2.0, 2.0
ALIVE_SECONDS = 5.0
DRAIN_SECONDS = 60.0  # more than four of the longest pauses of the uploader
BACKLOG_SECONDS = 180.0  # to drain what came in through an outage
READY_SECONDS = 2.0
MEMORY_MIB = 32.0  # by which it may grow while exports wait
PEAK_MIB = 256.0  # of memory, whatever comes
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of the full table is done: a share of its numbers, and of its durations."""

    name: str
    share: float
    time_share: float

    def scale_number(self, full: int, least: int = 1) -> int:
        return max(least, math.ceil(full * self.share))

    def scale_seconds(self, full: float, least: float = 1.0) -> float:
        return max(least, full * self.time_share)

    @property
    def is_full(self) -> bool:
        return self.share >= 1


SCALES = {
    scale.name: scale
    for scale in (Scale("ci", 0.01, 0.002), Scale("prove", 0.08, 0.008), Scale("full", 1.0, 1.0))
}


@dataclass(slots=True)
class Findings:
    """What a trial measured, and what it found wrong besides the balance."""

    facts: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    crashes: int = 0  # that were meant

    def add_fact(self, fact: str) -> None:
        self.facts.append(fact)

    def check(self, holds: bool, otherwise: str) -> None:
        if not holds:
            self.failures.append(otherwise)


@dataclass(slots=True)
class TrialEnvironment:
    """Everything that a trial needs. What it draws, it draws from `rng`."""

    scale: Scale
    rng: random.Random
    emulators: Emulators
    atlas: ServiceProcess
    clients: Clients
    findings: Findings
    folder: Path
    exit_stack: AsyncExitStack

    @property
    def oracle(self) -> Oracle:
        return self.clients.oracle

    async def wait(self, full: float, least: float = 1.0) -> None:
        """For so many seconds of the full table."""
        await anyio.sleep(self.scale.scale_seconds(full, least))

    async def restart(self) -> float:
        """SIGKILL, and the seconds until it was ready again."""
        await self.atlas.kill()
        return await self.atlas.start()

    async def restart_with_failpoint(self, failpoint: Failpoint) -> None:
        """SIGKILL, and started to carry this, which may go off before it is ready."""
        await self.atlas.kill()
        await self.atlas.launch(failpoint)

    async def fetch_totals(self) -> Totals:
        """Raises Broken when the operator listener does not answer."""
        totals = await self.atlas.fetch_totals(self.clients.session)
        if totals is None:
            raise Broken("The operator listener does not answer.")
        return totals

    async def replay(self, id: str | None = None) -> None:
        """As an operator: this export, or all that were set aside. Raises Broken."""
        if not await self.atlas.replay(self.clients.session, id):
            raise Broken("The operator listener does not replay.")

    async def wait_until_committed(self, exports: int) -> None:
        """Wait until so many are."""
        while (await self.fetch_totals()).committed < exports:
            await anyio.sleep(0.05)

    async def wait_until_drained(self, seconds: float = DRAIN_SECONDS) -> float:
        """Wait until nothing waits; the seconds that it took."""
        began = time.monotonic()
        while (left := await self.fetch_totals()).accepted:
            if time.monotonic() - began > seconds:
                raise Broken(f"{left.accepted} exports still wait after {seconds:.0f} s.")
            await anyio.sleep(0.05)
        return time.monotonic() - began

    async def draw_balance(self) -> Balance:
        return await anyio.to_thread.run_sync(self.oracle.draw_balance, self.emulators.foundry)

    async def settle(self) -> Balance:
        """The faults are over: all is committed, a fresh export is answered, nothing is left."""
        await self.emulators.clear_faults()
        try:
            if not self.atlas.is_running:
                await self.atlas.start()
            await self.wait_until_drained()
            await self.check_alive()
            await self.wait_until_drained()
        except Broken as broken:
            self.findings.failures.append(str(broken))
        balance = await self.draw_balance()
        self.check_invariants(balance)
        return balance

    async def check_alive(self) -> None:
        began = time.monotonic()
        with anyio.move_on_after(2 * ALIVE_SECONDS):
            await self.clients.deliver(self.clients.next_export())
        took = time.monotonic() - began
        self.findings.check(
            took <= ALIVE_SECONDS, f"A fresh export was answered in {took:.1f} s, not in 5 s."
        )

    def check_invariants(self, balance: Balance) -> None:
        log, failures = self.emulators.foundry.log, self.findings.failures
        failures.extend(balance.list_failures())
        if left := self.emulators.list_open():
            failures.append(f"{len(left)} transactions of ours left open: {left[0]}")
        if unanswered := self.oracle.list_unanswered():
            failures.append(f"{len(unanswered)} exports never answered: {unanswered[0]}")
        failures += [f"Foundry complains: {complaint}" for complaint in sorted(set(log.violations))]
        failures += [
            f"{count} phones got {refusal}" for refusal, count in self.oracle.surprises.items()
        ]
        if bugs := self.atlas.count_bugs() - self.findings.crashes:
            failures.append(f"{bugs} crashes in the log")


@asynccontextmanager
async def open_testbed(
    scale: Scale,
    seed: str,
    changes: Mapping[str, Mapping[str, object]],
    subject: Callable[[Path, Configuration], ServiceProcess] = ServiceProcess,
) -> AsyncIterator[TrialEnvironment]:
    """A bench with the service not started. `changes` are settings of this trial."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="atlas-prove-") as name:
        folder = Path(name)
        async with (
            emulators.open_emulators(folder / "foundry") as systems,
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
            AsyncExitStack() as exit_stack,
        ):
            settings = build_settings(systems, folder)
            for section, keys in changes.items():
                settings[section] |= keys
            url = f"http://{HOST}:{settings['edge']['port']}"
            clients = Clients(url, session, Oracle(), rng, systems.issue_token)
            atlas = subject(folder, settings)
            try:
                yield TrialEnvironment(
                    scale, rng, systems, atlas, clients, Findings(), folder, exit_stack
                )
            finally:
                if atlas.is_running:
                    with anyio.CancelScope(shield=True):
                        await atlas.kill()


def build_settings(systems: Emulators, folder: Path) -> dict[str, dict[str, object]]:
    journal = folder / "journal"
    journal.mkdir()
    return {
        "edge": {
            "port": find_free_port(),
            "commit_wait_seconds": REPLY_SECONDS,
            "rate_per_minute": 0,
        },
        "auth0": {"issuer": systems.tenant.issuer},
        "journal": {"url": f"sqlite:///{journal / 'journal.db'}"},
        "foundry": {
            "host": systems.foundry_url,
            "client_id": "local",
            "client_secret": "local-secret",
            "dataset_rid": DATASET,
            "commit_interval_seconds": COMMIT_INTERVAL_SECONDS,
            "call_seconds": CALL_SECONDS,
        },
        "operator": {"listen": f"{HOST}:{find_free_port()}"},
    }


def find_free_port() -> int:
    """Free a moment ago: the service keeps its port over many lives."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
