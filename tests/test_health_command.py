"""`atlas health` as a container probe: in its own process, against a service on a real socket."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Thread

import pytest

from atlas.cli.health import Unhealthy, fetch_health, get_local_url
from atlas.settings import EdgeSettings
from tests.support.processes import COMMAND, ENVIRON, HOST, NOWHERE, killed_at_last, local
from tests.support.ready_line import wait_for_url

LIVE = b'{"status": "healthy", "service": "atlas", "version": "0.1.0"}'
FULL = b"""{"status": "not ready", "checks": {"keys": {"ok": true},
    "journal": {"ok": false, "reason": "The journal is full."}}}"""


def health(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [COMMAND, "health", *arguments]
    env = ENVIRON | environ
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=20, check=False)


def read_failure(ended: subprocess.CompletedProcess[str], code: int = 1) -> str:
    """Return the reason for a failure, and check that it is the only line of output."""
    assert (ended.returncode, ended.stdout) == (code, ""), ended.stderr
    assert ended.stderr.startswith("atlas: ")
    assert ended.stderr.count("\n") == 1
    return ended.stderr


@contextmanager
def serve_response(*pieces: bytes, hangs: bool = False) -> Iterator[tuple[str, list[bytes]]]:
    """Serve one request with this response; yield the URL and the received bytes."""
    heard: list[bytes] = []

    def answer() -> None:
        with server.accept()[0] as connection:
            connection.settimeout(5)
            heard.append(connection.recv(4096))
            for piece in pieces:
                connection.sendall(piece)
            with suppress(TimeoutError):
                if hangs:
                    connection.recv(1)  # until the client gives up

    with socket.create_server((HOST, 0)) as server:
        thread = Thread(target=answer, daemon=True)
        thread.start()
        yield f"http://{HOST}:{server.getsockname()[1]}", heard
        thread.join(5)


def http(status: str, body: bytes) -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status.encode(), len(body), body)


def test_who_is_well_says_so_and_it_ends_with_0():
    with serve_response(http("200 OK", LIVE)) as (url, heard):
        ended = health("--to", f"{url}/behind/a/proxy/")

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "healthy\n", "")
    assert heard[0].startswith(b"GET /behind/a/proxy/health/live HTTP/1.1\r\n")


def test_a_program_gets_the_status_as_json():
    with serve_response(http("200 OK", LIVE)) as (url, _):
        ended = health("--json", ATLAS_URL=url)

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, '{"status":"healthy"}\n', "")


def test_who_is_not_ready_says_which_check_fails_and_why():
    with serve_response(http("503 Service Unavailable", FULL)) as (url, heard):
        said = read_failure(health("--ready", ATLAS_URL=url))

    assert said == f"atlas: Atlas at {url} is not ready. journal: The journal is full.\n"
    assert heard[0].startswith(b"GET /health/ready ")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        pytest.param(http("200 OK", b"<html>"), "is not Atlas", id="a page"),
        pytest.param(http("404 Not Found", b'{"error": {}}'), "is not Atlas", id="another API"),
        pytest.param(http("200 OK", b"\xff"), "is not Atlas", id="no text"),
        pytest.param(http("200 OK", b"[" * 10_000), "is not Atlas", id="an abyss"),
        pytest.param(b"SSH-2.0-OpenSSH_9.6\r\n", "is not Atlas", id="another protocol"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", "is not Atlas", id="cut off"
        ),
        pytest.param(b"", "Cannot connect to", id="nothing"),
        pytest.param(http("200 OK", b'{"status": "a\\nb"}'), "is not Atlas", id="two lines"),
        pytest.param(
            http("503 Unavailable", FULL.replace(b"is full", b"\\u001b[2J")),
            "is not Atlas",
            id="what commands a terminal",
        ),
    ],
)
def test_what_is_no_atlas_is_not_well(answer, said):
    with serve_response(answer) as (url, _), pytest.raises(Unhealthy, match=said) as error:
        fetch_health(url, "/health/live")

    assert str(error.value).isprintable()


@pytest.mark.parametrize("pieces", [[], [b"HTTP/1.1 200 OK\r\n"]], ids=["silence", "half of it"])
def test_who_hangs_is_not_waited_for(pieces):
    with (
        serve_response(*pieces, hangs=True) as (url, _),
        pytest.raises(Unhealthy, match=r"within 0\.2 s"),
    ):
        fetch_health(url, "/health/live", 0.2)


def test_nobody_is_not_well():
    with socket.create_server((HOST, 0)) as free:
        port = free.getsockname()[1]

    assert f"Cannot connect to http://{HOST}:{port}: " in read_failure(health(PORT=str(port)))


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8080"),
        ("0.0.0.0", "http://127.0.0.1:8080"),
        ("::", "http://[::1]:8080"),
        ("10.0.0.5", "http://10.0.0.5:8080"),
        ("fd00::5", "http://[fd00::5]:8080"),
    ],
)
def test_it_is_asked_where_the_settings_make_it_listen(host, url):
    assert get_local_url(EdgeSettings(host=host)) == url


def test_what_is_no_url_is_wrong_usage():
    assert "--to" in read_failure(health("--to", "a.test"), 2)
    assert "PORT must be" in read_failure(health(PORT="high"), 78)


@pytest.mark.slow
def test_a_running_service_is_well_by_each_way_of_naming_it(tmp_path):
    (tmp_path / "atlas.toml").write_text("")
    with local(tmp_path) as running:
        (tmp_path / "atlas.toml").write_text(f"[edge]\nport = {running.port}")
        by = [
            health("--to", running.url),
            health("--ready", "--to", running.url),
            health(ATLAS_URL=running.url),
            health(PORT=str(running.port)),
            health(PORT=str(running.port), ATLAS_OPERATOR_TOKEN_FILE="/replaced/just/now"),
            health(ATLAS_CONFIG=str(tmp_path / "atlas.toml")),
            health("--config", str(tmp_path / "atlas.toml")),
        ]

    assert [each.returncode for each in by] == [0] * 7, by
    assert [each.stdout for each in by] == ["healthy\n", "ready\n"] + ["healthy\n"] * 5


@pytest.mark.slow
def test_a_service_without_keys_lives_and_is_not_ready(tmp_path):
    out, log = tmp_path / "out", tmp_path / "log"
    with out.open("wb") as stdout, log.open("wb") as stderr:
        how = {"cwd": tmp_path, "env": ENVIRON | NOWHERE, "text": True}
        serving = subprocess.Popen([COMMAND, "serve"], stdout=stdout, stderr=stderr, **how)
    with killed_at_last(serving):
        url = wait_for_url(log)
        lives, ready = health("--to", url), health("--ready", "--to", url)

    assert lives.returncode == 0
    assert "is not ready. keys: " in read_failure(ready)
    assert out.read_bytes() == b"", "it has not said that it is ready"


@pytest.mark.parametrize("host", ["a..b", "a" * 64 + ".test"])
def test_a_name_that_no_host_has_is_told_in_one_line(host):
    assert "the host name is invalid" in read_failure(health("--to", f"http://{host}/"))


def test_a_password_in_the_address_is_not_told():
    assert "pass" not in read_failure(health("--to", f"http://user:pass@{HOST}:9"))
