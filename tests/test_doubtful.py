"""After a failover that lost the last commits, each accepted export is in the dataset once."""

from collections import Counter
from contextlib import asynccontextmanager

import anyio
import pytest

from atlas.core.events import ExportsOfferedAgain, JournalRestored, LeadershipLost, LeadershipTaken
from tests.conftest import ServiceHarness, an_export
from tests.support.postgres import open_schema, run_sql

pytestmark = pytest.mark.slow

LOSE_EXPORT = "DELETE FROM {schema}.export WHERE id = '{id}'"
KEEP_PAYLOADS = "CREATE TABLE {schema}.kept AS TABLE {schema}.payload"
LOSE_COMMITS = """
    WITH older AS (
        UPDATE {schema}.export SET status = 'accepted', rid = NULL, file = NULL, file_bytes = NULL
        WHERE number IN (SELECT number FROM {schema}.kept)
    )
    INSERT INTO {schema}.payload TABLE {schema}.kept
"""
HOLD_BACK = "UPDATE {schema}.lease SET holder = 'another', until = clock_timestamp() + '1 s'"


@pytest.fixture
async def shared(postgres_servers):
    server = postgres_servers.get("wheel")
    async with open_schema(server) as url:
        yield Shared(server, url)


class Shared:
    """A journal in PostgreSQL that loses commits, as a standby does that lags behind."""

    def __init__(self, server, url):
        self.server, self.url = server, url
        self.schema = url.partition("schema=")[2]

    async def run(self, statement, id=""):
        await run_sql(self.server, statement.format(schema=self.schema, id=id))

    @asynccontextmanager
    async def running(self, **more):
        harness = ServiceHarness(self.url, interval_seconds=0.05, **more)
        async with harness.running() as flow:
            yield harness, flow

    async def post_and_keep(self, flow, *names):
        """Send exports, and keep a copy of the payloads before they are committed."""
        await self.run(HOLD_BACK)
        ids = [await post(flow, name, wait="wait=0") for name in names]
        await self.run(KEEP_PAYLOADS)
        await flow.is_empty()
        return ids

    def fail_over(self, flow):
        """Let the adapter find another timeline when it connects the next time."""
        connector = flow.store.leadership._connector
        connector.failovers += 1
        connector.on_failover()


def ndjson(name):
    return b'{"uuid":"%s","type":"HKQuantityTypeIdentifierStepCount","value":1}\n' % name.encode()


async def post(flow, name, wait="wait=5"):
    answer = await flow.post(an_export(ndjson(name)), prefer=wait)
    assert answer.status in {200, 202}, answer
    return answer.body["receipt_id"]


def count_rows(harness):
    return Counter(row["uuid"] for row in harness.dataset.rows())


@pytest.mark.parametrize("layout", ["per-export", "per-group"])
@pytest.mark.parametrize("is_group_known", [True, False], ids=["known group", "unknown group"])
async def test_what_was_committed_and_lost_is_found_in_the_dataset(shared, layout, is_group_known):
    async with shared.running(layout=layout) as (harness, flow):
        _, lost = await shared.post_and_keep(flow, "neighbour", "lost")
        if not is_group_known:
            await shared.run(LOSE_COMMITS)
        await shared.run(LOSE_EXPORT, lost)
        shared.fail_over(flow)
        await flow.seen.wait_for(ExportsOfferedAgain)
        await flow.is_empty()
        receipt = await flow.receipt(lost)
        await post(flow, "fresh")

    assert receipt.body["status"] == "committed"
    assert count_rows(harness) == {"neighbour": 1, "lost": 1, "fresh": 1}
    assert [(each.exports, each.lost) for each in flow.seen.of(ExportsOfferedAgain)] == [(2, 1)]


async def test_what_was_accepted_and_lost_is_uploaded(shared):
    async with shared.running() as (harness, flow):
        await post(flow, "first")
        await shared.run(HOLD_BACK)
        lost = await post(flow, "lost", wait="wait=0")
        await shared.run(LOSE_EXPORT, lost)
        shared.fail_over(flow)
        with anyio.fail_after(10):
            while "lost" not in count_rows(harness):
                await anyio.sleep(0.05)
        await flow.is_empty()

    assert count_rows(harness) == {"first": 1, "lost": 1}


async def test_a_failover_ends_the_lead_and_the_next_one_begins_with_a_comparison(shared):
    async with shared.running() as (harness, flow):
        await shared.post_and_keep(flow, "only the commit is lost")
        await shared.run(LOSE_COMMITS)
        shared.fail_over(flow)
        await flow.seen.wait_for(JournalRestored)
        await flow.is_empty()

    assert count_rows(harness) == {"only the commit is lost": 1}
    assert "deposed" in [each.reason for each in flow.seen.of(LeadershipLost)]


async def test_what_is_offered_after_the_comparison_is_compared_before_it_is_uploaded(shared):
    async with shared.running(layout="per-group") as (harness, flow):
        _, lost = await shared.post_and_keep(flow, "neighbour", "lost")
        await shared.run(LOSE_EXPORT, lost)
        flow.store.leadership._connector.failovers += 1
        await flow.seen.wait_for(LeadershipTaken, 2)
        await post(flow, "fresh")
        flow.store.leadership._connector.on_failover()
        await flow.seen.wait_for(ExportsOfferedAgain)
        await flow.is_empty()

    assert count_rows(harness) == {"neighbour": 1, "lost": 1, "fresh": 1}
