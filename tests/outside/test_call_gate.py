"""The gate for calls to Foundry: rate limit, backoff, and single probes during an outage."""

import anyio
import pytest

from atlas.outside.foundry.call_gate import (
    FAILURES_MAX,
    JITTER_SECONDS,
    PAUSE_SECONDS,
    CallGate,
)


class Clock:
    """A clock that moves only when `now` is set."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def gate(clock):
    return CallGate(clock, lambda: 0.0, 1_000)


async def test_while_foundry_answers_nobody_waits(gate):
    for _ in range(FAILURES_MAX - 1):
        gate.record_failure(None)
        assert gate.next_call_delay() == 0
    with anyio.fail_after(5):
        async with gate.permit(), gate.permit():
            pass


async def test_in_a_minute_nobody_asks_more_often_than_foundry_allows(clock):
    gate = CallGate(clock, lambda: 0.0, calls_max=2)

    async def ask():
        async with gate.permit():
            pass

    await ask()
    clock.now += 20
    await ask()
    assert gate.count_remaining_calls() == 0
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        assert gate.count_remaining_calls() == 0
        tasks.cancel_scope.cancel()
    clock.now += 40
    assert gate.count_remaining_calls() == 1
    await ask()
    assert gate.count_remaining_calls() == 0


async def test_a_minute_that_ends_between_two_looks_at_the_clock_is_over():
    moments = iter([0.0, 0.0, 59.9, 59.9, 60.1, 60.1, 60.1])
    gate = CallGate(lambda: next(moments), lambda: 0.0, calls_max=1)
    for _ in range(2):
        with anyio.fail_after(5):
            async with gate.permit():
                pass


async def test_what_one_is_told_holds_for_all(gate, clock):
    gate.record_failure(60)
    gate.record_success()
    gate.record_failure(1)  # from a call that was already in flight
    assert gate.next_call_delay() == 60
    inside = 0

    async def enter():
        nonlocal inside
        async with gate.permit():
            inside += 1

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(enter)
        await anyio.wait_all_tasks_blocked()
        assert inside == 0
        tasks.cancel_scope.cancel()

    clock.now = 60
    assert gate.next_call_delay() == 0
    with anyio.fail_after(5):
        await enter()


@pytest.mark.parametrize(
    ("retry_after", "waits"),
    [
        pytest.param([60], [60, 60 + JITTER_SECONDS / 2, 60 + JITTER_SECONDS], id="when to come"),
        pytest.param([None] * FAILURES_MAX, [0, PAUSE_SECONDS / 2, PAUSE_SECONDS], id="nothing"),
    ],
)
def test_services_that_were_told_the_same_do_not_come_together(clock, retry_after, waits):
    found = []
    for chance in (0.0, 0.5, 1.0):
        gate = CallGate(clock, lambda chance=chance: chance, 1_000)
        for seconds in retry_after:
            gate.record_failure(seconds)
        found.append(gate.next_call_delay())
    assert found == waits


async def test_while_foundry_is_away_one_at_a_time_goes_and_looks(gate):
    for _ in range(FAILURES_MAX):
        gate.record_failure(None)
    inside, most = 0, 0

    async def look():
        nonlocal inside, most
        async with gate.permit():
            inside += 1
            most = max(most, inside)
            await anyio.wait_all_tasks_blocked()
            inside -= 1

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(look)
    assert most == 1


async def test_when_one_is_answered_all_go_on_side_by_side(gate):
    for _ in range(FAILURES_MAX):
        gate.record_failure(None)
    all_inside = anyio.Event()
    inside = 0

    async def look():
        nonlocal inside
        async with gate.permit():
            gate.record_success()
            inside += 1
            if inside == 5:
                all_inside.set()
            elif inside > 1:
                await all_inside.wait()

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(look)


def test_it_looks_ever_less_often_and_never_less_than_every_five_seconds(clock):
    pauses = []
    gate = CallGate(clock, lambda: 1.0, 1_000)
    for _ in range(12):
        gate.record_failure(None)
        pauses.append(round(gate.next_call_delay(), 3))
        clock.now += gate.next_call_delay()
    assert pauses == [0.0, 0.0, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0, 5.0, 5.0]
