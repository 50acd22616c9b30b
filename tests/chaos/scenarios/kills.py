"""The service is killed, or ended with SIGTERM."""

import re
from collections.abc import Sequence

import anyio

from atlas.local.foundry.faults import Fault
from tests.chaos.failpoints import (
    POINTS,
    POINTS_OF_LOST_UPLOADS,
    POINTS_OF_RECOVERY,
    POINTS_OF_SHARED_FILES,
    POSTGRES,
    SQLITE,
    Failpoint,
)
from tests.chaos.service_process import Broken
from tests.chaos.trial_environment import READY_SECONDS, TrialEnvironment

POINT_SECONDS = 20.0
HITS_MAX = 12  # of one point, before the process is killed there
# too rare for many passages
RARE_POINTS = re.compile(r"branch\.commit|conclude|record_file|list_transaction_files")
STARTING_SHARE = 0.25  # of the kills happen before the service is ready
END_SECONDS = 10.0
POINTS_OF_CI = 3


async def kill_at_random(testbed: TrialEnvironment) -> None:
    """SIGKILL at any moment, also during the start; start again at once."""
    kills = testbed.scale.scale_number(50, least=6)
    slowest, early = 0.0, 0
    await testbed.atlas.start()
    async with testbed.clients.keep_sending(testbed.scale.scale_number(10_000), phones=32):
        for _ in range(kills):
            await anyio.sleep(testbed.rng.uniform(0.05, 1.2))
            if testbed.rng.random() < STARTING_SHARE:
                await testbed.atlas.kill()
                await testbed.atlas.launch()
                await anyio.sleep(testbed.rng.uniform(0.1, 0.7))
                early += 1
            slowest = max(slowest, await testbed.restart())
    testbed.findings.add_fact(
        f"{kills} kills and {early} while it started, ready again in {slowest:.1f} s at most"
    )
    allowed = testbed.scale.allow_seconds(READY_SECONDS)
    testbed.findings.check(slowest <= allowed, f"A restart took {slowest:.1f} s.")


async def kill_at_points(testbed: TrialEnvironment) -> None:
    await testbed.atlas.start()
    await kill_at(testbed, POINTS, RARE_POINTS)
    lose_uploads(testbed)
    await kill_at(testbed, POINTS_OF_LOST_UPLOADS, RARE_POINTS)


async def kill_at_points_of_shared_files(testbed: TrialEnvironment) -> None:
    await testbed.atlas.start()
    await kill_at(testbed, POINTS_OF_SHARED_FILES, re.compile(f"{RARE_POINTS.pattern}|put"))


def lose_uploads(testbed: TrialEnvironment) -> None:
    """Lose the answers to many uploads, or empty them: only the commit shows the files.

    Where a second upload replaces the first, a repeated upload is confirmed; so some answers have
    no body.
    """
    for kind in ("lost", "empty"):
        seed = testbed.rng.randrange(2**32)
        testbed.emulators.set_faults(Fault(call="upload", kind=kind, rate=0.3, count=0, seed=seed))


async def kill_at(testbed: TrialEnvironment, known: Sequence[str], rare: re.Pattern[str]) -> None:
    """SIGKILL at each named point, after a random number of passages; check each balance."""
    points = draw_points(testbed, known)
    exports = testbed.scale.scale_number(50, least=8)
    for point in points:
        hits = 1 if rare.search(point) else HITS_MAX
        await kill_at_each(testbed, [Failpoint(point, testbed.rng.randint(1, hits))], exports)
    testbed.findings.add_fact(f"killed at {len(points)} of {len(known)} points")


async def kill_in_recovery(testbed: TrialEnvironment) -> None:
    """SIGKILL in the middle of a group, and again while the next process recovers it."""
    points = draw_points(testbed, list(POINTS_OF_RECOVERY))
    await testbed.atlas.start()
    for point in points:
        failpoints = [Failpoint(POINTS_OF_RECOVERY[point], 1), Failpoint(point, 1)]
        await kill_at_each(testbed, failpoints, testbed.scale.scale_number(50, least=8))
    testbed.findings.add_fact(f"killed again at {len(points)} of {len(POINTS_OF_RECOVERY)} points")


def draw_points(testbed: TrialEnvironment, known: Sequence[str]) -> list[str]:
    points = [POSTGRES if point == SQLITE and testbed.shared else point for point in known]
    if testbed.scale.name == "ci":
        return testbed.rng.sample(points, min(POINTS_OF_CI, len(points)))
    return points


async def kill_at_each(
    testbed: TrialEnvironment, failpoints: Sequence[Failpoint], exports: int
) -> None:
    """SIGKILL at each of these failpoints, one process after another."""
    described = ", then ".join(
        f"{failpoint.point}, passage {failpoint.hits}" for failpoint in failpoints
    )
    await testbed.restart_with_failpoint(failpoints[0])
    async with testbed.clients.keep_sending(exports):
        for failpoint, following in zip(failpoints, [*failpoints[1:], None], strict=True):
            if not await testbed.atlas.exits_within(POINT_SECONDS):
                raise Broken(f"The failpoint {failpoint.point} of {described} was never reached.")
            if following is None:
                await testbed.atlas.start()
            else:
                await testbed.atlas.launch(following)
    await testbed.wait_until_drained()
    if left := testbed.emulators.list_open():
        testbed.findings.failures.append(f"{described}: {len(left)} transactions of ours left open")
    for wrong in (await testbed.draw_balance()).list_failures():
        testbed.findings.failures.append(f"{described}: {wrong}")


async def send_sigterm(testbed: TrialEnvironment) -> None:
    """SIGTERM while exports arrive; start again."""
    times = testbed.scale.scale_number(10, least=2)
    slowest = 0.0
    await testbed.atlas.start()
    async with testbed.clients.keep_sending(
        testbed.scale.scale_number(5_000), phones=32, per_second=200
    ):
        for _ in range(times):
            await testbed.wait(2.0)
            code, seconds = await testbed.atlas.end()
            slowest = max(slowest, seconds)
            testbed.findings.check(code == 0, f"SIGTERM ended it with {code}.")
            await testbed.atlas.start()
    testbed.findings.add_fact(f"{times} times, gone in {slowest:.1f} s at most")
    testbed.findings.check(slowest <= END_SECONDS, f"SIGTERM took {slowest:.1f} s.")
