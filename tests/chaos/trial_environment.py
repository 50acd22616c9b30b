"""The testbed of one trial: emulators, service, clients and oracle, all new."""

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
from tests.chaos.replicas import Replicas, open_shared_journal
from tests.chaos.service_process import Broken, Configuration, ServiceProcess, Totals

COMMIT_INTERVAL_SECONDS, REPLY_SECONDS, CALL_SECONDS = 0.2, 2.0, 2.0
ALIVE_SECONDS = 5.0
DRAIN_SECONDS = 60.0  # more than four of the uploader's longest pauses
BACKLOG_SECONDS = 180.0  # to drain the backlog of an outage
READY_SECONDS = 2.0
SLACK_SECONDS = 2.0
LEASE_SECONDS_MIN = 1.0
MEMORY_MIB = 32.0  # allowed growth while exports wait
PEAK_MIB = 256.0  # memory limit under any load
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Scale:
    """The size of a run: its share of the full numbers, and of the full durations."""

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

    def allow_seconds(self, limit: float) -> float:
        """Return a limit that suits a run beside other tests, which share the processors."""
        return limit if self.is_full else limit + SLACK_SECONDS


SCALES = {
    scale.name: scale
    for scale in (Scale("ci", 0.01, 0.002), Scale("prove", 0.08, 0.008), Scale("full", 1.0, 1.0))
}


@dataclass(slots=True)
class Findings:
    """Measurements of a trial, and its failures other than those of the balance."""

    facts: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    crashes: int = 0  # expected ones

    def add_fact(self, fact: str) -> None:
        self.facts.append(fact)

    def check(self, holds: bool, otherwise: str) -> None:
        if not holds:
            self.failures.append(otherwise)


@dataclass(slots=True)
class TrialEnvironment:
    """Everything that a trial needs. All random choices come from `rng`."""

    scale: Scale
    rng: random.Random
    emulators: Emulators
    atlas: ServiceProcess
    clients: Clients
    findings: Findings
    folder: Path
    exit_stack: AsyncExitStack
    shared: Replicas | None = None  # over a journal in PostgreSQL; `atlas` is the first

    @property
    def replicas(self) -> Replicas:
        """The replicas. Raises Broken if the journal is not in PostgreSQL."""
        if self.shared is None:
            raise Broken("This trial needs a journal in PostgreSQL.")
        return self.shared

    @property
    def oracle(self) -> Oracle:
        return self.clients.oracle

    async def wait(self, full: float, least: float = 1.0) -> None:
        """Wait for the scaled part of `full` seconds."""
        await anyio.sleep(self.scale.scale_seconds(full, least))

    async def restart(self) -> float:
        """SIGKILL the service and start it; return the seconds until it was ready."""
        await self.atlas.kill()
        return await self.atlas.start()

    async def restart_with_failpoint(self, failpoint: Failpoint) -> None:
        """SIGKILL the service and start it with a failpoint, which may kill it before that."""
        await self.atlas.kill()
        await self.atlas.launch(failpoint)

    async def fetch_totals(self) -> Totals:
        """Return the number of exports by status. Raises Broken if the operator listener does not
        answer.
        """
        for each in self.members:
            if each.is_running and not each.is_frozen():
                totals = await each.fetch_totals(self.clients.session)
                if totals is not None:
                    return totals
        raise Broken("The operator listener does not answer.")

    async def replay(self, id: str | None = None) -> None:
        """Replay this export, or all that were set aside, as an operator would. Raises Broken."""
        if not await self.atlas.replay(self.clients.session, id):
            raise Broken("The operator listener does not replay.")

    async def wait_until_committed(self, exports: int) -> None:
        """Wait until this many exports are committed."""
        while (await self.fetch_totals()).committed < exports:
            await anyio.sleep(0.05)

    async def wait_until_drained(self, seconds: float = DRAIN_SECONDS) -> float:
        """Wait until no export waits; return the seconds it took."""
        began = time.monotonic()
        while (left := await self.fetch_totals()).accepted:
            if time.monotonic() - began > seconds:
                raise Broken(f"{left.accepted} exports still wait after {seconds:.0f} s.")
            await anyio.sleep(0.05)
        return time.monotonic() - began

    async def draw_balance(self) -> Balance:
        return await anyio.to_thread.run_sync(self.oracle.draw_balance, self.emulators.foundry)

    @property
    def members(self) -> list[ServiceProcess]:
        return [self.atlas] if self.shared is None else self.shared.members

    async def settle(self) -> Balance:
        """End all faults; check that everything is committed, a new export is answered, and nothing
        is left.
        """
        await self.emulators.clear_faults()
        try:
            if self.shared is not None:
                self.shared.wake()
            for each in self.members:
                if not each.is_running:
                    await each.start()
            await self.wait_until_drained()
            await self.check_alive()
            await self.wait_until_drained()
            if self.shared is not None:
                self.findings.failures.extend(await self.shared.journal.list_defects())
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
            f"{count} clients got {refusal}" for refusal, count in self.oracle.surprises.items()
        ]
        if bugs := sum(each.count_bugs() for each in self.members) - self.findings.crashes:
            failures.append(f"{bugs} crashes in the log")


@asynccontextmanager
async def open_testbed(
    scale: Scale,
    seed: str,
    changes: Mapping[str, Mapping[str, object]],
    subject: Callable[[Path, Configuration], ServiceProcess] = ServiceProcess,
    replicas: int = 0,
) -> AsyncIterator[TrialEnvironment]:
    """Open a testbed with the service not started. `changes` are settings of this trial.

    With `replicas`, the journal is in PostgreSQL, and as many services share it. Raises Skipped.
    """
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="atlas-prove-") as name:
        folder = Path(name)
        async with (
            emulators.open_emulators(folder / "foundry") as systems,
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
            AsyncExitStack() as exit_stack,
        ):
            settings = build_settings(systems, folder)
            journal = None
            if replicas:
                journal = await exit_stack.enter_async_context(open_shared_journal())
            if journal is not None:
                settings["journal"] = journal.settings
            if replicas == 1:  # a restarted service waits for the lease of its predecessor
                settings["journal"]["lease_seconds"] = LEASE_SECONDS_MIN
            for section, keys in changes.items():
                settings[section] |= keys
            url = f"http://{HOST}:{settings['edge']['port']}"
            clients = Clients(url, session, Oracle(), rng, systems.issue_token)
            atlas = subject(folder, settings)
            members = [atlas, *(build_replica(atlas, number) for number in range(2, replicas + 1))]
            if replicas > 1:
                clients.replicas = [each.address for each in members]
            shared = Replicas(members, journal) if journal is not None else None
            try:
                yield TrialEnvironment(
                    scale, rng, systems, atlas, clients, Findings(), folder, exit_stack, shared
                )
            finally:
                with anyio.CancelScope(shield=True):
                    for each in members:
                        if each.is_running:
                            await each.kill()


def build_replica(first: ServiceProcess, number: int) -> ServiceProcess:
    """Build another replica, with ports and a folder of its own."""
    folder = first.file.parent / f"replica-{number}"
    folder.mkdir()
    settings = {section: dict(keys) for section, keys in first.settings.items()}
    settings["edge"]["port"] = find_free_port()
    settings["operator"]["listen"] = f"{HOST}:{find_free_port()}"
    return ServiceProcess(folder, settings)


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
        "stream": {},
        "operator": {"listen": f"{HOST}:{find_free_port()}"},
    }


def find_free_port() -> int:
    """Find a port that is free now; the service keeps it over many restarts."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
