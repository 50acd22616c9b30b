"""Step 5 with a database that several replicas share: defects, warnings, replicas."""

import base64

import anyio
import pytest
from msgspec.structs import replace

from atlas.core.inspection import DatabaseHealth
from atlas.core.status import Replica
from atlas.diagnose.database import find_warnings
from tests.conftest import an_export
from tests.support.exports import NOON
from tests.support.postgres import run_sql
from tests.support.processes import four_free_ports
from tests.support.running_system import first_failing, step
from tests.support.temporary_postgres import run_temporary_server

KEY = base64.b64encode(bytes(32)).decode()
LEADER = Replica("one", "1.0", NOON, 7, is_this=True)
FOLLOWER = Replica("two", "1.0", NOON)
SOUND = DatabaseHealth(
    version=18,
    defect="",
    standbys="ANY 1 (a, b)",
    has_checksums=True,
    connections=97,
    connections_of_replica=5,
    clock_skew_seconds=0.1,
    oldest_transaction_seconds=1.0,
    are_notifications_delayed=False,
    is_led=True,
    replicas=(LEADER, FOLLOWER),
)
WARNINGS = [
    pytest.param({"is_led": False}, "No replica uploads.", id="no leader"),
    pytest.param({"clock_skew_seconds": -31.0}, "this machine is 31 s behind", id="our clock"),
    pytest.param(
        {"replicas": (LEADER, replace(FOLLOWER, clock_skew_seconds=45.0))},
        "The clock of two is 45 s ahead of",
        id="the clock of another replica",
    ),
    pytest.param({"oldest_transaction_seconds": 700.0}, "open for 11 minutes", id="vacuum"),
    pytest.param({"are_notifications_delayed": True}, "Notifications", id="silent"),
    pytest.param({"connections": 19}, "allows 19 connections, and 20 are needed", id="connections"),
    pytest.param(
        {"replicas": (LEADER, replace(FOLLOWER, version="1.1"))}, "1.0, 1.1", id="versions"
    ),
    pytest.param({"has_checksums": False}, "no checksums", id="checksums"),
    pytest.param({"standbys": ""}, "No synchronous standby", id="no standby"),
]


@pytest.mark.parametrize(("change", "reason"), WARNINGS)
def test_what_endangers_a_shared_journal_is_warned_of_with_what_to_do(change, reason):
    (warning,) = find_warnings(replace(SOUND, **change), "")

    assert warning.verdict == "warn"
    assert reason in warning.reason
    assert warning.to_do


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"clock_skew_seconds": 29.0, "oldest_transaction_seconds": 599.0, "connections": 20},
        {"connections": None, "oldest_transaction_seconds": None},
        {"replicas": (), "is_led": False},
    ],
)
def test_a_sound_database_is_not_warned_of(change):
    assert list(find_warnings(replace(SOUND, **change), "")) == []


def test_a_standby_that_the_provider_has_is_not_asked_for():
    assert list(find_warnings(replace(SOUND, standbys=""), "elsewhere")) == []


@pytest.fixture
async def shared(system, postgres_url):
    """A system whose journal is in a database, on each server that there is."""
    return share(system, postgres_url)


def share(system, url):
    system.journal_url, system.journal_keys = url, (KEY,)
    system.journal_bounds = {"standby": "elsewhere"}
    return system


async def test_a_service_names_its_replicas_and_the_one_that_uploads(shared):
    async with shared.serving() as serving:
        await serving.send(an_export(), shared.token())
        found = await serving.diagnosed()

    seen = step(found, 5)
    (replica,) = [value for name, value in seen.evidence if name == "replica"]
    assert seen.verdict in {"pass", "warn"}, seen
    assert replica.endswith("leads (epoch 1), this one")
    assert dict(seen.evidence)["database"].startswith("PostgreSQL ")
    assert "Notifications" not in str(seen)
    assert "password" not in str(found)
    assert first_failing(found) is None or first_failing(found) < 5


async def test_a_command_beside_a_service_sees_it_and_probes_its_branch(shared):
    async with shared.serving() as serving:
        await serving.send(an_export(), shared.token())
        found = await shared.diagnosed()

    assert "in use by 1 replica" in dict(step(found, 5).evidence)["path"]
    assert step(found, 9).verdict == "pass"


async def test_a_server_that_would_lose_exports_fails_and_nothing_is_probed(
    system, postgres_servers
):
    with run_temporary_server(postgres_servers.find_any_programs(), {"fsync": "off"}) as server:
        shared = share(system, f"{server.url}?schema=atlas")
        found = await shared.diagnosed()

    assert first_failing(found) == 5
    assert found.exit_code == 15
    assert "fsync is off" in step(found, 5).to_do
    assert "see step 5" in step(found, 9).reason
    assert shared.states() == []


async def test_a_setting_that_became_dangerous_fails_in_a_running_service(system, postgres_servers):
    with run_temporary_server(postgres_servers.find_any_programs(), {}) as server:
        shared = share(system, f"{server.url}?schema=atlas")
        async with shared.serving() as serving:
            await run_sql(server, "ALTER SYSTEM SET full_page_writes = off")
            await run_sql(server, "SELECT pg_reload_conf()")
            with anyio.fail_after(5):
                while (await run_sql(server, "SHOW full_page_writes"))[0] == "on":
                    await anyio.sleep(0.05)
            found = await serving.diagnosed()

    assert step(found, 5).verdict == "fail"
    assert "full_page_writes is off" in step(found, 5).reason
    assert "Turn it on" in step(found, 5).to_do


@pytest.mark.slow  # a server may take ten seconds to start
async def test_a_database_that_is_away_fails_without_its_password(system):
    url = f"postgresql://atlas:s3cret@127.0.0.1:{four_free_ports()}/atlas"
    found = await share(system, url).diagnosed()

    assert first_failing(found) == 5
    assert "the server does not answer" in step(found, 5).reason
    assert "s3cret" not in str(found)


async def test_a_diagnosis_before_the_first_start_creates_nothing(system, postgres_servers):
    server = postgres_servers.get("wheel")
    system.journal_url, system.journal_keys = f"{server.url}?schema=not_yet", (KEY,)
    found = await system.diagnosed()
    (schemas,) = await run_sql(
        server, "SELECT count(*) FROM pg_namespace WHERE nspname = 'not_yet'"
    )

    assert step(found, 5).verdict == "unknown"
    assert "no journal in the database yet" in step(found, 5).reason
    assert schemas == 0
