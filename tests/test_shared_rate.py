"""The rate limit of a user holds at all replicas together."""

from contextlib import AsyncExitStack

import pytest

from atlas.core.errors import RateLimited
from atlas.edge.admission import RATE_WINDOW_SECONDS, SHARED_SECONDS, RateLimiter
from tests.support.postgres import open_postgres_journal, open_schema

PER_MINUTE = 60
EVE = "auth0|eve"


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class Replicas:
    """The limiters of several replicas, and their journals on one database."""

    def __init__(self, journals, clock):
        self.clock = clock
        self.peers = [journal.peers for journal in journals]
        self.limiters = [RateLimiter(PER_MINUTE, clock, is_shared=True) for _ in journals]

    def accept(self, replica, user=EVE, count=1_000):
        """Send requests to a replica until it refuses one; return how many it accepted."""
        for accepted in range(count):
            try:
                self.limiters[replica].acquire(user)
            except RateLimited:
                return accepted
        return count

    async def exchange(self):
        for peers, limiter in zip(self.peers, self.limiters, strict=True):
            if usage := limiter.take_usage():
                limiter.raise_debts(await peers.exchange_usage(usage))


@pytest.fixture
async def replicas(postgres_servers):
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(open_schema(postgres_servers.get("wheel")))
        journals = [await stack.enter_async_context(open_postgres_journal(url)) for _ in range(2)]
        yield Replicas(journals, Clock())


async def test_whoever_floods_all_replicas_is_stopped_after_an_exchange(replicas):
    before = [replicas.accept(0, count=40), replicas.accept(1, count=40)]
    await replicas.exchange()
    await replicas.exchange()
    after = [replicas.accept(0), replicas.accept(1)]

    assert before == [40, 40]
    assert sum(after) == 0, "together they have accepted more than a minute's requests"


async def test_what_is_used_at_one_replica_counts_once(replicas):
    replicas.accept(0, count=30)
    for _ in range(5):
        await replicas.exchange()

    assert replicas.accept(0) == 30


async def test_a_debt_is_paid_by_time(replicas):
    replicas.accept(0)
    replicas.accept(1, count=40)
    await replicas.exchange()
    replicas.clock.now += 2 * RATE_WINDOW_SECONDS

    assert replicas.accept(0) == PER_MINUTE


async def test_a_phone_that_sends_a_few_requests_costs_no_exchange(replicas):
    replicas.accept(0, count=int(SHARED_SECONDS))

    assert replicas.limiters[0].take_usage() == {}


async def test_a_limiter_of_one_process_remembers_no_usage():
    limiter = RateLimiter(PER_MINUTE, Clock())
    for _ in range(50):
        limiter.acquire(EVE)

    assert limiter.take_usage() == {}
