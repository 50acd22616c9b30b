"""The quota for decompressed bodies: who holds it, who waits, who overtakes."""

import random
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest

from atlas.runtime import Quota


@dataclass
class Waiter:
    """A task that acquires units of the quota."""

    quota: Quota
    user: str = "ada"
    weight: int = 1
    has: int = 0
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    more: list[int] = field(default_factory=list)
    wake: anyio.Event = field(default_factory=anyio.Event)

    async def run(self) -> None:
        with self.scope, self.quota.reserve(self.user, self.weight) as held:
            while True:
                while self.more:
                    await held.acquire(self.more[0])
                    self.has += self.more.pop(0)
                self.wake = anyio.Event()
                await self.wake.wait()

    async def wants(self, count: int) -> None:
        self.more.append(count)
        self.wake.set()
        await anyio.wait_all_tasks_blocked()

    async def goes(self) -> None:
        self.scope.cancel()
        await anyio.wait_all_tasks_blocked()


@dataclass
class QuotaTasks:
    """A quota and its waiting tasks."""

    tasks: Any
    quota: Quota

    async def comes(self, count: int, user: str = "ada", weight: int = 1) -> Waiter:
        waiter = Waiter(self.quota, user, weight, more=[count])
        self.tasks.start_soon(waiter.run)
        await anyio.wait_all_tasks_blocked()
        return waiter


class OpenQuota:
    """`async with Open(all, of_a_user) as room`; all units are released at the end."""

    def __init__(self, bytes_max: int, bytes_max_of_user: int) -> None:
        self.quota = Quota(bytes_max, bytes_max_of_user)

    async def __aenter__(self) -> QuotaTasks:
        self.tasks = anyio.create_task_group()
        await self.tasks.__aenter__()
        return QuotaTasks(self.tasks, self.quota)

    async def __aexit__(self, *error):
        self.tasks.cancel_scope.cancel()
        await self.tasks.__aexit__(*error)
        assert self.quota.bytes == self.quota.waiting == 0
        assert not self.quota.is_contended


async def test_who_finds_no_room_waits_until_there_is_some():
    async with OpenQuota(100, 100) as room:
        ada, grace = await room.comes(80), await room.comes(30, "grace")
        assert (ada.has, grace.has, room.quota.waiting) == (80, 0, 1)
        await ada.goes()
        assert grace.has == 30


async def test_who_needs_less_passes_who_waits_for_much():
    async with OpenQuota(100, 100) as room:
        ada, grace = await room.comes(80), await room.comes(30, "grace")
        alan = await room.comes(10, "alan")
        assert (grace.has, alan.has) == (0, 10)
        await ada.goes()
        assert grace.has == 30


async def test_small_bodies_that_come_and_go_keep_no_large_one_out():
    async with OpenQuota(1_000, 1_000) as room:
        first, second = await room.comes(20), await room.comes(20, "grace")
        large = await room.comes(5_000, "alan")
        assert (first.has, second.has, large.has) == (20, 20, 5_000)


async def test_who_finds_nothing_else_there_comes_in_with_however_much():
    async with OpenQuota(100, 50) as room:
        ada, grace = await room.comes(1_000), await room.comes(1, "grace")
        assert (ada.has, grace.has) == (1_000, 0)
        await ada.goes()
        assert grace.has == 1


async def test_a_user_has_only_his_part_and_others_pass_by_who_waits_for_it():
    async with OpenQuota(100, 50) as room:
        ada, more = await room.comes(40), await room.comes(20)
        grace = await room.comes(20, "grace")
        assert (ada.has, more.has, grace.has) == (40, 0, 20)
        await ada.goes()
        assert more.has == 20


async def test_who_waits_for_his_own_bodies_makes_nobody_hurry():
    async with OpenQuota(100, 50) as room:
        await room.comes(40)
        await room.comes(20)
        assert not room.quota.is_contended
        await room.comes(61, "grace")
        assert room.quota.is_contended


async def test_json_weighs_more_than_it_is_long():
    async with OpenQuota(100, 100) as room:
        ada, grace = await room.comes(20, weight=4), await room.comes(21, "grace")
        assert (ada.has, grace.has) == (20, 0)


async def test_who_is_read_already_goes_first():
    async with OpenQuota(100, 100) as room:
        ada, grace = await room.comes(80), await room.comes(20, "grace")
        alan = await room.comes(20, "alan")
        await grace.wants(10)
        grace_before, alan_before = grace.has, alan.has
        await ada.goes()
    assert (grace_before, alan_before) == (30, 0)  # over the limit, so that one can proceed
    assert (grace.has, alan.has) == (30, 20)


async def test_of_bodies_that_wait_in_the_middle_one_at_a_time_goes_on():
    async with OpenQuota(100, 100) as room:
        ada, grace = await room.comes(50), await room.comes(50, "grace")
        await ada.wants(50)
        await grace.wants(50)
        assert (ada.has, grace.has) == (100, 50)
        await ada.wants(1_000)
        assert (ada.has, grace.has) == (1_100, 50)
        await ada.goes()
        assert grace.has == 100


async def test_two_bodies_of_a_user_do_not_wait_for_each_other_for_ever():
    async with OpenQuota(1_000, 50) as room:
        first, second = await room.comes(25), await room.comes(25)
        await first.wants(25)
        await second.wants(25)
        assert (first.has, second.has) == (50, 25)
        await first.goes()
        assert second.has == 50


async def test_who_stops_waiting_is_in_nobodys_way():
    async with OpenQuota(100, 100) as room:
        ada, grace = await room.comes(80), await room.comes(100, "grace")
        alan = await room.comes(90, "alan")
        await grace.goes()
        assert (room.quota.waiting, alan.has) == (1, 0)
        await ada.goes()
        assert alan.has == 90


async def test_what_was_reserved_is_not_taken_again():
    quota = Quota(100, 100)
    with quota.reserve("ada", 2) as held:
        await held.prepay(30)
        await held.acquire(20)
        assert quota.bytes == 60
        await held.acquire(20)
        assert quota.bytes == 80
        held.release(15)
        assert quota.bytes == 50
    assert quota.bytes == 0


async def test_who_holds_nothing_is_not_the_oldest_of_a_user():
    quota = Quota(100, 50)
    with quota.reserve("ada") as empty, quota.reserve("ada") as large:
        await empty.prepay(0)
        await large.prepay(60, 0.0)
        assert quota.bytes == 60
    assert quota.bytes == 0


@pytest.mark.parametrize("seed", range(20))
async def test_whoever_comes_and_grows_gets_on_and_all_is_given_back(seed):
    chance, most = random.Random(seed), 0
    quota = Quota(100, 40)

    async def one(user: str, steps: list[int]) -> None:
        nonlocal most
        with anyio.move_on_after(0.001 if chance.random() < 0.1 else 60):
            with quota.reserve(user, chance.choice([1, 1, 4])) as held:
                for step in steps:
                    await held.acquire(step)
                    most = max(most, quota.bytes)
                    if chance.random() < 0.3:
                        await anyio.lowlevel.checkpoint()
                    if chance.random() < 0.1:
                        held.release(step)

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            for _ in range(200):
                steps = [chance.randint(1, 10) for _ in range(chance.randint(1, 8))]
                tasks.start_soon(one, f"user {chance.randint(1, 9)}", steps)

    assert quota.bytes == quota.waiting == 0
    assert not quota._by_owner
    assert most <= 100 + 4 * 80  # of one body over the limit
