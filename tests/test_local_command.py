"""`atlas local`: its start, the commands that it prints, a second one, and its files."""

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from atlas.cli.local_demo import PHONES
from tests.support.processes import (
    COMMAND,
    ENVIRON,
    HOST,
    SECONDS_OF_ALL,
    Local,
    fetched,
    four_free_ports,
    killed_at_last,
    local,
    until_ready,
)
from tests.support.waiting import until

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "config" / "sample.ndjson"
PROGRAM = shlex.quote(str(COMMAND))
ONE_LINE = re.compile(r"atlas: [^\n]+\n")
needs_proc = pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="/proc is of Linux")


def start_in_vain(folder, *options, command=(COMMAND,), **variables):
    """Run `atlas local` that cannot start; return its exit code and its one line."""
    began = time.monotonic()
    ended = subprocess.run(
        [*command, "local", *map(str, options)],
        cwd=folder,
        env=ENVIRON | variables,
        capture_output=True,
        text=True,
        timeout=SECONDS_OF_ALL,
        check=False,
    )
    assert ended.stdout == ""
    assert ONE_LINE.fullmatch(ended.stderr), ended.stderr
    assert time.monotonic() - began < 10  # it waits for nobody: the lock of a journal is worth 15 s
    return ended.returncode, ended.stderr


def run_printed(folder, command):
    """Run a command as it was printed, in a shell."""
    return subprocess.run(
        command,
        cwd=folder,
        env=ENVIRON,
        shell=True,
        capture_output=True,
        text=True,
        timeout=SECONDS_OF_ALL,
        check=False,
    )


def start_as_printed(folder, line):
    """Run the `atlas local` that a message ends with, until it is ready; return its output."""
    command = line.rpartition(": ")[2].strip()
    with (folder / "log-of-printed").open("wb") as log:
        process = subprocess.Popen(
            f"exec {command}",
            cwd=folder,
            env=ENVIRON,
            shell=True,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    with killed_at_last(process, SECONDS_OF_ALL):
        return "".join(until_ready(process))


# its start


@pytest.mark.slow
def test_the_printed_command_sends_the_sample_to_the_printed_folder(tmp_path):
    (tmp_path / "config").mkdir()
    shutil.copy(SAMPLE, tmp_path / "config")
    with local(tmp_path) as atlas:
        (command,) = re.findall(r"(?m)^  (.+ send .*)$", atlas.said)
        (rows,) = re.findall(r"(?m)^  Rows +(.+)$", atlas.said)
        sent = run_printed(tmp_path, command)

        assert "config/sample.ndjson" in command
        assert (sent.returncode, sent.stderr) == (0, "")
        files = list((tmp_path / rows).rglob("*.ndjson"))
    lines = b"".join(file.read_bytes() for file in files).splitlines()
    assert len(lines) == len(SAMPLE.read_bytes().splitlines())


@pytest.mark.slow
def test_its_settings_let_other_commands_find_its_foundry(tmp_path):
    with local(tmp_path) as atlas:
        (send,) = re.findall(r"(?m)^  (.+ send .*)$", atlas.said)
        program = send.partition(" sample ")[0]
        (options,) = re.findall(r"(?m)^  Settings +(.+)$", atlas.said)
        run_printed(tmp_path, send)
        schema = run_printed(tmp_path, f"{program} diagnose --fix-schema --yes {options}")

    assert schema.stdout == "The dataset has the schema of 21 columns, for NDJSON.\n"


@pytest.mark.slow
def test_a_schema_without_foundry_is_a_missing_setting(atlas):
    ended = atlas("diagnose", "--fix-schema", "--yes")

    assert (ended.code, ended.out) == (78, "")
    assert "FOUNDRY_HOST" in ended.err


@pytest.mark.slow
def test_without_the_sample_the_printed_command_makes_one(tmp_path):
    with local(tmp_path) as atlas:
        (command,) = re.findall(r"(?m)^  (.+ send .*)$", atlas.said)
        sent = run_printed(tmp_path, command)

        assert "sample --days 7 |" in command
        assert (sent.returncode, sent.stderr) == (0, "")
        assert len(atlas.rows()) > 1_000


@pytest.mark.slow
def test_the_request_on_the_front_page_commits_a_row(tmp_path):
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"(?s)\n<!-- curl -->\n```sh\n(.+?)\n```\n", page)
    shutil.copytree(ROOT / "config", tmp_path / "config")
    with local(tmp_path) as atlas:
        token = f"{PROGRAM} token --auth0 http://{HOST}:{atlas.port + 2}"
        command = command.replace(":8080/", f":{atlas.port}/")
        receipt = run_printed(tmp_path, command.replace(".venv/bin/atlas token", token)).stdout

        assert msgspec.json.decode(receipt)["status"] == "committed"
        (row,) = atlas.rows()
    assert row["raw_healthkit_record"] == SAMPLE.read_text(encoding="utf-8").splitlines()[0]


