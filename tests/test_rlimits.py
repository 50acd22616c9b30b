"""System limits: no core dumps, and enough descriptors to serve operators."""

import re
import resource
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec
import pytest

from atlas.core.identifiers import API_PREFIX
from atlas.server import build_connection_limits
from atlas.server.http import ConnectionLimits
from atlas.settings import EdgeSettings
from tests.conftest import an_export
from tests.support.processes import (
    COMMAND,
    ENVIRON,
    HOST,
    SECONDS_OF_ALL,
    children,
    fetched,
    four_free_ports,
    killed_at_last,
    until_ready,
)
from tests.support.waiting import until

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

CRASH = """
import os, resource, subprocess, sys
from atlas.server.rlimits import disable_core_dumps
resource.setrlimit(resource.RLIMIT_CORE, resource.getrlimit(resource.RLIMIT_CORE)[1:] * 2)
disable_core_dumps()
os.abort() if sys.argv[1] == "itself" else sys.exit(
    -subprocess.call([sys.executable, "-c", "import os; os.abort()"])
)
"""


@pytest.mark.parametrize("who", ["itself", "its child"])
def test_a_crash_leaves_no_core(tmp_path, who):
    crashed = subprocess.run([sys.executable, "-c", CRASH, who], cwd=tmp_path, check=False)

    assert abs(crashed.returncode) == 6
    assert list(tmp_path.iterdir()) == []


def test_so_many_connections_that_descriptors_are_left():
    of = [
        build_connection_limits(EdgeSettings(connections_max=10_000), each)[0].connections_max
        for each in (256, 1024, 65_536)
    ]

    assert of == [128, 724, 10_000]
    assert build_connection_limits(EdgeSettings(), 1024)[1].connections_max == 64


def test_each_setting_of_a_connection_reaches_both_listeners():
    edge = EdgeSettings(
        header_bytes_max=2_048, header_seconds=1.0, slow_seconds=2.0, idle_seconds=3.0
    )
    for limits in build_connection_limits(edge, 1024):
        assert (limits.header_bytes_max, limits.header_seconds) == (2_048, 1.0)
        assert (limits.write_timeout_seconds, limits.idle_seconds) == (2.0, 3.0)


def test_tests_of_the_listener_use_the_limits_of_production():
    assert build_connection_limits(EdgeSettings(), 100_000)[0] == ConnectionLimits()


@contextmanager
def limit_descriptors(folder: Path, count: int) -> Iterator[tuple[int, int]]:
    """Run `atlas local`; yield its process id and its first port."""
    script = f'ulimit -n {count}; exec "$0" "$@"'
    port = four_free_ports()
    arguments = ["sh", "-c", script, str(COMMAND), "local", "--port", str(port)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            arguments,
            cwd=folder,
            env=ENVIRON | {"ATLAS_WORKERS": "1"},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        with killed_at_last(process, SECONDS_OF_ALL):
            assert f"ready http://{HOST}:{port}" in "".join(until_ready(process))
            yield process.pid, port


def metric(port: int, name: str) -> float:
    text = fetched(f"http://{HOST}:{port + 3}/metrics").decode()
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    assert found
    return float(found[1])


@pytest.mark.slow
def test_more_idle_connections_than_descriptors_lock_out_neither_phones_nor_operators(tmp_path):
    with limit_descriptors(tmp_path, 400) as (_, port), ExitStack() as stack:
        for _ in range(600):
            stack.enter_context(socket.create_connection((HOST, port), timeout=10))

        assert fetched(f"http://{HOST}:{port}/health/live")
        until(lambda: metric(port, 'atlas_connections_cut_total{reason="made_room"}') >= 400)
        assert fetched(f"http://{HOST}:{port}/health/ready")


@pytest.mark.slow
@linux_only
def test_the_service_and_its_workers_leave_no_core_and_may_open_many_files(tmp_path):
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    large = b"".join(b'{"uuid":"%d","unit":"%b"}\n' % (n, b"x" * 99) for n in range(9_000))
    with limit_descriptors(tmp_path, f"-S {min(512, hard)}") as (pid, port):
        sent(port, large)
        family = [pid, *children(pid)]
        limits = [Path(f"/proc/{each}/limits").read_text() for each in family]

    assert len(family) > 1
    assert {limit("Max core file size", text) for text in limits} <= {0, 1}
    assert limit("Max open files", limits[0]) == min(hard, 65_536)


def limit(name: str, text: str) -> int:
    """Return the soft limit, as reported by the kernel."""
    found = re.search(rf"^{name} +(\d+)", text, re.MULTILINE)
    assert found
    return int(found[1])


def sent(port: int, lines: bytes) -> None:
    token = fetched(f"http://{HOST}:{port + 2}/stand-in/tokens").decode()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    body = msgspec.json.encode(an_export(lines))
    request = urllib.request.Request(f"http://{HOST}:{port}{API_PREFIX}/export", body, headers)
    with urllib.request.urlopen(request, timeout=SECONDS_OF_ALL) as answer:
        assert answer.status in {200, 202}
