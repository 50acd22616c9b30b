"""Everything at once, for long, in one life of the service: what grows that must not?

`mix.py` is who comes, `gauges.py` what is looked at. It is a trial like the others, but that it
takes as long as is said, and ends early when it is told to.
"""

from collections import Counter
from collections.abc import Callable

import anyio
from anyio.abc import TaskGroup

from tests.chaos.process_metrics import ProcessMetrics
from tests.chaos.scenarios import Scenario, Settings, bombs
from tests.chaos.soak.gauges import Gauges
from tests.chaos.soak.workload import Action, Workload
from tests.chaos.trial_environment import TrialEnvironment

READ_SECONDS = 1.0
SETTLED_SECONDS = 120.0  # for whoever is under way at the end
REPLY_SECONDS, SLOW_SECONDS, CALL_SECONDS = 10.0, 5.0, 15.0
SETTINGS: Settings = {
    "edge": {
        "rate_per_minute": 100,
        "commit_wait_seconds": REPLY_SECONDS,
        "header_seconds": SLOW_SECONDS,
        "slow_seconds": SLOW_SECONDS,
    },
    "foundry": {"call_seconds": CALL_SECONDS},
}


def build_soak(seconds: float, report: Callable[[float, str], None], stop: anyio.Event) -> Scenario:
    """Of so many seconds, or until `stop`. Told is how far it is, and what was just read."""

    async def run(bench: TrialEnvironment) -> None:
        await bench.atlas.start()
        workload = Workload(bench, await anyio.to_thread.run_sync(bombs.build_bombs))
        gauges, begun = Gauges(bench, ProcessMetrics(bench.atlas.process.pid)), Counter[str]()
        async with anyio.create_task_group() as tasks:
            async with anyio.create_task_group() as comers:
                for name, (every, act) in workload.list_actions().items():
                    comers.start_soon(repeat, tasks, begun, name, (every, act))
                comers.start_soon(report_reading, gauges, report)
                with anyio.move_on_after(seconds):
                    await stop.wait()
                comers.cancel_scope.cancel()
            tasks.cancel_scope.deadline = anyio.current_time() + SETTLED_SECONDS
        workload.sockets.close()
        bench.findings.add_fact(", ".join(f"{count} {name}" for name, count in begun.items()))
        gauges.check_growth()

    return Scenario("soak", run, SETTINGS, seconds + 2 * SETTLED_SECONDS)


async def repeat(
    tasks: TaskGroup, begun: Counter[str], name: str, turn: tuple[float, Action]
) -> None:
    """Once every so many seconds, whether the last has come to its end or not."""
    every, act = turn
    due = anyio.current_time()
    while True:
        await anyio.sleep_until(due)
        due += every
        begun[name] += 1
        tasks.start_soon(act)


async def report_reading(gauges: Gauges, report: Callable[[float, str], None]) -> None:
    while True:
        reading = await gauges.read()
        report(reading.at, reading.describe())
        await anyio.sleep(READ_SECONDS)
