"""The service dies, or is told to end."""

import re
from collections.abc import Sequence

import anyio

from atlas.local.foundry.faults import Fault
from tests.chaos.failpoints import (
    POINTS,
    POINTS_OF_LOST_UPLOADS,
    POINTS_OF_RECOVERY,
    POINTS_OF_SHARED_FILES,
    Failpoint,
)
from tests.chaos.service_process import Broken
from tests.chaos.trial_environment import READY_SECONDS, TrialEnvironment

POINT_SECONDS = 20.0
HITS_MAX = 12  # of one point, before its mine goes off
RARE_POINTS = re.compile(r"branch\.commit|conclude|record_file|files_of")  # too seldom for that
STARTING_SHARE = 0.25  # of the kills come before it is ready
END_SECONDS = 10.0
POINTS_OF_CI = 3


async def kill_at_random(bench: TrialEnvironment) -> None:
    """SIGKILL at any moment, also while it starts; started again at once."""
    kills = bench.scale.scale_number(50, least=6)
    slowest, early = 0.0, 0
    await bench.atlas.start()
    async with bench.clients.keep_sending(bench.scale.scale_number(10_000), phones=32):
        for _ in range(kills):
            await anyio.sleep(bench.rng.uniform(0.05, 1.2))
            if bench.rng.random() < STARTING_SHARE:
                await bench.atlas.kill()
                await bench.atlas.launch()
                await anyio.sleep(bench.rng.uniform(0.1, 0.7))
                early += 1
            slowest = max(slowest, await bench.restart())
    bench.findings.add_fact(
        f"{kills} kills and {early} while it started, ready again in {slowest:.1f} s at most"
    )
    bench.findings.check(slowest <= READY_SECONDS, f"A restart took {slowest:.1f} s.")


async def kill_at_points(bench: TrialEnvironment) -> None:
    await bench.atlas.start()
    await kill_at(bench, POINTS, RARE_POINTS)
    lose_uploads(bench)
    await kill_at(bench, POINTS_OF_LOST_UPLOADS, RARE_POINTS)


async def kill_at_points_of_shared_files(bench: TrialEnvironment) -> None:
    await bench.atlas.start()
    await kill_at(bench, POINTS_OF_SHARED_FILES, re.compile(f"{RARE_POINTS.pattern}|put"))


def lose_uploads(bench: TrialEnvironment) -> None:
    """The answers to many uploads do not come or say nothing: only the commit shows what is there.

    Where a second upload replaces the first, one that comes again is confirmed; so answers without
    a body are among them.
    """
    for kind in ("lost", "empty"):
        seed = bench.rng.randrange(2**32)
        bench.emulators.set_faults(Fault(call="upload", kind=kind, rate=0.3, count=0, seed=seed))


async def kill_at(bench: TrialEnvironment, known: Sequence[str], seldom: re.Pattern[str]) -> None:
    """SIGKILL at each named point, after a random number of passages; the balance after each."""
    points = draw_points(bench, known)
    exports = bench.scale.scale_number(50, least=8)
    for point in points:
        hits = 1 if seldom.search(point) else HITS_MAX
        await kill_at_each(bench, [Failpoint(point, bench.rng.randint(1, hits))], exports)
    bench.findings.add_fact(f"killed at {len(points)} of {len(known)} points")


async def kill_in_recovery(bench: TrialEnvironment) -> None:
    """SIGKILL in the middle of a group, and again while the next life finds out about it."""
    points = draw_points(bench, list(POINTS_OF_RECOVERY))
    await bench.atlas.start()
    for point in points:
        failpoints = [Failpoint(POINTS_OF_RECOVERY[point], 1), Failpoint(point, 1)]
        await kill_at_each(bench, failpoints, bench.scale.scale_number(50, least=8))
    bench.findings.add_fact(f"killed again at {len(points)} of {len(POINTS_OF_RECOVERY)} points")


def draw_points(bench: TrialEnvironment, known: Sequence[str]) -> list[str]:
    if bench.scale.name == "ci":
        return bench.rng.sample(known, min(POINTS_OF_CI, len(known)))
    return list(known)


async def kill_at_each(
    bench: TrialEnvironment, failpoints: Sequence[Failpoint], exports: int
) -> None:
    """SIGKILL at each of these, one life after another."""
    described = ", then ".join(
        f"{failpoint.point}, passage {failpoint.hits}" for failpoint in failpoints
    )
    await bench.restart_with_failpoint(failpoints[0])
    async with bench.clients.keep_sending(exports):
        for mine, following in zip(failpoints, [*failpoints[1:], None], strict=True):
            if not await bench.atlas.exits_within(POINT_SECONDS):
                raise Broken(f"The mine {mine.point} of {described} never went off.")
            if following is None:
                await bench.atlas.start()
            else:
                await bench.atlas.launch(following)
    await bench.wait_until_drained()
    if left := bench.emulators.list_open():
        bench.findings.failures.append(f"{described}: {len(left)} transactions of ours left open")
    for wrong in (await bench.draw_balance()).list_failures():
        bench.findings.failures.append(f"{described}: {wrong}")


async def send_sigterm(bench: TrialEnvironment) -> None:
    """SIGTERM while exports come in; started again."""
    times = bench.scale.scale_number(10, least=2)
    slowest = 0.0
    await bench.atlas.start()
    async with bench.clients.keep_sending(
        bench.scale.scale_number(5_000), phones=32, per_second=200
    ):
        for _ in range(times):
            await bench.wait(2.0)
            code, seconds = await bench.atlas.end()
            slowest = max(slowest, seconds)
            bench.findings.check(code == 0, f"SIGTERM ended it with {code}.")
            await bench.atlas.start()
    bench.findings.add_fact(f"{times} times, gone in {slowest:.1f} s at most")
    bench.findings.check(slowest <= END_SECONDS, f"SIGTERM took {slowest:.1f} s.")
