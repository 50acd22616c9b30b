"""Soak: all kinds of load and faults against one process for a long time, to find what grows.

`workload.py` has the actions, `gauges.py` the measurements. It is a trial like the others, except
that its duration is given and that it can be ended early.
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
SETTLED_SECONDS = 120.0  # for the actions still running at the end
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
    """Build the soak, which ends after `seconds` or at `stop`; report progress and each reading."""

    async def run(testbed: TrialEnvironment) -> None:
        await testbed.atlas.start()
        workload = Workload(testbed, await anyio.to_thread.run_sync(bombs.build_bombs))
        gauges, begun = Gauges(testbed, ProcessMetrics(testbed.atlas.process.pid)), Counter[str]()
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
        testbed.findings.add_fact(", ".join(f"{count} {name}" for name, count in begun.items()))
        gauges.check_growth()

    return Scenario("soak", run, SETTINGS, seconds + 2 * SETTLED_SECONDS)


async def repeat(
    tasks: TaskGroup, begun: Counter[str], name: str, turn: tuple[float, Action]
) -> None:
    """Start an action at a fixed interval, without waiting for the previous one."""
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
