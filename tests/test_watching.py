"""Operators see all replicas, the database that they share, and why one of them is not ready."""

import base64
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import anyio
import pytest

from atlas.core import events
from atlas.core.errors import Unavailable
from tests.conftest import an_export, asgi
from tests.support.postgres import open_postgres_journal, run_sql
from tests.support.replicas import list_replicas
from tests.support.running_system import HOST, standing
from tests.support.scrapes import SampleIndex
from tests.support.temporary_postgres import create_standby, run_temporary_server

KEY = base64.b64encode(bytes(32)).decode()
END_CONNECTIONS = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'atlas %'
"""
OPERATOR = {"host": f"{HOST}:9464"}


@pytest.fixture
async def system(tmp_path):
    async with standing(tmp_path) as found:
        found.journal_keys = (KEY,)
        yield found


async def read_status(service):
    return (await asgi(service.operator, "GET", "/status", OPERATOR)).body


async def read_metrics(service):
    return SampleIndex((await asgi(service.operator, "GET", "/metrics", OPERATOR)).body)


async def check_health(service, path):
    return await asgi(service.public, "GET", f"/health/{path}", {"host": HOST})


async def wait_until(is_true):
    """Wait until a coroutine returns something true, and return it."""
    with anyio.fail_after(20):
        while not (result := await is_true()):
            await anyio.sleep(0.05)
    return result


async def test_each_replica_shows_all_with_the_one_that_uploads(system, postgres_url):
    system.journal_url = postgres_url
    async with system.serving() as one, system.serving() as two:

        async def both():
            seen = [await read_status(each.atlas) for each in (one, two)]
            are_listed = all(len(each["replicas"]) == 2 for each in seen)
            has_leader = any(each["epoch"] for each in seen[0]["replicas"])
            return seen if are_listed and has_leader else None

        seen = await wait_until(both)
        await one.send(an_export(), system.token())
        metrics = [await read_metrics(each.atlas) for each in (one, two)]

    names = [[each["name"] for each in status["replicas"]] for status in seen]
    assert names[0] == names[1]
    marked = [[each["is_this"] for each in status["replicas"]] for status in seen]
    assert sorted(marked) == [[False, True], [True, False]]
    assert [each["epoch"] for each in seen[0]["replicas"]].count(1) == 1
    assert all(abs(each["clock_skew_seconds"]) < 5 for each in seen[0]["replicas"])
    assert all(status["journal"]["database_bytes"] > 0 for status in seen)
    leads = [each[("atlas_uploader_leads",)] for each in metrics]
    assert sorted(leads) == [0, 1]
    for each in metrics:
        assert each["atlas_replicas", seen[0]["version"]] == 2
        assert each[("atlas_uploader_epoch",)] == 1
        assert each[("atlas_journal_database_bytes",)] > 0
        assert each[("atlas_notifications_delayed",)] == 0
        assert each["atlas_journal_exports", "committed"] == 1
    assert metrics[0][("atlas_journal_batch_exports_sum",)] == 1
    assert metrics[0][("atlas_journal_commit_seconds_sum",)] > 0
    assert ("atlas_journal_disk_free_bytes",) not in metrics[0]


async def test_a_transaction_that_stops_the_cleaning_up_is_measured(postgres_url):
    async with open_postgres_journal(postgres_url) as journal, connect(postgres_url) as other:
        await other.execute("BEGIN; SELECT txid_current(), pg_sleep(0.2)")
        totals = await journal.ledger.read_totals()

    assert 0.2 <= totals.database.oldest_transaction_seconds < 20
    assert totals.database.dead_rows >= 0


async def test_a_database_that_is_away_makes_a_replica_not_ready_and_leaves_it_alive(
    system, postgres_servers
):
    with run_temporary_server(postgres_servers.find_any_programs(), {}) as server:
        system.journal_url = f"{server.url}?schema=atlas"
        async with system.serving() as serving:
            assert (await check_health(serving.atlas, "ready")).status == 200
            server.stop()
            away = await check_health(serving.atlas, "ready")
            alive = await check_health(serving.atlas, "live")
            metrics = await read_metrics(serving.atlas)
            server.start()
            ready = await wait_until(lambda: is_ready(serving.atlas))
            again = await read_metrics(serving.atlas)

    assert (away.status, alive.status, ready) == (503, 200, True)
    assert "database" in away.body["checks"]["journal"]["reason"]
    assert "password" not in str(away.body)
    assert ("atlas_uploader_leads",) in metrics
    assert ("atlas_journal_exports", "accepted") not in metrics
    assert ("atlas_journal_exports", "accepted") in again
    assert again[("atlas_journal_reconnects_total",)] > 0


async def is_ready(service):
    return (await check_health(service, "ready")).status == 200


@pytest.mark.parametrize("minutes", [-10, 10])
async def test_a_replica_whose_clock_is_wrong_is_not_ready_and_the_others_see_it(
    postgres_url, minutes
):
    def clock():
        return datetime.now(UTC) + timedelta(minutes=minutes)

    async def ignore(_topic):
        pass

    async with (
        open_postgres_journal(postgres_url, clock=clock) as wrong,
        open_postgres_journal(postgres_url) as right,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(wrong.peers.listen, ignore)
        side = "ahead of" if minutes > 0 else "behind"
        with pytest.raises(Unavailable, match=f"clock is (600|599) s {side} the database's"):
            await wrong.ledger.check_ready()
        await right.ledger.check_ready()
        (seen,) = await wait_until(lambda: list_replicas(right))
        tasks.cancel_scope.cancel()

    assert abs(seen.clock_skew_seconds - 60 * minutes) < 5
    assert not seen.is_this


async def test_a_lost_connection_is_an_event_and_no_error(postgres_url):
    seen = []
    async with open_postgres_journal(postgres_url) as journal:
        journal.events.subscribe(seen.append)
        await journal.ledger.check_ready()
        async with connect(postgres_url) as other:
            await other.execute(END_CONNECTIONS)
        await journal.ledger.check_ready()

    assert events.DatabaseConnectionLost() in seen


@asynccontextmanager
async def connect(url):
    import asyncpg  # noqa: PLC0415 - tests that need it are skipped where it is missing

    connection = await asyncpg.connect(url.partition("?")[0])
    try:
        yield connection
    finally:
        await connection.close()


async def test_the_lag_of_the_standby_that_is_farthest_behind_is_measured(postgres_servers):
    following = "SELECT count(*) FROM pg_stat_replication WHERE flush_lsn IS NOT NULL"
    with run_temporary_server(postgres_servers.find_any_programs()) as server:
        async with open_postgres_journal(server.url) as journal:
            alone = await journal.ledger.read_totals()
        with create_standby(server, server.data.parent / "standby"):
            with anyio.fail_after(20):
                while await run_sql(server, following) != [1]:
                    await anyio.sleep(0.05)
            async with open_postgres_journal(server.url) as journal:
                followed = await journal.ledger.read_totals()

    assert alone.database.replication_lag_bytes is None
    assert followed.database.replication_lag_bytes >= 0
