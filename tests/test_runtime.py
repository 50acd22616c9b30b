"""The actor runtime, with toy actors."""

from contextlib import asynccontextmanager, suppress

import anyio
import anyio.lowlevel
import pytest

from atlas.core.errors import AtlasError, NotFound, Unavailable
from atlas.runtime import (
    CompletionRegistry,
    DeadLetterRoute,
    Envelope,
    Quota,
    Reply,
    RestartBudget,
    Stages,
    Wakeup,
    for_each_concurrently,
)


class Half:
    async def handle(self, number, /):
        if number == 13:
            raise ZeroDivisionError
        return number / 2


class Keep:
    def __init__(self):
        self.kept = []

    async def handle(self, number, /):
        self.kept.append(number)
        return number


class Stuck:
    in_hand = 0

    async def handle(self, number, /):
        self.in_hand += 1
        await anyio.sleep_forever()


class CrashRecorder(list):
    """Records crashes."""

    def tell(self, actor, error):
        self.append((actor, type(error)))


def pipeline(tasks, last, *, size=16, crashes=None, concurrency=1):
    """A stage that halves numbers, followed by a sink."""
    stages = Stages(tasks, (CrashRecorder() if crashes is None else crashes).tell)
    return stages.start_stage(
        Half(), stages.start_sink(last, size=size, concurrency=concurrency), size=size
    )


async def test_a_crash_costs_one_message():
    crashes = CrashRecorder()
    async with anyio.create_task_group() as tasks:
        halver = pipeline(tasks, Keep(), crashes=crashes)
        async with halver.channel:
            assert await halver.ask(4) == 2
            with pytest.raises(AtlasError):
                await halver.ask(13)
            assert await halver.ask(6) == 3

    assert crashes == [("half", ZeroDivisionError)]


async def test_work_is_told_however_it_ends_and_with_its_message():
    told = []
    async with anyio.create_task_group() as tasks:
        stages = Stages(tasks, CrashRecorder().tell, lambda *work: told.append(work))
        halver = stages.start_stage(Half(), stages.start_sink(Refuses()))
        async with halver.channel:
            for number in (4, 13):
                with suppress(AtlasError):
                    await halver.ask(number)

    assert [work[:2] for work in told] == [("half", 4), ("refuses", 2), ("half", 13)]
    assert all(seconds > 0 for _, _, seconds in told)


async def test_a_queue_tells_how_many_wait_and_how_many_can():
    async with anyio.create_task_group() as tasks:
        stages, stuck = Stages(tasks, CrashRecorder().tell), Stuck()
        address = stages.start_sink(stuck, size=4)
        async with address.channel:
            for number in range(3):
                await address.send(Envelope(number, Reply()))
            await anyio.wait_all_tasks_blocked()
            queues = stages.measure_queues()
            tasks.cancel_scope.cancel()

    assert stuck.in_hand == 1
    assert queues == {"stuck": (2, 4)}


class Refuses:
    """A stage that rejects every message with an error."""

    async def handle(self, message):
        raise NotFound


async def test_an_answer_is_no_crash_whatever_came_before():
    crashes = CrashRecorder()
    async with anyio.create_task_group() as tasks:
        for stage in (Refuses(), Half()):
            address = Stages(tasks, crashes.tell).start_sink(stage)
            async with address.channel:
                for number in (4, 4, 13, 4):
                    with suppress(AtlasError):
                        await address.ask(number)
    assert crashes == [("half", ZeroDivisionError)]


class Bears:
    """A stage that crashes on odd numbers, followed by one that keeps them."""

    def __init__(self):
        self.known, self.kept, self.crashes = set(), Keep(), CrashRecorder()

    @asynccontextmanager
    async def at_work(self):
        async with anyio.create_task_group() as tasks:
            stages = Stages(tasks, self.crashes.tell)
            self.rescue = rescue = DeadLetterRoute(stages.start_sink(self), self.known.__contains__)
            halver = stages.start_stage(
                Half(), stages.start_sink(self.kept), dead_letter_route=rescue
            )
            async with rescue.address.channel, halver.channel:
                yield halver

    async def handle(self, message):
        self.known.add(message)
        return f"kept {message}"