@pytest.mark.slow
def test_it_has_a_key_of_its_own_and_does_not_warn(tmp_path):
    with local(tmp_path) as atlas:
        atlas.post("a", "wait=20")
        assert atlas.ended(signal.SIGINT) == 0
        first = atlas.log
    with local(tmp_path) as atlas:
        _, receipt = atlas.post("a", "wait=20")

    assert receipt["replayed"]
    assert "warning" not in first
    assert "ATLAS_JOURNAL_KEY" not in first.replace("ATLAS_JOURNAL_KEY=***", "")
    listed = run_printed(tmp_path, f"{PROGRAM} exports list --journal state/journal.db")
    assert (listed.returncode, listed.stderr) == (0, "")
    assert "committed" in listed.stdout


@pytest.mark.slow
def test_a_journal_that_has_lost_its_key_is_told_as_everywhere(tmp_path):
    with local(tmp_path) as atlas:
        atlas.post("a", "wait=20")
        assert atlas.ended(signal.SIGINT) == 0
    (tmp_path / "state" / "journal.db.key").unlink()

    code, line = start_in_vain(tmp_path, "--port", four_free_ports(), "--state", "state")

    assert code == 78
    assert "encrypted with a key that is not in state/journal.db.key" in line
    assert not (tmp_path / "state" / "journal.db.key").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "shown"),
    [
        pytest.param((".venv/bin/atlas",), ".venv/bin/atlas local", id="from this folder"),
        pytest.param(("a folder/atlas",), "'a folder/atlas' local", id="with a space"),
        pytest.param(("atlas",), "atlas local", id="from the PATH"),
        pytest.param((COMMAND,), f"{PROGRAM} local", id="from elsewhere"),
        pytest.param(("./atlas",), "./atlas local", id="from the very folder"),
        pytest.param((sys.executable, "-m", "atlas"), " -m atlas local", id="as a module"),
    ],
)
def test_a_printed_command_starts_the_same_program(tmp_path, command, shown):
    for place in (".venv/bin", "a folder", "bin", "."):
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        (tmp_path / place / "atlas").symlink_to(COMMAND)
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    with socket.create_server((HOST, 0)) as busy:
        port = busy.getsockname()[1]
        search = {"PATH": path if command == ("atlas",) else "/usr/bin:/bin"}
        # the shell looks for it, not this process
        _, line = start_in_vain(
            tmp_path, "--port", port, command=("/usr/bin/env", *command), **search
        )

    assert f" {shown.strip()} --port " in line


# a second one


@pytest.mark.slow
def test_a_folder_that_is_held_says_by_whom_and_how_to_take_another(tmp_path):
    with local(tmp_path) as atlas:
        code, line = start_in_vain(tmp_path, "--port", atlas.port, "--state", "state")
        said = start_as_printed(tmp_path, line)

    assert code == 75
    assert f"state is in use by another atlas local (process {atlas.process.pid}, since " in line
    assert f"at {atlas.url})" in line
    assert "ready http://" in said


