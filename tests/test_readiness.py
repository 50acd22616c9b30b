"""A service says that it is ready when it is: on stdout, and to the service manager."""

import json
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError

import anyio
import pytest

from atlas.core.errors import AuthUnavailable
from atlas.core.events import ReadinessDelayed
from atlas.edge.health import explain_unready
from atlas.server import ServiceManager
from atlas.server.readiness import Readiness
from tests.conftest import ServiceHarness, asgi
from tests.support.fakes import KnownUsers
from tests.support.processes import (
    COMMAND,
    ENVIRON,
    HOST,
    NOWHERE,
    SECONDS,
    SECONDS_OF_ALL,
    Local,
    fetched,
    four_free_ports,
    killed_at_last,
    local,
)
from tests.support.ready_line import read_ready_url, wait_for_url

# without a service


class Manager:
    """A service manager that listens at a socket."""

    def __init__(self, address: str) -> None:
        self.channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.channel.bind(address)
        self.channel.settimeout(SECONDS)

    def receive(self) -> list[str]:
        return self.channel.recv(4096).decode().split("\n")

    def wait_for(self, assignment: str) -> list[list[str]]:
        """Return all messages up to the one with this assignment."""
        messages = [self.receive()]
        while assignment not in messages[-1]:
            messages.append(self.receive())
        return messages


@contextmanager
def open_manager(address: str) -> Iterator[Manager]:
    manager = Manager(address)
    with manager.channel:
        yield manager


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short name: the path of a socket has at most 107 characters."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def test_a_manager_is_notified_at_its_socket(folder):
    with open_manager(f"{folder}/notify") as manager:
        ServiceManager(f"{folder}/notify").notify("READY=1", "STATUS=Ready.")

        assert manager.receive() == ["READY=1", "STATUS=Ready."]


def test_an_at_sign_stands_for_an_abstract_socket(folder):
    with open_manager(f"\0{folder}/abstract") as manager:
        ServiceManager(f"@{folder}/abstract").notify("STOPPING=1")

        assert manager.receive() == ["STOPPING=1"]


@pytest.mark.parametrize("address", ["", "nowhere", "@nowhere", "vsock:2:1234", "a" * 300])
def test_a_manager_that_does_not_listen_stops_nothing(address):
    ServiceManager(address).notify("READY=1")


def test_a_reason_cannot_smuggle_in_another_assignment(folder):
    with open_manager(f"{folder}/notify") as manager:
        ServiceManager(f"{folder}/notify").notify("STATUS=Not ready.\nREADY=1")

        assert manager.receive() == ["STATUS=Not ready. READY=1"]


async def test_a_service_is_announced_once_and_only_when_it_is_ready(folder):
    reasons, announced = ["keys: away.", "keys: away.", None, None], []

    async def explain_unready():
        assert announced == []
        return reasons.pop(0)

    with open_manager(f"{folder}/notify") as manager:
        with anyio.fail_after(SECONDS):
            its_manager, emitted = ServiceManager(f"{folder}/notify"), []
            say = lambda: announced.append(1)  # noqa: E731
            await Readiness(explain_unready, say, its_manager, emitted.append).announce()
        messages = manager.wait_for("READY=1")

    assert (announced, reasons, emitted) == ([1], [None], [])
    assert messages == [
        ["STATUS=Not ready. keys: away."],
        ["READY=1", "STATUS=Ready."],
    ]


async def test_a_service_that_is_not_ready_for_long_says_why_once_per_reason(monkeypatch):
    monkeypatch.setattr("atlas.server.readiness.QUIET_SECONDS", 0.0)
    monkeypatch.setattr("atlas.server.readiness.POLL_SECONDS", 0.0)
    reasons, emitted = ["keys: away."] * 3 + ["journal: full."] * 3 + [None], []

    async def explain_unready():
        return reasons.pop(0)

    await Readiness(explain_unready, lambda: None, ServiceManager(), emitted.append).announce()

    assert emitted == [ReadinessDelayed("keys: away."), ReadinessDelayed("journal: full.")]


class NoKeys(KnownUsers):
    async def check_ready(self):
        raise AuthUnavailable


@pytest.mark.parametrize(
    ("identities", "settings"),
    [
        pytest.param(KnownUsers(), {}, id="ready"),
        pytest.param(NoKeys(), {}, id="without keys"),
        pytest.param(KnownUsers(), {"journal_exports_max": 0}, id="with a full journal"),
    ],
)
async def test_ready_is_what_the_route_says(tmp_path, identities, settings):
    life = ServiceHarness(tmp_path / "journal", identities=identities, **settings)
    async with life.running() as flow:
        before = await flow.service.explain_unready()
        answer = await asgi(flow.service.public, "GET", "/health/ready", {})
        flow.service.drain()
        draining = await flow.service.explain_unready()

    failed = [name for name, check in answer.body["checks"].items() if not check["ok"]]
    assert (before is None) == (answer.status == 200)
    assert [name for name in failed if f"{name}: " not in (before or "")] == []
    assert "draining: " in draining


