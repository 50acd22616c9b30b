"""Channels between actors: bounded, ordered, and no receiver sleeps while a message is waiting."""

import asyncio
from contextlib import suppress

import anyio
import anyio.lowlevel
import pytest

from atlas.core.errors import Unavailable
from atlas.runtime import Channel


@pytest.fixture
def open_channel():
    made = []

    def make(size):
        made.append(Channel(size))
        return made[-1]

    yield make
    for each in made:
        each.close()
        each.close_receiver()


async def receive_all(channel, into):
    with suppress(anyio.EndOfStream):
        while True:
            into.append(await channel.receive())


async def test_messages_come_in_the_order_of_sending_and_each_once(open_channel):
    channel, received = open_channel(4), []
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(receive_all, channel, received)
        async with channel:
            for number in range(100):
                await channel.send(number)

    assert received == [*range(100)]


async def test_a_full_channel_makes_its_sender_wait_until_somebody_receives(open_channel):
    channel = open_channel(2)
    async with anyio.create_task_group() as tasks:
        for number in range(5):
            tasks.start_soon(channel.send, number)
        await anyio.wait_all_tasks_blocked()
        assert channel.statistics().tasks_waiting_send == 3

        assert [await channel.receive() for _ in range(5)] == [*range(5)]


async def test_whoever_sleeps_is_woken_by_the_end(open_channel):
    channel, received = open_channel(1), []
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(receive_all, channel, received)
        await anyio.wait_all_tasks_blocked()
        channel.close()

    assert received == []
    with pytest.raises(Unavailable):
        await channel.send(1)


async def test_a_message_for_one_who_is_cancelled_is_taken_by_another(open_channel):
    channel = open_channel(4)
    first, second = [asyncio.ensure_future(channel.receive()) for _ in range(2)]
    await anyio.wait_all_tasks_blocked()

    channel.send_nowait("for the first, which sleeps for longest")
    first.cancel()

    assert await second == "for the first, which sleeps for longest"
    assert first.cancelled()


async def test_a_sender_who_waits_is_told_when_nobody_will_receive_any_more(open_channel):
    channel = open_channel(1)
    async with anyio.create_task_group() as tasks:
        channel.send_nowait(1)

        async def send():
            with pytest.raises(Unavailable):
                await channel.send(2)

        tasks.start_soon(send)
        await anyio.wait_all_tasks_blocked()
        channel.close_receiver()


async def test_others_have_their_turn_while_messages_keep_coming(open_channel):
    channel, turns = open_channel(1_000), 0

    async def count_turns():
        nonlocal turns
        while True:
            await anyio.lowlevel.checkpoint()
            turns += 1

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(count_turns)
        for number in range(1_000):
            channel.send_nowait(number)
        for _ in range(1_000):
            await channel.receive()
        tasks.cancel_scope.cancel()

    assert turns > 50