@pytest.mark.slow
def test_a_folder_whose_process_was_killed_is_free(tmp_path):
    with local(tmp_path) as atlas:
        atlas.ended(signal.SIGKILL)
    with local(tmp_path) as atlas:
        assert atlas.post("a", "wait=20")[0] == 200


@pytest.mark.slow
def test_of_two_in_different_folders_the_second_is_told_of_the_ports(tmp_path):
    with local(tmp_path) as atlas:
        code, line = start_in_vain(tmp_path, "--port", atlas.port - 1, "--state", "other")
        said = start_as_printed(tmp_path, line)

    assert code == 1
    assert f"Port {atlas.port} is in use" in line
    assert "--state other" in line
    assert "ready http://" in said


@needs_proc
@pytest.mark.slow
@pytest.mark.parametrize("place", range(4))
def test_a_port_that_another_program_has_is_named_with_its_process(tmp_path, place):
    first = four_free_ports()
    with socket.create_server((HOST, first + place)):
        code, line = start_in_vain(tmp_path, "--port", first)

    assert code == 1
    assert f"Port {first + place} is in use by process {os.getpid()} (" in line
    assert f"the ports {first} to {first + 3}" in line


@pytest.mark.parametrize(
    ("state", "named"),
    [
        pytest.param("file", "file is not a folder", id="a file"),
        pytest.param("file/below", "file is not a folder", id="below a file"),
        pytest.param("file/far/below", "file/far is not a folder", id="far below a file"),
        pytest.param("/proc/atlas", "Cannot write to /proc/atlas", id="read-only"),
    ],
)
def test_a_folder_that_cannot_be_written_to_is_one_line(atlas, tmp_path, state, named):
    (tmp_path / "file").write_bytes(b"")

    line = atlas("local", "--state", state).in_one_line(1)

    assert named in line
    assert "--state FOLDER" in line


# its files


def modes_below(folder):
    return {path: path.stat().st_mode & 0o077 for path in [folder, *folder.rglob("*")]}


@pytest.mark.slow
def test_its_files_are_for_their_owner_only(tmp_path):
    with local(tmp_path) as atlas:
        atlas.post("a", "wait=20")
        modes = modes_below(tmp_path / "state")
        assert atlas.ended(signal.SIGINT) == 0

    names = {path.name for path in modes}
    assert {"journal.db", "journal.db.key", "auth0.json", ".log", "local.lock"} <= names
    assert any(name.endswith(".ndjson") for name in names)
    assert set(modes.values()) == {0}
    assert set(modes_below(tmp_path / "state").values()) == {0}


@pytest.mark.slow
def test_the_files_of_an_earlier_version_become_private(tmp_path):
    with local(tmp_path) as atlas:
        atlas.post("a", "wait=20")
        assert atlas.ended(signal.SIGINT) == 0
    readable = [tmp_path / "state" / "foundry", *(tmp_path / "state").glob("journal.db*")]
    for path in readable:
        path.chmod(0o755)

    with local(tmp_path) as atlas:
        assert [path.stat().st_mode & 0o077 for path in readable] == [0] * len(readable)


# the demo


@pytest.mark.slow
def test_the_phones_of_a_demo_send_all_the_time_and_end_with_it(tmp_path):
    with local(tmp_path, "--demo") as atlas:
        assert "synthetic phones send exports" in atlas.said
        until(lambda: len({row["auth0_user_id"] for row in atlas.rows()}) == 4, SECONDS_OF_ALL)
        phones = {(row["auth0_user_id"], row["device"]) for row in atlas.rows()}
        until(lambda: has_rejected(atlas) or "JWT validation failed" in atlas.log, SECONDS_OF_ALL)
        assert atlas.ended(signal.SIGINT) == 0

    assert phones <= set(PHONES)
    assert "Traceback" not in atlas.log
    assert '"level":"error"' not in atlas.log


def has_rejected(atlas: Local) -> bool:
    metrics = fetched(f"http://{HOST}:{atlas.port + 3}/metrics").decode()
    return 'rejected_total{reason="not valid JSON"} 0.0' not in metrics
