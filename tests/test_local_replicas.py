"""`atlas local --replicas`: replicas as processes, a real database, one killed, nothing lost."""

import os
import re
import signal
import subprocess
from pathlib import Path

import msgspec
import pytest

from atlas.cli.local_folder import render_toml
from atlas.cli.local_replicas import (
    LocalSecrets,
    build_environment,
    open_database,
)
from atlas.core.errors import CommandError
from atlas.settings import load
from tests.ship.files import CONNECTIONS
from tests.support.processes import (
    COMMAND,
    ENVIRON,
    HOST,
    SECONDS,
    SECONDS_OF_ALL,
    Local,
    four_free_ports,
    killed_at_last,
    local,
    started,
    until_ready,
)
from tests.support.waiting import is_gone, until

TAKEN = '"This replica uploads"'
COMMITTED = 200, "committed"
COUNT_CONNECTIONS = """
    SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'atlas %'
    GROUP BY application_name
"""


@pytest.fixture
def programs(postgres_servers):
    """Skip the test on a machine without PostgreSQL or its driver."""
    postgres_servers.find_any_programs()


def pids_of(atlas: Local) -> list[int]:
    """Return the processes of the replicas and of the database."""
    replicas = re.findall(r"(?m)^  Replica .* process (\d+),", atlas.said)
    assert len(replicas) == 2
    database = (atlas.folder / "state" / "postgres" / "postmaster.pid").read_text().split()[0]
    return [int(each) for each in (*replicas, database)]


def send(atlas: Local, uuid: str) -> tuple[int, object]:
    status, receipt = atlas.post(uuid, "wait=20")
    return status, receipt["status"]


@pytest.mark.slow
def test_of_two_replicas_one_is_killed_and_comes_again_and_every_export_is_there_once(
    programs, tmp_path
):
    with local(tmp_path, "--replicas", 2) as atlas:
        first, second, database = pids_of(atlas)
        assert [send(atlas, uuid) for uuid in "abcd"] == [COMMITTED] * 4
        assert atlas.log.count(TAKEN) == 1  # the first that was started

        os.kill(first, signal.SIGKILL)
        assert [send(atlas, uuid) for uuid in "efgh"] == [COMMITTED] * 4
        assert atlas.log.count(TAKEN) == 2

        command = re.search(r"(?m)^  (\S+ serve --config \S+)$", atlas.said)[1]
        with (tmp_path / "log-of-it").open("wb") as log:
            again = started(tmp_path, *command.split()[1:], log=log.fileno())
        with killed_at_last(again, SECONDS_OF_ALL):
            "".join(until_ready(again))
            os.kill(second, signal.SIGKILL)
            assert [send(atlas, uuid) for uuid in "ijkl"] == [COMMITTED] * 4
            again.send_signal(signal.SIGTERM)
            assert again.wait(SECONDS) == 0

        assert atlas.ended(signal.SIGINT) == 0
        assert atlas.uuids() == sorted("abcdefghijkl")
        assert all(is_gone(pid) for pid in (first, second, database))
        told = atlas.process.stdout.read()
        assert f"Replica 1 ended (SIGKILL). Start it again: {command}" in told
        assert "Replica 2 ended (SIGKILL)" in told


@pytest.mark.slow
def test_the_next_run_goes_on_with_the_same_journal(programs, tmp_path):
    with local(tmp_path, "--replicas", 2) as atlas:
        assert send(atlas, "a") == COMMITTED
        assert atlas.ended(signal.SIGTERM) == 0
    with local(tmp_path, "--replicas", 2) as atlas:
        _, receipt = atlas.post("a", "wait=20")
        assert receipt["replayed"]
        assert atlas.uuids() == ["a"]
        assert atlas.ended(signal.SIGINT) == 0


