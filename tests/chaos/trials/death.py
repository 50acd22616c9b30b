"""The service dies, or is told to end."""

import re
from collections.abc import Sequence

import anyio

from atlas.local.foundry.faults import Fault
from tests.chaos.bench import READY_SECONDS, Bench
from tests.chaos.mines import (
    POINTS,
    POINTS_OF_LOST_UPLOADS,
    POINTS_OF_RECOVERY,
    POINTS_OF_SHARED_FILES,
    Mine,
)
from tests.chaos.subject import Broken

POINT_SECONDS = 20.0
PASSAGES_MAX = 12  # of one point, before its mine goes off
SELDOM = re.compile(r"branch\.commit|conclude|record_file|files_of")  # too seldom for that
STARTING_SHARE = 0.25  # of the kills come before it is ready
END_SECONDS = 10.0
POINTS_OF_CI = 3


async def kill_at_random(bench: Bench) -> None:
    """SIGKILL at any moment, also while it starts; started again at once."""
    kills = bench.scale.number(50, least=6)
    slowest, early = 0.0, 0
    await bench.atlas.start()
    async with bench.phones.sending(bench.scale.number(10_000), phones=32):
        for _ in range(kills):
            await anyio.sleep(bench.chance.uniform(0.05, 1.2))
            if bench.chance.random() < STARTING_SHARE:
                await bench.atlas.kill()
                await bench.atlas.launch()
                await anyio.sleep(bench.chance.uniform(0.1, 0.7))
                early += 1
            slowest = max(slowest, await bench.restart())
    bench.findings.note(
        f"{kills} kills and {early} while it started, ready again in {slowest:.1f} s at most"
    )
    bench.findings.expect(slowest <= READY_SECONDS, f"A restart took {slowest:.1f} s.")


async def kill_at_points(bench: Bench) -> None:
    await bench.atlas.start()
    await kill_at(bench, POINTS, SELDOM)
    lose_uploads(bench)
    await kill_at(bench, POINTS_OF_LOST_UPLOADS, SELDOM)


async def kill_at_points_of_shared_files(bench: Bench) -> None:
    await bench.atlas.start()
    await kill_at(bench, POINTS_OF_SHARED_FILES, re.compile(f"{SELDOM.pattern}|put"))


def lose_uploads(bench: Bench) -> None:
    """The answers to many uploads do not come or say nothing: only the commit shows what is there.

    Where a second upload replaces the first, one that comes again is confirmed; so answers without
    a body are among them.
    """
    for kind in ("lost", "empty"):
        seed = bench.chance.randrange(2**32)
        bench.standins.misbehave(Fault(call="upload", kind=kind, rate=0.3, count=0, seed=seed))


async def kill_at(bench: Bench, known: Sequence[str], seldom: re.Pattern[str]) -> None:
    """SIGKILL at each named point, after a random number of passages; the balance after each."""
    points = draw_points(bench, known)
    exports = bench.scale.number(50, least=8)
    for point in points:
        passages = 1 if seldom.search(point) else PASSAGES_MAX
        await one_point(bench, [Mine(point, bench.chance.randint(1, passages))], exports)
    bench.findings.note(f"killed at {len(points)} of {len(known)} points")


async def kill_in_recovery(bench: Bench) -> None:
    """SIGKILL in the middle of a group, and again while the next life finds out about it."""
    points = draw_points(bench, list(POINTS_OF_RECOVERY))
    await bench.atlas.start()
    for point in points:
        mines = [Mine(POINTS_OF_RECOVERY[point], 1), Mine(point, 1)]
        await one_point(bench, mines, bench.scale.number(50, least=8))
    bench.findings.note(f"killed again at {len(points)} of {len(POINTS_OF_RECOVERY)} points")


def draw_points(bench: Bench, known: Sequence[str]) -> list[str]:
    if bench.scale.name == "ci":
        return bench.chance.sample(known, min(POINTS_OF_CI, len(known)))
    return list(known)


async def one_point(bench: Bench, mines: Sequence[Mine], exports: int) -> None:
    """SIGKILL at each of these, one life after another."""
    described = ", then ".join(f"{mine.point}, passage {mine.passages}" for mine in mines)
    await bench.restart_with(mines[0])
    async with bench.phones.sending(exports):
        for mine, following in zip(mines, [*mines[1:], None], strict=True):
            if not await bench.atlas.has_died(POINT_SECONDS):
                raise Broken(f"The mine {mine.point} of {described} never went off.")
            if following is None:
                await bench.atlas.start()
            else:
                await bench.atlas.launch(following)
    await bench.until_drained()
    if left := bench.standins.open_of_ours():
        bench.findings.wrongs.append(f"{described}: {len(left)} transactions of ours left open")
    for wrong in (await bench.balance()).wrongs():
        bench.findings.wrongs.append(f"{described}: {wrong}")


async def told_to_end(bench: Bench) -> None:
    """SIGTERM while exports come in; started again."""
    times = bench.scale.number(10, least=2)
    slowest = 0.0
    await bench.atlas.start()
    async with bench.phones.sending(bench.scale.number(5_000), phones=32, per_second=200):
        for _ in range(times):
            await bench.wait(2.0)
            code, seconds = await bench.atlas.end()
            slowest = max(slowest, seconds)
            bench.findings.expect(code == 0, f"SIGTERM ended it with {code}.")
            await bench.atlas.start()
    bench.findings.note(f"{times} times, gone in {slowest:.1f} s at most")
    bench.findings.expect(slowest <= END_SECONDS, f"SIGTERM took {slowest:.1f} s.")
