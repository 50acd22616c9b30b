"""The process pool for CPU-bound work."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from atlas.computing import WorkerExecutor
from tests.support.computing_work import LITTLE, MUCH
from tests.support.waiting import is_gone, until


def who_works():
    yield
    return os.getpid()


def dies(path):
    """Kill the worker on the first call."""
    yield
    if not Path(path).exists():
        Path(path).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"


def dies_always():
    yield
    os.kill(os.getpid(), signal.SIGKILL)


def is_wrong():
    yield
    raise ZeroDivisionError


async def test_much_of_it_is_done_in_another_process_and_what_is_less_here():
    computing = WorkerExecutor(1)
    assert await computing(MUCH, who_works) != os.getpid()
    assert await computing(LITTLE, who_works) == os.getpid()
    assert await WorkerExecutor(0)(MUCH, who_works) == os.getpid()


async def test_without_workers_the_loop_turns_between_the_steps():
    turns, steps = 0, 50

    def work():
        for _ in range(steps):
            yield
        return turns

    async def turn():
        nonlocal turns
        while True:
            turns += 1
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(turn)
        assert await WorkerExecutor(0)(MUCH, work) >= steps - 1
        tasks.cancel_scope.cancel()


async def test_without_workers_the_loop_turns_between_two_pieces_of_one_step():
    turns = 0

    def work():
        return turns
        yield

    async def turn():
        nonlocal turns
        while True:
            turns += 1
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(turn)
        first, second = [await WorkerExecutor(0)(MUCH, work) for _ in range(2)]
        tasks.cancel_scope.cancel()
    assert second > first


async def test_what_is_not_in_steps_is_done_at_once_or_in_a_thread():
    assert await WorkerExecutor(1)(LITTLE, os.getpid) == os.getpid()
    assert await WorkerExecutor(1)(LITTLE + 1, os.getpid) == os.getpid()


async def test_a_worker_that_dies_is_replaced_and_its_work_done(tmp_path):
    assert await WorkerExecutor(1)(MUCH, dies, tmp_path / "died") == "done"


async def test_work_that_kills_every_worker_fails_and_the_next_has_one_again():
    computing = WorkerExecutor(1)
    with pytest.raises(anyio.BrokenWorkerProcess):
        await computing(MUCH, dies_always)
    assert await computing(MUCH, who_works) != os.getpid()


async def test_what_work_raises_in_a_worker_is_raised_here():
    with pytest.raises(ZeroDivisionError):
        await WorkerExecutor(1)(MUCH, is_wrong)


PARENT = """
import sys, anyio
from atlas.computing import WorkerExecutor
from tests.support.computing_work import MUCH, tell_and_stay
if __name__ == "__main__":
    anyio.run(WorkerExecutor(1), MUCH, tell_and_stay, sys.argv[1])
"""


@pytest.mark.slow
@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGINT])
def test_a_worker_ends_with_its_parent_in_the_middle_of_its_work(tmp_path, ending):
    told = tmp_path / "pid"
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    parent = subprocess.Popen(
        [sys.executable, script, told],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)},
        stderr=subprocess.DEVNULL,
    )
    try:
        worker = int(until(lambda: told.exists() and told.read_text()))
        parent.send_signal(ending)
        until(lambda: is_gone(worker))
    finally:
        parent.kill()
        parent.wait()
