"""One of several replicas is killed or frozen, at each step of a group."""

import signal
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

import anyio
from aiohttp import web

from tests.chaos.clients import Export
from tests.chaos.failpoints import (
    AFTER_A_BEGIN,
    IN_LEASE,
    POINTS_OF_REPLICAS,
    POSTGRES,
    Failpoint,
)
from tests.chaos.replicas import LOST, TAKEN
from tests.chaos.scenarios.kills import POINT_SECONDS
from tests.chaos.service_process import Broken, ServiceProcess
from tests.chaos.trial_environment import TrialEnvironment

WAITING_PHONES = 20
TAKEOVER_SECONDS = 6.0
STUCK_TAKEOVER_SECONDS = 11.0  # of a leader that holds the row: the server ends its transaction
FROZEN_SECONDS = 9.0  # longer than a lease
DEPOSED_SECONDS = 0.1
FREE_SECONDS = 60.0
# passages of transactions that have nothing to do with exports come before
HITS = {POSTGRES: (20, 40), IN_LEASE: (8, 20)}
# each place at which a leader can be frozen while another one takes over
FROZEN_AT = (
    "before branch.begin",
    "after branch.begin",
    "after branch.put",
    "before branch.commit",
    "after branch.commit",
    "before outbox.conclude",
)
RECOVERS_AT = ("after branch.find_orphan", "before branch.abort")


@dataclass(slots=True)
class Takeovers:
    """The longest times of a trial, in seconds."""

    takeover: float = 0.0
    deposed: float = 0.0

    def describe(self) -> str:
        return f"another led within {self.takeover:.2f} s"


async def kill_leader_at_points(testbed: TrialEnvironment) -> None:
    """SIGKILL the leader at each named step; another replica goes on."""
    points, worst = draw_some(testbed, POINTS_OF_REPLICAS, 2), Takeovers()
    await testbed.replicas.start()
    for number, point in enumerate(points):
        victim = testbed.members[number % len(testbed.members)]
        await prepare_leader(testbed, victim, draw_failpoint(testbed, point))
        epoch = await testbed.replicas.journal.read_epoch()
        async with testbed.clients.keep_sending(testbed.scale.scale_number(50, least=12)):
            if not await victim.exits_within(POINT_SECONDS):
                raise Broken(f"The failpoint {point} was never reached.")
            await measure_takeover(testbed, epoch, worst)
        await check_point(testbed, point)
        await testbed.replicas.start()
    testbed.findings.add_fact(
        f"leader killed at {len(points)} of {len(POINTS_OF_REPLICAS)} points, {worst.describe()}"
    )
    expect_takeover(testbed, worst, TAKEOVER_SECONDS)


async def kill_leader_at_random(testbed: TrialEnvironment) -> None:
    """SIGKILL the leader at any moment, and then also the other replica."""
    kills, worst = testbed.scale.scale_number(20, least=2), Takeovers()
    await testbed.replicas.start()
    async with testbed.clients.keep_sending(testbed.scale.scale_number(5_000), phones=32):
        for _ in range(kills):
            leader = await testbed.replicas.find_leader()
            await anyio.sleep(testbed.rng.uniform(0.1, 1.5))
            epoch = await testbed.replicas.journal.read_epoch()
            await leader.kill()
            await measure_takeover(testbed, epoch, worst)
            await testbed.replicas.start()
    testbed.findings.add_fact(f"{kills} leaders killed, {worst.describe()}")
    expect_takeover(testbed, worst, TAKEOVER_SECONDS)


async def kill_follower(testbed: TrialEnvironment) -> None:
    """SIGKILL a replica that does not lead while phones wait for its answers."""
    kills, waited = testbed.scale.scale_number(20, least=3), 0
    await testbed.replicas.start()
    leader = await testbed.replicas.find_leader()
    epoch = await testbed.replicas.journal.read_epoch()
    for _ in range(kills):
        (follower, *_) = await testbed.replicas.find_followers()
        exports = [testbed.clients.next_export() for _ in range(WAITING_PHONES)]
        unanswered = list[Export]()
        async with anyio.create_task_group() as tasks:
            for export in exports:
                tasks.start_soon(send_to_doomed, testbed, follower, export, unanswered)
            await anyio.sleep(testbed.rng.uniform(0.01, 0.1))
            await follower.kill()
        waited += len(unanswered)
        await testbed.replicas.start()
    is_same = await testbed.replicas.find_leader() is leader
    epochs = await testbed.replicas.journal.read_epoch() - epoch
    testbed.findings.add_fact(f"{kills} followers killed with {waited} phones waiting in all")
    testbed.findings.check(waited > 0, "No phone waited for a replica that was killed.")
    testbed.findings.check(is_same and not epochs, "The leader changed.")


