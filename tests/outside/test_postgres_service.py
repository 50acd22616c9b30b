"""Two replicas of the service, while their database is restarted and fails over."""

import asyncio
import base64
import itertools
import time
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial

import pytest

from tests.chaos.service_process import ServiceProcess
from tests.chaos.trial_environment import HOST, SCALES, find_free_port, open_testbed
from tests.support.postgres import run_sql
from tests.support.postgres_proxy import run_postgres_proxy
from tests.support.temporary_postgres import create_standby, promote, run_temporary_server

SENDERS = 4  # at each replica


@asynccontextmanager
async def open_replicas(url, other_url):
    """Yield a testbed with two replicas, and the clients of the second one; the first one leads."""
    journal = {"url": url, "keys": [base64.b64encode(bytes(32)).decode()]}
    async with open_testbed(SCALES["ci"], "1", {"journal": journal}) as testbed:
        folder = testbed.folder / "two"
        folder.mkdir()
        settings = {name: dict(section) for name, section in testbed.atlas.settings.items()}
        settings["edge"]["port"] = find_free_port()
        settings["journal"]["url"] = other_url
        settings["operator"]["listen"] = f"{HOST}:{find_free_port()}"
        two = ServiceProcess(folder, settings)
        await testbed.atlas.start()
        await two.start()
        try:
            other_url = f"http://{HOST}:{settings['edge']['port']}"
            yield testbed, replace(testbed.clients, url=other_url, refused=Counter())
        finally:
            await two.kill()


async def send(clients, times):
    while True:
        await clients.deliver(clients.next_export())
        times.append(time.monotonic())


@asynccontextmanager
async def run_senders(*clients):
    """Yield the times of the answers."""
    times = []
    async with AsyncExitStack() as stack:
        for each in clients * SENDERS:
            task = asyncio.create_task(send(each, times))
            stack.callback(task.cancel)
        await wait_for_answers(times)
        yield times


async def wait_for_answers(times, count=100):
    enough = len(times) + count
    async with asyncio.timeout(60):
        while len(times) < enough:
            await asyncio.sleep(0.05)


async def check_balance(testbed):
    """Check that each export is there once, after those in the clients' hands are."""
    for name, sent in testbed.oracle.sent.items():
        if sent.reply is None:
            testbed.oracle.given_up.add(name)
    await testbed.wait_until_drained()
    balance = await testbed.draw_balance()
    assert list(balance.list_failures()) == []
    assert balance.committed > 0
    async with asyncio.timeout(10):  # the group of a sender that was cancelled may begin late
        while testbed.emulators.list_open():
            await asyncio.sleep(0.05)


def measure_stall(times, since):
    return max(
        after - max(before, since)
        for before, after in itertools.pairwise(sorted(times))
        if after >= since
    )


def report(text):
    print(text)  # noqa: T201  # pytest shows it with a failure, or with -s


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["restart", "promotion"])
async def test_replicas_go_on_when_their_database_is_restarted_or_fails_over(
    postgres_servers, kind
):
    with run_temporary_server(postgres_servers.find_any_programs()) as server:
        standby = create_standby(server, server.data.parent / "standby")
        with standby:
            statement = "ALTER SYSTEM SET synchronous_standby_names = 'standby'"
            await run_sql(server, statement, "SELECT pg_reload_conf()")
            both = f"{HOST}:{server.port},{HOST}:{standby.port}"
            url = server.url.replace(f"{HOST}:{server.port}", both)
            async with open_replicas(url, url) as (testbed, others):
                async with run_senders(testbed.clients, others) as times:
                    away_at = time.monotonic()
                    await asyncio.to_thread(server.kill)
                    then = server.start if kind == "restart" else partial(promote, standby)
                    await asyncio.to_thread(then)
                    back_at = time.monotonic()
                    await wait_for_answers(times)
                await check_balance(testbed)
                refused = testbed.clients.refused + others.refused
                report(
                    f"{kind}: away for {back_at - away_at:.2f} s; longest time without an answer "
                    f"{measure_stall(times, away_at):.2f} s, behind it "
                    f"{measure_stall(times, back_at):.2f} s; refused {dict(refused)}"
                )
                assert measure_stall(times, back_at) < 3
                assert back_at - away_at > 10 or not refused


@pytest.mark.slow
@pytest.mark.parametrize("is_leader", [False, True], ids=["follower", "leader"])
async def test_a_replica_that_is_cut_off_from_the_database_disturbs_no_other(
    postgres_servers, is_leader
):
    """For 15 s, nothing that it sends arrives. So it accepts nothing."""
    async with AsyncExitStack() as stack:
        programs = postgres_servers.find_any_programs()
        server = stack.enter_context(run_temporary_server(programs))
        proxy = await stack.enter_async_context(run_postgres_proxy(server.port))
        cut_url = server.url.replace(f"{HOST}:{server.port}", f"{HOST}:{proxy.port}")
        urls = [cut_url, server.url] if is_leader else [server.url, cut_url]
        testbed, others = await stack.enter_async_context(open_replicas(*urls))
        cut, free = (testbed.clients, others) if is_leader else (others, testbed.clients)
        async with run_senders(free) as times, run_senders(cut) as cut_times:
            proxy.flow, cut_at = "none", time.monotonic()
            await asyncio.sleep(15)
            assert not [at for at in cut_times if at > cut_at + 2]
            assert cut.refused
            assert measure_stall(times, cut_at) < (8 if is_leader else 2.5)
            proxy.flow, free_at = "both", time.monotonic()
            proxy.reset()
            await wait_for_answers(cut_times)
            await wait_for_answers(times)
        await check_balance(testbed)
        report(
            f"cut off: longest time without an answer {measure_stall(times, cut_at):.2f} s at the "
            f"other replica, behind it {measure_stall(cut_times, free_at):.2f} s at this one; "
            f"refused {dict(cut.refused)} here and {dict(free.refused)} there"
        )
        assert not free.refused
