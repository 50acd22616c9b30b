"""When Foundry may be asked: whenever it answers, and when it does not, by one at a time."""

import anyio
import pytest

from atlas.outside.foundry.door import FAILURES_MAX, Door


@pytest.fixture
def door():
    return Door(anyio.current_time, lambda: 0.5)


async def seconds_until_its_turn(door):
    began = anyio.current_time()
    async with door.turn():
        return anyio.current_time() - began


async def test_while_foundry_answers_nobody_waits(door):
    for _ in range(FAILURES_MAX - 1):
        door.failed(None)
        assert await seconds_until_its_turn(door) < 0.05
    door.worked()
    async with door.turn(), door.turn():
        pass


async def test_what_one_is_told_holds_for_all(door):
    door.failed(0.2)
    waited = []

    async def wait():
        waited.append(await seconds_until_its_turn(door))

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(wait)
    assert len(waited) == 5
    assert min(waited) >= 0.2 + 0.5 * 0.5 - 0.01


async def test_while_foundry_is_away_one_at_a_time_goes_and_looks(door):
    for _ in range(FAILURES_MAX):
        door.failed(None)
    inside, most = 0, 0

    async def look():
        nonlocal inside, most
        async with door.turn():
            inside += 1
            most = max(most, inside)
            await anyio.sleep(0.01)
            inside -= 1

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(look)
    assert most == 1


async def test_when_one_is_answered_all_go_on_side_by_side(door):
    for _ in range(FAILURES_MAX):
        door.failed(None)
    all_inside = anyio.Event()
    inside = 0

    async def look():
        nonlocal inside
        async with door.turn():
            door.worked()
            inside += 1
            if inside == 5:
                all_inside.set()
            elif inside > 1:
                await all_inside.wait()

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(look)


def test_it_looks_ever_less_often_and_never_less_than_every_five_seconds():
    now, pauses = 0.0, []
    door = Door(lambda: now, lambda: 1.0)
    for _ in range(12):
        door.failed(None)
        pauses.append(round(door._opens_at - now, 3))
        now = door._opens_at
    assert pauses == [0.0, 0.0, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0, 5.0, 5.0]
