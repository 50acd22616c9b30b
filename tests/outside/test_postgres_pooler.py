"""The journal behind PgBouncer in transaction mode, where no session has a server process."""

import asyncio
import shutil
import socket
from contextlib import AsyncExitStack, contextmanager, suppress

import pytest

from atlas.core.commits import Conclusion, Verdict
from atlas.core.errors import CommandError, ConfigurationError
from atlas.core.messages import BranchSnapshot, GroupLimits
from atlas.local.postgres.accounts import choose_account
from atlas.local.postgres.server import HOST, find_free_port, wait_until
from tests.conftest import needs
from tests.support.exports import NOON, SHELF, export
from tests.support.postgres import open_postgres_journal, open_schema, run_sql

ALL = GroupLimits()
SEEN = BranchSnapshot("ri.foundry.main.transaction.0", NOON)
RID = "ri.foundry.main.transaction.1"
EXPORTS = 100
CONFIGURATION = """
[databases]
postgres = host={HOST} port={server.port} user=atlas password={server.password}
[pgbouncer]
listen_addr = {HOST}
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 3
"""


@contextmanager
def run_pooler(server, folder):
    """Run PgBouncer in front of this server, with fewer connections than its clients have."""
    needs("pgbouncer", "--version")
    port, path, account = find_free_port(), folder / "pgbouncer.ini", choose_account()
    path.write_text(CONFIGURATION.format(HOST=HOST, server=server, port=port))
    path.chmod(0o600)
    account.own(path)
    program = shutil.which("pgbouncer")
    with (folder / "pgbouncer.log").open("wb") as log:
        process = account.spawn((program, path), log.fileno(), {})
    try:
        wait_until(lambda: can_connect(port))
        yield port
    finally:
        process.kill()
        process.wait()


def can_connect(port):
    with suppress(OSError), socket.create_connection((HOST, port), 1):
        return True
    return False


@pytest.fixture
async def pooled_url(postgres_servers, tmp_path_factory):
    server = postgres_servers.get_any()
    folder = server.data.parent / tmp_path_factory.mktemp("pooler").name
    folder.mkdir()
    folder.chmod(0o711)
    with run_pooler(server, folder) as port:
        async with open_schema(server) as url:
            yield server, url.replace(f":{server.port}/", f":{port}/")


@pytest.mark.slow
async def test_replicas_behind_a_pooler_lose_nothing_and_see_changes_by_poll(pooled_url):
    server, url = pooled_url
    schema = url.rpartition("=")[2]
    async with AsyncExitStack() as stack:
        one, two, three = [
            await stack.enter_async_context(
                open_postgres_journal(url, retention=SHELF, is_pooled=True)
            )
            for _ in range(3)
        ]
        topics = []

        async def handle(topic):
            topics.append(topic)

        listening = asyncio.create_task(two.peers.listen(handle))
        await one.leadership.acquire()
        exports = [export(number) for number in range(EXPORTS)]
        sent = [journal.intake.append(each) for each in exports for journal in (one, two, three)]
        receipts, _ = await asyncio.gather(
            asyncio.gather(*sent),
            asyncio.gather(*[two.ledger.read_totals() for _ in range(EXPORTS)]),
        )
        assert [each.id for each in receipts] == [each.id for each in exports for _ in range(3)]
        assert sum(not each.replayed for each in receipts) == EXPORTS

        group = await one.outbox.claim(ALL, SEEN, "normal")
        await one.outbox.record_open(RID, ALL)
        payloads = await one.outbox.read([each.id for each in group.exports])
        assert payloads == {each.id: each.table.data for each in exports}
        verdict = Verdict("committed", transaction=RID)
        await one.outbox.conclude(Conclusion(RID, default_verdict=verdict))

        topics.clear()
        async with asyncio.timeout(3):
            while "settled" not in topics:
                await asyncio.sleep(0.05)
        outcomes = await two.peers.read_outcomes([each.id for each in exports])
        assert {each.transaction for each in outcomes.receipts} == {RID}
        assert (await two.ledger.read_totals()).imbalance == 0
        listening.cancel()
    (count,) = await run_sql(server, f"SELECT count(*) FROM {schema}.export")
    assert count == EXPORTS


async def test_a_pooler_that_nobody_has_named_is_refused(pooled_url):
    _, url = pooled_url
    for _ in range(3):
        with pytest.raises((ConfigurationError, CommandError), match="pooled = true"):
            async with open_postgres_journal(url, retention=SHELF):
                pass