async def test_what_crashes_a_stage_is_answered_where_it_is_sent_and_never_gets_there_again():
    bears = Bears()
    async with bears.at_work() as halver:
        assert await halver.ask(13) == "kept 13"
        assert await halver.ask(13) == "kept 13"
        assert await halver.ask(4) == 2
        assert await halver.ask(13) == "kept 13"
    assert bears.crashes == [("half", ZeroDivisionError)]


async def test_a_crash_is_told_when_there_is_nowhere_to_send_it_to_either():
    bears = Bears()
    async with bears.at_work() as halver:
        bears.rescue.address.channel.close()
        with pytest.raises(Unavailable):
            await halver.ask(13)
    assert bears.crashes == [("half", ZeroDivisionError)]


async def test_closing_drains_what_was_sent():
    keep = Keep()
    async with anyio.create_task_group() as tasks:
        halver = pipeline(tasks, keep)
        async with halver.channel:
            for number in range(10):
                await halver.send(Envelope(number, Reply()))

    assert keep.kept == [number / 2 for number in range(10)]


async def test_a_full_pipeline_makes_its_senders_wait():
    async with anyio.create_task_group() as tasks:
        halver = pipeline(tasks, Stuck(), size=2)
        for number in range(10):
            tasks.start_soon(halver.ask, number)
        await anyio.wait_all_tasks_blocked()

        # 1 in each stage, 2 in each inbox, the rest outside
        assert halver.channel.statistics().tasks_waiting_send == 10 - (1 + 2) - (1 + 2)
        tasks.cancel_scope.cancel()
    halver.channel.close()


async def test_a_stage_may_have_several_messages_in_hand():
    stuck = Stuck()
    async with anyio.create_task_group() as tasks:
        stages = Stages(tasks, CrashRecorder().tell)
        address = stages.start_sink(stuck, size=2, concurrency=3)
        for number in range(10):
            tasks.start_soon(address.ask, number)
        await anyio.wait_all_tasks_blocked()

        assert stuck.in_hand == 3
        assert address.channel.statistics().tasks_waiting_send == 10 - 3 - 2
        tasks.cancel_scope.cancel()
    address.channel.close()


async def test_no_reply_is_left_waiting_when_the_service_is_cancelled():
    replies = [Reply() for _ in range(6)]
    async with anyio.create_task_group() as tasks:
        halver = pipeline(tasks, Stuck(), size=2)
        async with halver.channel:
            for reply in replies:
                await halver.send(Envelope(4, reply))
            tasks.cancel_scope.cancel()

    for reply in replies:
        with pytest.raises(Unavailable):
            await reply.outcome()


async def test_who_comes_after_the_end_is_turned_away():
    async with anyio.create_task_group() as tasks:
        halver = pipeline(tasks, Keep())
        halver.channel.close()
    with pytest.raises(Unavailable):
        await halver.ask(4)


async def test_too_many_crashes_end_the_service():
    crashes = CrashRecorder()

    async def crash_often():
        async with (
            anyio.create_task_group() as tasks,
            Stages(tasks, crashes.tell).start_sink(Half()).channel as channel,
        ):
            for _ in range(7):
                await channel.send(Envelope(13, Reply()))

    with pytest.raises(ExceptionGroup):
        await crash_often()
    assert len(crashes) == 6


async def test_crashes_between_messages_that_succeed_never_end_the_service():
    async with anyio.create_task_group() as tasks:
        halver = Stages(tasks, CrashRecorder().tell).start_sink(Half())
        async with halver.channel:
            for _ in range(20):
                with pytest.raises(AtlasError):
                    await halver.ask(13)
                assert await halver.ask(4) == 2