@pytest.mark.slow
async def test_a_replica_has_as_many_connections_as_the_pages_say(programs, tmp_path):
    import asyncpg  # noqa: PLC0415 - the test is skipped where it is missing

    with local(tmp_path, "--replicas", 2) as atlas:
        assert send(atlas, "a") == send(atlas, "b") == COMMITTED
        password = LocalSecrets.load(tmp_path / "state" / "replicas.json").password
        port = re.search(r"(?m)^  Database +127\.0\.0\.1:(\d+) ", atlas.said)[1]
        connection = await asyncpg.connect(f"postgresql://atlas:{password}@{HOST}:{port}/postgres")
        try:
            counts = await connection.fetch(COUNT_CONNECTIONS)
        finally:
            await connection.close()

    assert len(counts) == 2
    assert max(row["count"] for row in counts) == CONNECTIONS  # of the one that uploads


@pytest.mark.slow
def test_what_is_killed_itself_leaves_no_process_behind(programs, tmp_path):
    with local(tmp_path, "--replicas", 2) as atlas:
        pids = pids_of(atlas)
        atlas.ended(signal.SIGKILL)
        for pid in pids:
            until(lambda pid=pid: is_gone(pid))


@pytest.mark.slow
def test_the_password_and_the_key_are_for_this_user_only_and_not_printed(programs, tmp_path):
    with local(tmp_path, "--replicas", 2) as atlas:
        known = LocalSecrets.load(tmp_path / "state" / "replicas.json")
        send(atlas, "a")
        written = [tmp_path / "state", *(tmp_path / "state").rglob("*")]

    for secret in (known.password, known.journal_key):
        assert secret not in atlas.said + atlas.log
    names = {file.name for file in written}
    assert {
        "replicas.json",
        "replica-1.toml",
        "replica-2.toml",
        "PG_VERSION",
        "auth0.json",
    } <= names
    assert any(name.endswith(".ndjson") for name in names)
    assert [file for file in written if file.exists() and file.stat().st_mode & 0o077] == []


@pytest.mark.slow
def test_two_at_once_on_one_folder_are_refused_in_one_line(programs, tmp_path):
    with local(tmp_path, "--replicas", 2) as atlas:
        second = start_in_vain(tmp_path, "--port", str(atlas.port + 4), code=75)

    assert f"state is in use by another atlas local (process {atlas.process.pid}, " in second


@pytest.mark.slow
def test_without_the_programs_it_is_one_line(tmp_path):
    said = start_in_vain(tmp_path, "--port", str(four_free_ports()), ATLAS_POSTGRES_BIN="/nowhere")

    assert "/nowhere does not contain" in said


def test_without_the_driver_nothing_is_started(monkeypatch, tmp_path):
    monkeypatch.setattr("atlas.cli.local_replicas.find_spec", lambda _: None)

    with pytest.raises(CommandError, match="asyncpg"), open_database(tmp_path / "state"):
        pass
    assert not (tmp_path / "state").exists()


def start_in_vain(folder, *options, code=1, **variables):
    """Run `atlas local` that cannot start; return its one line."""
    found = subprocess.run(
        [COMMAND, "local", "--replicas", "2", "--state", "state", *options],
        cwd=folder,
        env=ENVIRON | variables,
        capture_output=True,
        text=True,
        timeout=SECONDS_OF_ALL,
        check=False,
    )
    assert (found.returncode, found.stdout) == (code, "")
    (line,) = found.stderr.splitlines()
    return line


def test_no_variable_and_no_secrets_file_overrides_the_settings_of_a_replica():
    environ = {"PORT": "1", "ATLAS_JOURNAL_FILE": "/nowhere", "ATLAS_CONFIG": "a", "PATH": "/bin"}

    assert build_environment(environ, Path("b")) == {"PATH": "/bin", "ATLAS_CONFIG": "b"}


def test_the_settings_of_a_replica_are_written_as_they_are():
    toml = b'[foundry]\nbranch = "a \\"\\u00e9\\\\ b"\n[foundry.group]\nexports_max = 7\n'
    settings = load(toml, {"ATLAS_JOURNAL": "postgresql://a:b@c/d", "CORS_ORIGINS": "https://a,b"})

    written = render_toml(msgspec.to_builtins(settings, enc_hook=str))

    assert load(written.encode(), {}) == settings
