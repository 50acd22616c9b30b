"""Imports at startup: those that a command needs, and no others."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import ENVIRON, NOWHERE, killed_at_last
from tests.support.ready_line import wait_for_url

IMPORTED = re.compile(r"^import time:[ \d|]*\| +([\w.]+)$", re.MULTILINE)
TRACED = [sys.executable, "-X", "importtime", "-m", "atlas"]
HEAVY = {"aiohttp", "anyio", "asyncio", "cryptography", "pydantic", "rich", "starlette"}

# the computations of the worker pool, and their imports
WORKER = """
import sys
import anyio
from atlas.__main__ import main
from atlas.actors.flatten import tabulate
from atlas.core.rows import Header
from atlas.outside.journal.compression import compress
from atlas.computing import WorkerExecutor

def modules():
    yield from tabulate(b"{}", Header("", "", "2026-01-02T12:00:00.000Z", ""), 1, compress)
    return sorted(sys.modules)

if __name__ == "__main__":
    print(*anyio.run(WorkerExecutor(1), 1_000_000, modules), sep="\\n")
"""


def packages(names: list[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


def rooms(names: list[str]) -> set[str]:
    return {name.split(".")[1] for name in names if name.startswith("atlas.")}


@pytest.mark.parametrize(
    ("command", "needed"),
    [
        (["--version"], {"cli", "core"}),
        (["--help"], {"cli", "core"}),
        (["health"], {"cli", "core", "settings"}),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, list) else "",
)
def test_what_is_asked_often_imports_next_to_nothing(command, needed, tmp_path):
    ended = subprocess.run(
        [*TRACED, *command], env=ENVIRON, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    names = IMPORTED.findall(ended.stderr)

    assert "atlas.cli.main" in names
    assert packages(names) & HEAVY == set()
    assert rooms(names) - {"__main__"} == needed


@pytest.mark.slow
def test_a_service_imports_no_stand_in_no_other_command_and_nothing_for_a_terminal(tmp_path):
    told = tmp_path / "told"
    with told.open("w") as log:
        serving = subprocess.Popen(
            [*TRACED, "serve"],
            env=ENVIRON | NOWHERE,
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=log,
            text=True,
        )
    with killed_at_last(serving):
        wait_for_url(told)
    names = IMPORTED.findall(told.read_text())

    assert packages(names) & {"pydantic", "pygments", "rich", "structlog"} == set()
    assert rooms(names) & {"apple", "client", "local"} == set()
    assert "aiohttp.web" not in names
    assert "atlas.server" in names


def test_a_worker_knows_what_it_computes_and_no_more(tmp_path):
    """The worker starts like the `atlas` script, so its main module must import nothing."""
    script = tmp_path / "parent.py"
    script.write_text(WORKER)
    env = ENVIRON | {"PYTHONPATH": str(Path(__file__).parent.parent)}
    told = subprocess.run(
        [sys.executable, script], env=env, capture_output=True, text=True, check=True
    )
    names = told.stdout.split()

    assert rooms(names) - {"__main__"} == {"actors", "computing", "core", "outside"}
    assert packages(names) & (HEAVY - {"anyio"} | {"typer", "sqlite3", "ssl"}) == set()
