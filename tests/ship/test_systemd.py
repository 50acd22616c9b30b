"""The systemd unit is valid, confines Atlas, and permits everything that Atlas needs."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from atlas.core.errors import ConfigurationError, JournalLocked
from tests.conftest import needs
from tests.reliability.recording import needs_strace
from tests.ship.files import CONFIG, UNIT
from tests.support.processes import (
    ENVIRON,
    HOST,
    SECONDS,
    atlas,
    four_free_ports,
    killed_at_last,
    until_ready,
)

FILE = CONFIG / "systemd" / "atlas.service"
COMMAND = Path(sys.executable).with_name("atlas")
EXPOSURE_MAX = 20  # in tenths; 10.0 is a service without any restrictions
ROOT_ONLY = {"fchown"}  # as root, SQLite gives its log the owner of the journal


def systemd_analyze(*arguments: object) -> subprocess.CompletedProcess[str]:
    needs("systemd-analyze", "--version")
    command = ["systemd-analyze", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def write_unit(folder: Path, text: str) -> Path:
    """Write the unit with the path of the command in this environment."""
    unit = folder / FILE.name
    command = re.sub(r"(?m)^ExecStart=\S+", f'ExecStart="{COMMAND}"', text)
    unit.write_text(command, encoding="utf-8")
    return unit


def test_systemd_takes_it(tmp_path):
    found = systemd_analyze("verify", write_unit(tmp_path, FILE.read_text(encoding="utf-8")))

    assert (found.returncode, found.stderr) == (0, "")


def test_a_word_that_systemd_does_not_know_is_noticed(tmp_path):
    text = FILE.read_text(encoding="utf-8").replace("TimeoutStopSec", "TimeoutStop")

    assert "TimeoutStop" in systemd_analyze("verify", write_unit(tmp_path, text)).stderr


def test_there_is_little_that_it_may_do(tmp_path):
    unit = write_unit(tmp_path, FILE.read_text(encoding="utf-8"))
    options = ("security", "--offline=true", f"--threshold={EXPOSURE_MAX}", "--no-pager")

    found = systemd_analyze(*options, unit)

    assert found.returncode == 0, found.stdout


def test_it_is_started_again_but_not_with_a_setting_that_is_wrong():
    never = UNIT.one("Service", "RestartPreventExitStatus").split()

    assert UNIT.one("Service", "Restart") == "always"
    assert str(ConfigurationError.exit_code) in never
    assert str(JournalLocked.exit_code) not in never
    assert UNIT.one("Unit", "StartLimitIntervalSec") == "0"


def test_it_counts_as_started_once_it_is_ready_however_long_that_takes():
    """Only the main process may say so, not its workers."""
    assert UNIT.one("Service", "Type") == "notify"
    assert UNIT.one("Service", "NotifyAccess") == "main"
    assert UNIT.one("Service", "TimeoutStartSec") == "infinity"


def list_allowed_calls() -> set[str]:
    """Return the system calls that the filter permits; @ names a set, ~ removes calls."""
    calls: set[str] = set()
    for line in UNIT.all("Service", "SystemCallFilter"):
        for name in line.removeprefix("~").split():
            found = expand_set(name)
            calls = calls - found if line.startswith("~") else calls | found
    return calls


def expand_set(name: str) -> set[str]:
    if not name.startswith("@"):
        return {name}
    _, *within = systemd_analyze("syscall-filter", name).stdout.split("\n")
    names = [each.strip() for each in within if each.strip() and "#" not in each]
    return set[str]().union(*(expand_set(each) for each in names))


@pytest.mark.slow
def test_what_atlas_asks_of_the_system_is_allowed(tmp_path):
    """Covers workers, a large export, a commit and a shutdown."""
    needs_strace()
    many = tmp_path / "many.ndjson"
    many.write_text("".join(f'{{"uuid":"{number}"}}\n' for number in range(30_000)))
    calls = tmp_path / "calls"
    port = four_free_ports()
    strace = ["strace", "-f", "-o", str(calls), str(COMMAND), "local", "--port", str(port)]
    process = subprocess.Popen(
        strace,
        cwd=tmp_path,
        env=ENVIRON | {"ATLAS_WORKERS": "2"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with killed_at_last(process, 3 * SECONDS):
        said = "".join(until_ready(process))
        assert f"ready http://{HOST}:{port}" in said
        assert (
            atlas(tmp_path, "send", many, "--stream", "--to", f"http://{HOST}:{port}").returncode
            == 0
        )
        (traced,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(traced), signal.SIGTERM)
        assert process.wait(SECONDS) == 0

    lines = calls.read_text(encoding="utf-8", errors="replace").splitlines()
    made = {found[1] for line in lines if (found := re.match(r"\d+ +(\w+)\(", line))}
    assert made - list_allowed_calls() - ROOT_ONLY == set()
    assert {"setpriority", "fdatasync", "accept4"} <= made  # the trace is not empty
    pages = [line for line in lines if "PROT_EXEC" in line]  # for MemoryDenyWriteExecute
    assert not [line for line in pages if "PROT_WRITE" in line or "mprotect(" in line]
    families = {found[1] for line in lines if (found := re.search(r"socket\((AF_\w+)", line))}
    assert families <= {*UNIT.one("Service", "RestrictAddressFamilies").split()}
