"""Everything at once, for long, in one life of the service: what grows that must not?

`mix.py` is who comes, `gauges.py` what is looked at. It is a trial like the others, but that it
takes as long as is said, and ends early when it is told to.
"""

from collections import Counter
from collections.abc import Callable

import anyio
from anyio.abc import TaskGroup

from tests.chaos.bench import Bench
from tests.chaos.soak.gauges import Gauges
from tests.chaos.soak.mix import Act, Mix
from tests.chaos.trials import Settings, Trial, bombs
from tests.chaos.vitals import Vitals

READ_SECONDS = 1.0
SETTLED_SECONDS = 120.0  # for whoever is under way at the end
REPLY_SECONDS, SLOW_SECONDS, CALL_SECONDS = 10.0, 5.0, 15.0
SETTINGS: Settings = {
    "edge": {
        "rate_per_minute": 100,
        "reply_seconds": REPLY_SECONDS,
        "header_seconds": SLOW_SECONDS,
        "slow_seconds": SLOW_SECONDS,
    },
    "foundry": {"call_seconds": CALL_SECONDS},
}


def soaking(seconds: float, tell: Callable[[float, str], None], stop: anyio.Event) -> Trial:
    """Of so many seconds, or until `stop`. Told is how far it is, and what was just read."""

    async def run(bench: Bench) -> None:
        await bench.atlas.start()
        mix = Mix(bench, await anyio.to_thread.run_sync(bombs.bombs))
        gauges, begun = Gauges(bench, Vitals(bench.atlas.process.pid)), Counter[str]()
        async with anyio.create_task_group() as tasks:
            async with anyio.create_task_group() as comers:
                for name, (every, act) in mix.acts().items():
                    comers.start_soon(keep_on, tasks, begun, name, (every, act))
                comers.start_soon(read, gauges, tell)
                with anyio.move_on_after(seconds):
                    await stop.wait()
                comers.cancel_scope.cancel()
            tasks.cancel_scope.deadline = anyio.current_time() + SETTLED_SECONDS
        mix.sockets.close()
        bench.findings.note(", ".join(f"{count} {name}" for name, count in begun.items()))
        gauges.judge()

    return Trial("soak", run, SETTINGS, seconds + 2 * SETTLED_SECONDS)


async def keep_on(
    tasks: TaskGroup, begun: Counter[str], name: str, turn: tuple[float, Act]
) -> None:
    """Once every so many seconds, whether the last has come to its end or not."""
    every, act = turn
    due = anyio.current_time()
    while True:
        await anyio.sleep_until(due)
        due += every
        begun[name] += 1
        tasks.start_soon(act)


async def read(gauges: Gauges, tell: Callable[[float, str], None]) -> None:
    while True:
        found = await gauges.read()
        tell(found.at, found.told())
        await anyio.sleep(READ_SECONDS)