def test_restarts_are_counted_in_a_window():
    restarts = RestartBudget(crashes_max=2, window_seconds=10)
    assert [restarts.record_crash(now) for now in (0, 1, 11, 12, 13)] == [
        True,
        True,
        True,
        True,
        False,
    ]


async def test_a_promise_is_kept_for_all_who_hold_it_and_forgotten_with_them():
    completions = CompletionRegistry()
    ada, bob = completions.get("a"), completions.get("a")
    completions.resolve("a", 1)

    assert await ada.outcome() == await bob.outcome() == 1
    assert completions.get("a") is not ada, "the next one starts anew"
    completions.resolve("nobody waits for this", 2)


async def test_a_promise_that_is_called_off_is_waited_for_no_longer():
    completions = CompletionRegistry()
    before = completions.get("a")
    completions.cancel_all()
    for promise in (before, completions.get("b")):
        with pytest.raises(Unavailable):
            await promise.outcome()


async def test_a_bell_rings_once_for_many_rings_and_no_more_when_it_is_taken_down():
    wakeup = Wakeup()
    wakeup.notify()
    wakeup.notify()
    assert await wakeup.wait()

    wakeup.close()
    assert not await wakeup.wait()


async def test_a_pause_loses_no_ring_and_ends_when_the_bell_is_taken_down():
    wakeup = Wakeup()
    wakeup.notify()
    assert not await wakeup.sleep_unless_closed(0.001)
    with anyio.fail_after(1):
        assert await wakeup.wait()

    async with anyio.create_task_group() as tasks:
        with anyio.fail_after(1):
            tasks.start_soon(close, wakeup)
            assert await wakeup.sleep_unless_closed(60)


@pytest.mark.parametrize("seconds", [-1.0, 0.0, 0.001])
async def test_after_a_pause_in_which_nothing_rang_there_is_nothing_to_hear(seconds):
    wakeup = Wakeup()

    assert not await wakeup.sleep_unless_closed(seconds)

    with anyio.move_on_after(0.01) as silence:
        await wakeup.wait()
    assert silence.cancelled_caught


async def close(wakeup):
    wakeup.close()


class Crowd:
    """Counts concurrent workers and their maximum."""

    def __init__(self):
        self.now = self.most = 0

    async def work(self, _item):
        self.now += 1
        self.most = max(self.most, self.now)
        await anyio.lowlevel.checkpoint()
        self.now -= 1


async def test_side_by_side_means_so_many_at_once():
    crowd = Crowd()
    await for_each_concurrently(crowd.work, range(50), concurrency=7)
    assert (crowd.now, crowd.most) == (0, 7)


async def test_the_first_that_fails_ends_the_others_and_is_raised_itself():
    done = []

    async def work(item):
        if item == 3:
            raise ZeroDivisionError
        await anyio.lowlevel.checkpoint()
        done.append(item)

    with pytest.raises(ZeroDivisionError):
        await for_each_concurrently(work, range(1_000), concurrency=10)
    assert len(done) < 20


async def test_so_many_bytes_at_once_and_whoever_finds_nobody_is_let_in():
    quota, now, most = Quota(10), 0, 0

    async def take(size):
        nonlocal now, most
        async with quota.hold(size):
            now += size
            most = max(most, now)
            await anyio.lowlevel.checkpoint()
            now -= size

    async with anyio.create_task_group() as tasks:
        for size in (4, 6, 5, 5, 1, 9):
            tasks.start_soon(take, size)
    assert most == 10
    async with quota.hold(1_000):
        pass


async def test_who_waits_no_longer_for_bytes_is_in_nobodys_way():
    quota = Quota(10)
    async with quota.hold(8):
        with anyio.move_on_after(0.01):
            async with quota.hold(9):
                pytest.fail("there was no room")
        async with quota.hold(2):
            pass