async def send_to_doomed(
    testbed: TrialEnvironment, member: ServiceProcess, export: Export, unanswered: list[Export]
) -> None:
    """Send an export to a replica that is killed meanwhile, and then to any."""
    if not (await testbed.clients.post(export, member.address)).status:
        unanswered.append(export)
    await testbed.clients.deliver(export)


async def freeze_leader_at_points(testbed: TrialEnvironment) -> None:
    """SIGSTOP the leader past its lease at each place of a group, and wake it."""
    points, worst = draw_some(testbed, FROZEN_AT, 2), Takeovers()
    await testbed.replicas.start()
    for number, point in enumerate(points):
        victim = testbed.members[number % len(testbed.members)]
        failpoint = draw_failpoint(testbed, point, signal.SIGSTOP)
        await prepare_leader(testbed, victim, failpoint)
        async with freeze(testbed, victim, failpoint, worst, TAKEOVER_SECONDS):
            pass
        await check_point(testbed, point)
    describe_frozen(testbed, len(points), len(FROZEN_AT), worst)


async def freeze_recovering_leader(testbed: TrialEnvironment) -> None:
    """SIGSTOP a leader that is about to abort its predecessor's transaction.

    When it wakes, the transaction that it sees as an orphan could be that of its successor.
    """
    points, worst = draw_some(testbed, RECOVERS_AT, 1), Takeovers()
    first, second = testbed.members[:2]
    await testbed.replicas.start()
    for point in points:
        before = AFTER_A_BEGIN if "orphan" in point else "after branch.put"
        await prepare_leader(testbed, first, Failpoint(before, 1))
        await second.kill()
        testbed.clients.replicas = [first.address]
        async with testbed.clients.keep_sending(8):
            if not await first.exits_within(POINT_SECONDS):
                raise Broken(f"The failpoint {before} was never reached.")
            testbed.clients.replicas = [each.address for each in testbed.members]
            failpoint = Failpoint(point, 1, signal.SIGSTOP)
            await first.launch(failpoint)
            async with freeze(testbed, first, failpoint, worst, TAKEOVER_SECONDS):
                await second.start()
        await check_point(testbed, point)
    describe_frozen(testbed, len(points), len(RECOVERS_AT), worst)


async def freeze_leader_in_transaction(testbed: TrialEnvironment) -> None:
    """SIGSTOP the leader inside a transaction that holds the row of the lease."""
    times, worst = testbed.scale.scale_number(10, least=1), Takeovers()
    await testbed.replicas.start()
    for number in range(times):
        victim = testbed.members[number % len(testbed.members)]
        failpoint = draw_failpoint(testbed, IN_LEASE, signal.SIGSTOP)
        await prepare_leader(testbed, victim, failpoint)
        async with freeze(testbed, victim, failpoint, worst, STUCK_TAKEOVER_SECONDS):
            pass
        await check_point(testbed, IN_LEASE)
    describe_frozen(testbed, times, times, worst)


async def begin_late(testbed: TrialEnvironment) -> None:
    """A frozen leader begins its transaction after its successor's commit, and is then killed."""
    times, freed = testbed.scale.scale_number(10, least=1), 0.0
    testbed.clients.patience_seconds = FROZEN_SECONDS  # some ask the replica that stays frozen
    await testbed.replicas.start()
    for number in range(times):
        victim = testbed.members[number % len(testbed.members)]
        failpoint = Failpoint("before branch.begin", testbed.rng.randint(1, 3), signal.SIGSTOP)
        await prepare_leader(testbed, victim, failpoint)
        async with freeze(testbed, victim, failpoint, Takeovers(), TAKEOVER_SECONDS, wakes=False):
            pass
        await testbed.wait_until_drained()
        kill_at_create(testbed, victim)
        victim.wake()
        if not await victim.exits_within(POINT_SECONDS):
            raise Broken("The frozen leader began no transaction when it woke.")
        left = testbed.emulators.list_open()
        testbed.emulators.after = None
        began = time.monotonic()
        async with testbed.clients.keep_sending(4):
            pass
        await testbed.wait_until_drained(FREE_SECONDS)
        freed = max(freed, time.monotonic() - began)
        testbed.findings.check(len(left) == 1, f"{len(left)} transactions were left, not one.")
        await check_point(testbed, "late begin")
        await testbed.replicas.start()
    testbed.findings.add_fact(f"{times} late transactions aborted, branch free in {freed:.1f} s")
    testbed.findings.check(freed <= FREE_SECONDS, f"The branch was free after {freed:.0f} s.")


