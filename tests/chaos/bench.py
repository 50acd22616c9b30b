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
from tests.chaos import standins
from tests.chaos.mines import Mine
from tests.chaos.oracle import Balance, Oracle
from tests.chaos.phones import Phones
from tests.chaos.standins import HOST, StandIns
from tests.chaos.subject import Broken, Configuration, Subject, Totals

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

    def number(self, full: int, least: int = 1) -> int:
        return max(least, math.ceil(full * self.share))

    def seconds(self, full: float, least: float = 1.0) -> float:
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
    wrongs: list[str] = field(default_factory=list)
    crashes: int = 0  # that were meant

    def note(self, fact: str) -> None:
        self.facts.append(fact)

    def expect(self, holds: bool, otherwise: str) -> None:
        if not holds:
            self.wrongs.append(otherwise)


@dataclass(slots=True)
class Bench:
    """Everything that a trial needs. What it draws, it draws from `chance`."""

    scale: Scale
    chance: random.Random
    standins: StandIns
    atlas: Subject
    phones: Phones
    findings: Findings
    folder: Path
    ends: AsyncExitStack

    @property
    def oracle(self) -> Oracle:
        return self.phones.oracle

    async def wait(self, full: float, least: float = 1.0) -> None:
        """For so many seconds of the full table."""
        await anyio.sleep(self.scale.seconds(full, least))

    async def restart(self) -> float:
        """SIGKILL, and the seconds until it was ready again."""
        await self.atlas.kill()
        return await self.atlas.start()

    async def restart_with(self, mine: Mine) -> None:
        """SIGKILL, and started to carry this, which may go off before it is ready."""
        await self.atlas.kill()
        await self.atlas.launch(mine)

    async def totals(self) -> Totals:
        """Raises Broken when the operator listener does not answer."""
        found = await self.atlas.totals(self.phones.session)
        if found is None:
            raise Broken("The operator listener does not answer.")
        return found

    async def replay(self, id: str | None = None) -> None:
        """As an operator: this export, or all that were set aside. Raises Broken."""
        if not await self.atlas.replay(self.phones.session, id):
            raise Broken("The operator listener does not replay.")

    async def until_committed(self, exports: int) -> None:
        """Wait until so many are."""
        while (await self.totals()).committed < exports:
            await anyio.sleep(0.05)

    async def until_drained(self, seconds: float = DRAIN_SECONDS) -> float:
        """Wait until nothing waits; the seconds that it took."""
        began = time.monotonic()
        while (left := await self.totals()).accepted:
            if time.monotonic() - began > seconds:
                raise Broken(f"{left.accepted} exports still wait after {seconds:.0f} s.")
            await anyio.sleep(0.05)
        return time.monotonic() - began

    async def balance(self) -> Balance:
        return await anyio.to_thread.run_sync(self.oracle.balance, self.standins.foundry)

    async def settle(self) -> Balance:
        """The faults are over: all is committed, a fresh export is answered, nothing is left."""
        await self.standins.behave()
        try:
            if not self.atlas.is_running:
                await self.atlas.start()
            await self.until_drained()
            await self.stays_alive()
            await self.until_drained()
        except Broken as broken:
            self.findings.wrongs.append(str(broken))
        balance = await self.balance()
        self.judge(balance)
        return balance

    async def stays_alive(self) -> None:
        began = time.monotonic()
        with anyio.move_on_after(2 * ALIVE_SECONDS):
            await self.phones.deliver(self.phones.next())
        took = time.monotonic() - began
        self.findings.expect(
            took <= ALIVE_SECONDS, f"A fresh export was answered in {took:.1f} s, not in 5 s."
        )

    def judge(self, balance: Balance) -> None:
        log, wrongs = self.standins.foundry.log, self.findings.wrongs
        wrongs.extend(balance.wrongs())
        if left := self.standins.open_of_ours():
            wrongs.append(f"{len(left)} transactions of ours left open: {left[0]}")
        if unanswered := self.oracle.unanswered():
            wrongs.append(f"{len(unanswered)} exports never answered: {unanswered[0]}")
        wrongs += [f"Foundry complains: {complaint}" for complaint in sorted(set(log.violations))]
        wrongs += [f"{n} phones got {refusal}" for refusal, n in self.oracle.surprises.items()]
        if bugs := self.atlas.bugs() - self.findings.crashes:
            wrongs.append(f"{bugs} crashes in the log")


@asynccontextmanager
async def laid_out(
    scale: Scale,
    seed: str,
    changes: Mapping[str, Mapping[str, object]],
    subject: Callable[[Path, Configuration], Subject] = Subject,
) -> AsyncIterator[Bench]:
    """A bench with the service not started. `changes` are settings of this trial."""
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="atlas-prove-") as name:
        folder = Path(name)
        async with (
            standins.running(folder / "foundry") as around,
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
            AsyncExitStack() as ends,
        ):
            settings = settings_of(around, folder)
            for room, keys in changes.items():
                settings[room] |= keys
            url = f"http://{HOST}:{settings['edge']['port']}"
            phones = Phones(url, session, Oracle(), chance, around.token)
            atlas = subject(folder, settings)
            try:
                yield Bench(scale, chance, around, atlas, phones, Findings(), folder, ends)
            finally:
                if atlas.is_running:
                    with anyio.CancelScope(shield=True):
                        await atlas.kill()


def settings_of(around: StandIns, folder: Path) -> dict[str, dict[str, object]]:
    journal = folder / "journal"
    journal.mkdir()
    return {
        "edge": {"port": free_port(), "reply_seconds": REPLY_SECONDS, "rate_per_minute": 0},
        "auth0": {"issuer": around.tenant.issuer},
        "journal": {"url": f"sqlite:///{journal / 'journal.db'}"},
        "foundry": {
            "host": around.foundry_url,
            "client_id": "local",
            "client_secret": "local-secret",
            "dataset_rid": DATASET,
            "commit_interval_seconds": COMMIT_INTERVAL_SECONDS,
            "call_seconds": CALL_SECONDS,
        },
        "operator": {"listen": f"{HOST}:{free_port()}"},
    }


def free_port() -> int:
    """Free a moment ago: the service keeps its port over many lives."""
    with socket.socket() as found:
        found.bind((HOST, 0))
        return int(found.getsockname()[1])
