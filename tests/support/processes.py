"""Runs commands as processes: `atlas`, and a whole `atlas local`."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Timer

import msgspec
import pytest

from atlas.core.identifiers import API_PREFIX
from atlas.settings import VARIABLES, Settings
from tests.conftest import an_export
from tests.support.ready_line import read_ready_url

COMMAND = Path(sys.executable).with_name("atlas")
ENVIRON = {
    name: value
    for name, value in os.environ.items()
    if name not in VARIABLES and not name.startswith("ATLAS_")
} | {
    "ATLAS_COMMIT_INTERVAL_SECONDS": "0.1",
    "LOG_LEVEL": "debug",  # shows how far an export has got
}
DATASET = Settings().foundry.dataset_rid
HOST = "127.0.0.1"
NOWHERE = {  # an unreachable address, and free ports
    "AUTH0_DOMAIN": f"http://{HOST}:9",
    "FOUNDRY_HOST": f"http://{HOST}:9",
    "FOUNDRY_CLIENT_ID": "client",
    "FOUNDRY_CLIENT_SECRET": "secret",
    "ATLAS_OPERATOR_LISTEN": f"{HOST}:0",
    "PORT": "0",
}
SECONDS, SECONDS_OF_ALL = 20.0, 120.0  # one step, and all: longer than anything takes


def started(folder: Path, *arguments: object, log: int = subprocess.PIPE) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [COMMAND, *map(str, arguments)],
        cwd=folder,
        env=ENVIRON,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
    )


@contextmanager
def killed_at_last(
    process: subprocess.Popen[str], seconds: float = SECONDS
) -> Iterator[subprocess.Popen[str]]:
    """Kill the process at the end of the block, or after so many seconds at the latest."""
    watchdog = Timer(seconds, process.kill)
    watchdog.start()
    with process:
        try:
            yield process
        finally:
            watchdog.cancel()
            process.kill()


def atlas(
    folder: Path, *arguments: object, seconds: float = SECONDS
) -> subprocess.CompletedProcess[str]:
    """Run a command that ends by itself."""
    with killed_at_last(started(folder, *arguments), seconds) as process:
        out, err = process.communicate(timeout=seconds)
    assert "Traceback" not in err
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@dataclass
class Local:
    """A running `atlas local`; `said` is its output until it was ready."""

    process: subprocess.Popen[str]
    port: int
    folder: Path
    said: str

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def journal(self) -> Path:
        return self.folder / "state" / "journal.db"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(encoding="utf-8")

    def files(self) -> dict[str, bytes]:
        """Return the committed files, as they are on disk."""
        branch = self.folder / "state" / "foundry" / DATASET / "master"
        return {
            str(path.relative_to(branch)): path.read_bytes()
            for path in sorted(branch.rglob("*.ndjson"))
        }

    def rows(self) -> list[dict[str, object]]:
        lines = b"".join(self.files().values()).splitlines()
        return [msgspec.json.decode(line) for line in lines]

    def uuids(self) -> list[str]:
        return sorted(str(row["uuid"]) for row in self.rows())

    def stand_in(self) -> dict[str, list[dict[str, object]]]:
        """Return Foundry's own view."""
        return msgspec.json.decode(fetched(f"http://{HOST}:{self.port + 1}/stand-in/state"))

    def post(self, uuid: str, prefer: str, token: str = "") -> tuple[int, dict[str, object]]:
        """Send one record, with or without a token."""
        anybody = f"http://{HOST}:{self.port + 2}/stand-in/tokens"
        token = token or fetched(anybody).decode()
        request = urllib.request.Request(
            f"{self.url}{API_PREFIX}/export",
            msgspec.json.encode(an_export(b'{"uuid":"%b"}\n' % uuid.encode())),
            {
                "Authorization": f"Bearer {token}",
                "Content-Type": "application/json",
                "Prefer": prefer,
            },
        )
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            return answer.status, msgspec.json.decode(answer.read())

    def tells(self, message: str) -> None:
        """Return once this message is in the log."""
        deadline = time.monotonic() + SECONDS
        while message not in self.log:
            assert time.monotonic() < deadline, f"{message} was never told"
            time.sleep(0.005)

    def ended(self, *signals: signal.Signals) -> int:
        for each in signals:
            self.process.send_signal(each)
        return self.process.wait(SECONDS)


def children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for each in listed for child in each.read_text().split()]


def fetched(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=SECONDS) as answer:
        return answer.read()


@contextmanager
def local(folder: Path, *options: object, seconds: float = SECONDS_OF_ALL) -> Iterator[Local]:
    """Run `atlas local` on ports of its own, continuing from the last run in the folder."""
    for _ in range(5):
        port = four_free_ports()
        with (folder / "log").open("ab") as log:
            arguments = ["local", "--port", port, "--state", "state", *options]
            process = started(folder, *arguments, log=log.fileno())
        with killed_at_last(process, seconds):
            said = "".join(until_ready(process))
            if f"ready http://{HOST}:{port}" in said:
                yield Local(process, port, folder, said)
                return
    pytest.fail(f"It does not start: {(folder / 'log').read_text()}")


def until_ready(process: subprocess.Popen[str]) -> Iterator[str]:
    assert process.stdout is not None
    for line in process.stdout:
        yield line
        if read_ready_url(line):
            return


def four_free_ports() -> int:
    """Return the first of four free ports. If another process takes one, try again with others."""
    while True:
        with ExitStack() as held:
            try:
                first = held.enter_context(socket.create_server((HOST, 0))).getsockname()[1]
                for port in range(first + 1, first + 4):
                    held.enter_context(socket.create_server((HOST, port)))
            except (OSError, OverflowError):
                continue
            return first