async def test_a_check_that_crashes_is_a_reason_and_ends_no_service():
    crashes = []

    async def crash():
        raise ZeroDivisionError

    assert await explain_unready({"journal": crash}, lambda *crash: crashes.append(crash))
    assert [type(error) for _, error in crashes] == [ZeroDivisionError]


# with a process


@contextmanager
def serve(folder: Path, **environ: str) -> Iterator[subprocess.Popen[str]]:
    """Run `atlas serve`; its output goes to the files `out` and `log`."""
    with (folder / "out").open("wb") as out, (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [COMMAND, "serve"],
            cwd=folder,
            env=ENVIRON | NOWHERE | environ,
            stdout=out,
            stderr=log,
            text=True,
        )
    with killed_at_last(process, SECONDS_OF_ALL):
        yield process


def use_systems_of(systems: Local) -> dict[str, str]:
    return {
        "AUTH0_ISSUER": f"http://{HOST}:{systems.port + 2}/",
        "FOUNDRY_HOST": f"http://{HOST}:{systems.port + 1}",
        "FOUNDRY_CLIENT_ID": "local",
        "FOUNDRY_CLIENT_SECRET": "local-secret",
    }


@pytest.mark.slow
def test_systemd_learns_that_it_is_ready_and_that_it_stops(tmp_path, folder):
    (tmp_path / "systems").mkdir()
    with local(tmp_path / "systems") as systems, open_manager(f"{folder}/notify") as manager:
        environ = use_systems_of(systems) | {"NOTIFY_SOCKET": f"{folder}/notify"}
        with serve(folder, **environ) as process:
            manager.wait_for("READY=1")
            url = read_ready_url((folder / "out").read_text())
            assert b'"status":"ready"' in fetched(f"{url}/health/ready").replace(b" ", b"")
            process.send_signal(signal.SIGTERM)
            assert "STATUS=Shutting down." in manager.wait_for("STOPPING=1")[-1]
            assert process.wait(SECONDS) == 0


@pytest.mark.slow
def test_a_service_whose_auth0_comes_later_is_ready_later(tmp_path, folder):
    """It waits, it says for what, and it does not end."""
    port = four_free_ports()
    (tmp_path / "systems").mkdir()
    with open_manager(f"{folder}/notify") as manager:
        environ = {
            "AUTH0_DOMAIN": "",
            "AUTH0_ISSUER": f"http://{HOST}:{port + 2}/",
            "NOTIFY_SOCKET": f"{folder}/notify",
        }
        with serve(folder, **environ) as process:
            (first,) = manager.receive()
            assert first.startswith("STATUS=Not ready. keys: ")
            url = wait_for_url(folder / "log")
            with pytest.raises(HTTPError, match="503"):
                fetched(f"{url}/health/ready")
            assert (folder / "out").read_text() == ""
            while '"Not ready yet","reason":"keys: ' not in (folder / "log").read_text():
                assert process.poll() is None
            command = [COMMAND, "local", "--port", str(port)]
            with killed_at_last(
                subprocess.Popen(
                    command,
                    cwd=tmp_path / "systems",
                    env=ENVIRON,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    text=True,
                ),
                SECONDS_OF_ALL,
            ):
                manager.wait_for("READY=1")
            assert process.poll() is None
        assert read_ready_url((folder / "out").read_text()) == url


@pytest.mark.slow
@pytest.mark.parametrize("log_format", ["json", "text"])
def test_all_that_a_service_prints_is_json_or_nothing_is(tmp_path, log_format):
    (tmp_path / "systems").mkdir()
    with local(tmp_path / "systems") as systems:
        environ = use_systems_of(systems) | {"ATLAS_LOG_FORMAT": log_format}
        with serve(tmp_path, **environ) as process:
            out = tmp_path / "out"
            while not out.read_text().endswith("\n"):
                assert process.poll() is None
            url = read_ready_url(out.read_text())
            (tmp_path / "second").mkdir()
            taken = environ | {"PORT": url.rpartition(":")[2]}
            with serve(tmp_path / "second", **taken) as second:
                assert second.wait(SECONDS_OF_ALL) == 1, "its port is in use"
            process.send_signal(signal.SIGTERM)
            assert process.wait(SECONDS) == 0
    lines = [
        line
        for name in ("out", "log", "second/log")
        for line in (tmp_path / name).read_text(encoding="utf-8").splitlines()
    ]

    assert len(lines) > 5
    if log_format == "json":
        told = [json.loads(line) for line in lines]
        assert all({"timestamp", "level", "message"} <= each.keys() for each in told)
        assert told[-1]["exitCode"] == 1
    else:
        assert not [line for line in lines if line.startswith("{")]
        assert any(line.startswith("ready http://") for line in lines)
        assert lines[-1].startswith("atlas: Cannot listen ")