def kill_at_create(testbed: TrialEnvironment, victim: ServiceProcess) -> None:
    """SIGKILL this replica as soon as Foundry has begun a transaction, before it knows."""

    def kill(what: str, _: web.Request, answer: web.StreamResponse) -> None:
        if what == "create" and answer.status == 200 and victim.is_running:
            victim.process.kill()

    testbed.emulators.after = kill


# steps


def draw_some(testbed: TrialEnvironment, known: Sequence[str], few: int) -> list[str]:
    """Draw a few points unless the run is at full size: each takes as long as a lease."""
    return list(known) if testbed.scale.is_full else testbed.rng.sample(known, few)


def draw_failpoint(
    testbed: TrialEnvironment, point: str, how: signal.Signals = signal.SIGKILL
) -> Failpoint:
    least, most = HITS.get(point, (1, 1 if "put" in point else 3))
    return Failpoint(point, testbed.rng.randint(least, most), how)


async def prepare_leader(
    testbed: TrialEnvironment, victim: ServiceProcess, failpoint: Failpoint
) -> None:
    """Make this replica the leader, with a failpoint, and start the others again."""
    for each in testbed.members:
        if each.is_running:
            await each.end()
    await victim.start(failpoint)
    await testbed.replicas.start()


async def measure_takeover(testbed: TrialEnvironment, epoch: int, worst: Takeovers) -> None:
    worst.takeover = max(worst.takeover, await testbed.replicas.wait_for_takeover(epoch))


@asynccontextmanager
async def freeze(
    testbed: TrialEnvironment,
    victim: ServiceProcess,
    failpoint: Failpoint,
    worst: Takeovers,
    takeover_seconds: float,
    *,
    wakes: bool = True,
) -> AsyncIterator[None]:
    """Send exports until the leader is frozen; wake it after another one has taken over."""
    exports = testbed.scale.scale_number(50, least=12)
    async with testbed.clients.keep_sending(exports):
        if not await victim.freezes_within(POINT_SECONDS):
            raise Broken(f"The failpoint {failpoint.point} was never reached.")
        began, epoch = time.monotonic(), await testbed.replicas.journal.read_epoch()
        yield
        took = Takeovers()
        await measure_takeover(testbed, epoch, took)
        expect_takeover(testbed, took, takeover_seconds)
        worst.takeover = max(worst.takeover, took.takeover)
        testbed.clients.replicas = [each.address for each in testbed.members if each is not victim]
        await anyio.sleep(max(0.0, FROZEN_SECONDS - (time.monotonic() - began)))
        if wakes:
            worst.deposed = max(worst.deposed, await wake_and_measure(victim))
            testbed.clients.replicas = [each.address for each in testbed.members]
    testbed.clients.replicas = [each.address for each in testbed.members]


async def wake_and_measure(victim: ServiceProcess) -> float:
    """Wake a frozen leader; return the seconds until it knows that it was deposed."""
    leads, ends = len(victim.list_events(TAKEN)), len(victim.list_events(LOST))
    if leads == ends:
        raise Broken("A replica that does not lead was frozen.")
    woken_at = time.time()
    victim.wake()
    with anyio.move_on_after(POINT_SECONDS):
        while len(victim.list_events(LOST)) == ends:
            await anyio.sleep(0.01)
        event = victim.list_events(LOST)[-1]
        return datetime.fromisoformat(event["timestamp"]).timestamp() - woken_at
    raise Broken("A woken leader does not notice that it was deposed.")


async def check_point(testbed: TrialEnvironment, point: str) -> None:
    await testbed.wait_until_drained()
    for wrong in (await testbed.draw_balance()).list_failures():
        testbed.findings.failures.append(f"{point}: {wrong}")
    if left := testbed.emulators.list_open():
        testbed.findings.failures.append(f"{point}: {len(left)} transactions of ours left open")


def expect_takeover(testbed: TrialEnvironment, worst: Takeovers, seconds: float) -> None:
    took, limit = worst.takeover, testbed.scale.allow_seconds(seconds)
    testbed.findings.check(took <= limit, f"Another led after {took:.1f} s, not {limit:.0f} s.")


def describe_frozen(testbed: TrialEnvironment, times: int, of: int, worst: Takeovers) -> None:
    transactions = testbed.emulators.list_transactions()
    aborted = sum(each.status == "ABORTED" for each in transactions)
    testbed.findings.add_fact(
        f"frozen {times} of {of} times, {worst.describe()}, deposed {worst.deposed:.2f} s after "
        f"waking; {aborted} of {len(transactions)} transactions aborted"
    )
    testbed.findings.check(
        worst.deposed <= testbed.scale.allow_seconds(DEPOSED_SECONDS),
        f"Deposed {worst.deposed:.2f} s after waking.",
    )
