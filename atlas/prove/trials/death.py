"""The service dies, or is told to end."""

import re
from collections.abc import Sequence

import anyio

from atlas.prove.bench import READY_SECONDS, Bench
from atlas.prove.mines import POINTS, POINTS_OF_GROUPS, Mine
from atlas.prove.subject import Broken

POINT_SECONDS = 20.0
PASSAGES_MAX = 12  # of one point, before its mine goes off
SELDOM = re.compile("commit|complete|filed")  # too seldom for that
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
    await kill_at(bench, POINTS, SELDOM)


async def kill_at_points_of_groups(bench: Bench) -> None:
    await kill_at(bench, POINTS_OF_GROUPS, re.compile(f"{SELDOM.pattern}|put"))


async def kill_at(bench: Bench, known: Sequence[str], seldom: re.Pattern[str]) -> None:
    """SIGKILL at each named point, after a random number of passages; the balance after each."""
    points = list(known)
    if bench.scale.name == "ci":
        points = bench.chance.sample(points, POINTS_OF_CI)
    exports = bench.scale.number(50, least=8)
    await bench.atlas.start()
    for point in points:
        passages = 1 if seldom.search(point) else PASSAGES_MAX
        await one_point(bench, Mine(point, bench.chance.randint(1, passages)), exports)
    bench.findings.note(f"killed at {len(points)} of {len(known)} points")


async def one_point(bench: Bench, mine: Mine, exports: int) -> None:
    told = f"{mine.point}, passage {mine.passages}"
    await bench.restart_with(mine)
    async with bench.phones.sending(exports):
        if not await bench.atlas.has_died(POINT_SECONDS):
            raise Broken(f"The mine {told} never went off.")
        await bench.atlas.start()
    await bench.until_drained()
    for wrong in (await bench.balance()).wrongs():
        bench.findings.wrongs.append(f"{told}: {wrong}")


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
