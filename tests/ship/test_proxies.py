"""A proxy in front of Atlas preserves bodies, headers, responses and timeouts."""

import http.client
import re
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import msgspec
import pytest

from atlas.core.identifiers import API_PREFIX
from atlas.settings import EdgeSettings, Settings
from tests.chaos.trial_environment import find_free_port
from tests.conftest import an_export, needs
from tests.ship.files import CONFIG
from tests.support.certificates import self_signed
from tests.support.processes import ENVIRON, HOST, SECONDS, Local, fetched, killed_at_last, local

CADDY = (CONFIG / "Caddyfile").read_text(encoding="utf-8")
NGINX = (CONFIG / "nginx.conf").read_text(encoding="utf-8")
NAME, ATLAS = "atlas.example.com", "127.0.0.1:8080"
LINE = b'{"uuid":"%07d","value":1,"sourceName":"' + b"x" * 9_000 + b'"}\n'
IPHONE_SECONDS = 60  # after that it gives up and sends again


@dataclass(frozen=True, slots=True)
class Front:
    """A proxy in front of an `atlas local`."""

    port: int
    behind: Local
    context: ssl.SSLContext | None

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> "Answer":
        where = (HOST, self.port)
        connection = (
            http.client.HTTPConnection(*where, timeout=SECONDS)
            if self.context is None
            else http.client.HTTPSConnection(*where, timeout=SECONDS, context=self.context)
        )
        with closing(connection):
            fields = {name.replace("_", "-"): value for name, value in headers.items()}
            # the proxy may respond before the end of the body
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, path, body, fields)  # type: ignore[arg-type]
            answer = connection.getresponse()
            response_headers = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, response_headers, answer.read())

    def token(self) -> str:
        return "Bearer " + fetched(f"http://{HOST}:{self.behind.port + 2}/stand-in/tokens").decode()


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


def configure_caddy(folder: Path, port: int, atlas: int) -> list[str]:
    """Write config/Caddyfile adapted to this machine, without TLS; return the command."""
    text = CADDY.replace(NAME, f"http://{HOST}:{port}").replace(ATLAS, f"{HOST}:{atlas}")
    (folder / "Caddyfile").write_text(text.replace("{\n", "{\n\tadmin off\n", 1))
    return ["caddy", "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]


def configure_nginx(folder: Path, port: int, atlas: int) -> list[str]:
    """Write config/nginx.conf adapted to this machine, with a certificate; return the command."""
    certificate, key = self_signed(folder)
    text = NGINX.replace(ATLAS, f"{HOST}:{atlas}").replace("listen 443", f"listen {HOST}:{port}")
    text = text.replace("/etc/ssl/atlas/certificate.pem", str(certificate))
    (folder / "atlas.conf").write_text(text.replace("/etc/ssl/atlas/key.pem", str(key)))
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    places = "".join(f"{each}_temp_path {folder}/{each};" for each in kinds)
    (folder / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {folder}/pid; error_log {folder}/errors;"
        f"events {{}} http {{ access_log off; {places} include {folder}/atlas.conf; }}"
    )
    return ["nginx", "-e", f"{folder}/errors", "-c", f"{folder}/nginx.conf"]


PROXIES: dict[str, tuple[tuple[str, ...], Callable[[Path, int, int], list[str]]]] = {
    "caddy": (("caddy", "version"), configure_caddy),
    "nginx": (("nginx", "-v"), configure_nginx),
}


@contextmanager
def run_proxy(kind: str, folder: Path, behind: Local) -> Iterator[Front]:
    probe, configure = PROXIES[kind]
    needs(*probe)
    port = find_free_port()
    command = configure(folder, port, behind.port)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, stdout=log, stderr=log, text=True, env=with_home(folder)
        )
        with killed_at_last(process, 120):
            wait_until_listening(port, folder)
            certificate = folder / "certificate.pem"
            context = (
                ssl.create_default_context(cafile=certificate) if certificate.exists() else None
            )
            yield Front(port, behind, context)


def with_home(folder: Path) -> dict[str, str]:
    """Return an environment with another HOME, as Caddy writes files there."""
    return ENVIRON | {"HOME": str(folder)}


def wait_until_listening(port: int, folder: Path) -> None:
    """Wait until a connection to the port succeeds."""
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            socket.create_connection((HOST, port)).close()
        except OSError:
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.01)
        else:
            return


@pytest.fixture(scope="module")
def behind(tmp_path_factory) -> Iterator[Local]:
    with local(tmp_path_factory.mktemp("behind")) as one:
        yield one


@pytest.fixture(scope="module", params=PROXIES)
def front(request, behind, tmp_path_factory) -> Iterator[Front]:
    with run_proxy(request.param, tmp_path_factory.mktemp(request.param), behind) as one:
        yield one


@pytest.mark.slow
def test_an_export_goes_through_with_its_correlation_id_both_ways(front):
    body = msgspec.json.encode(an_export(b"".join(LINE % each for each in range(300))))

    answer = front.ask(
        "POST",
        f"{API_PREFIX}/export",
        body,
        Authorization=front.token(),
        Content_Type="application/json",
        X_Correlation_Id="of-the-phone",
    )

    receipt = msgspec.json.decode(answer.body)
    assert (answer.status, receipt["records_ingested"]) == (200, 300)
    assert receipt["correlationId"] == "of-the-phone"
    assert answer.headers["x-correlation-id"] == "of-the-phone"


@pytest.mark.slow
def test_of_a_stream_the_first_parts_are_safe_before_its_end_is_sent(front):
    log = front.behind.folder / "log"
    before = log.read_text().count("Uploading HealthKit data to dataset")

    def lines() -> Iterator[bytes]:
        for number in range(1_000):
            yield LINE % number
        deadline = time.monotonic() + SECONDS
        while log.read_text().count("Uploading HealthKit data to dataset") == before:
            assert time.monotonic() < deadline, "nothing arrives before the end"
            time.sleep(0.01)
        for number in range(1_000, 4_000):  # 36 MB in total, more than the limit of a JSON body
            yield LINE % number

    answer = front.ask(
        "POST",
        f"{API_PREFIX}/export",
        lines(),
        Authorization=front.token(),
        Content_Type="application/x-ndjson",
        Atlas_Device=f"behind {front.port}",
    )

    assert (answer.status, msgspec.json.decode(answer.body)["total_records"]) == (200, 4_000)


@pytest.mark.slow
@pytest.mark.parametrize("attempt", range(5))
def test_a_stranger_with_a_large_body_reads_our_answer(front, attempt):
    answer = front.ask(
        "POST", f"{API_PREFIX}/export", b"{" * 5_000_000, Content_Type="application/json"
    )

    assert answer.status == 401
    assert msgspec.json.decode(answer.body)["error"]["code"] == "UNAUTHORIZED"


@pytest.mark.slow
def test_headers_have_the_room_that_they_have_at_atlas(front):
    def status_with_header(count: int) -> int:
        return front.ask("GET", "/health", X_Long="x" * count).status

    assert status_with_header(12 * 1024) == 200
    assert status_with_header(64 * 1024) in {400, 431}


@pytest.mark.slow
def test_the_metrics_are_nobodys_out_there(front):
    answer = front.ask("GET", "/metrics")

    assert answer.status == 404
    assert "x-correlation-id" not in answer.headers  # Atlas never received the request


def directive(text: str, name: str) -> int:
    """Return the number after a directive, which must be the same at every occurrence."""
    (found,) = {int(each) for each in re.findall(rf"(?m)^\s*{name} (\d+)s?;?", text)}
    return found


@pytest.mark.parametrize(
    ("text", "waiting", "kept"),
    [
        pytest.param(CADDY, "response_header_timeout", "keepalive", id="caddy"),
        pytest.param(NGINX, "proxy_read_timeout", "keepalive_timeout", id="nginx"),
    ],
)
def test_a_proxy_waits_for_an_answer_and_does_not_keep_what_atlas_closes(text, waiting, kept):
    settings = msgspec.json.schema(EdgeSettings)["$defs"]["EdgeSettings"]["properties"]
    replies = settings["commit_wait_seconds"]

    assert directive(text, waiting) > max(replies["maximum"], IPHONE_SECONDS)
    assert directive(text, kept) < Settings().edge.idle_seconds
    assert ATLAS.endswith(f":{Settings().edge.port}")
    assert ATLAS in text


def test_the_page_names_what_to_set_for_each_balancer_that_keeps_connections_for_longer():
    page = (CONFIG / "README.md").read_text(encoding="utf-8")
    section = page.partition("### A balancer in front\n")[2].partition("\n### ")[0]
    rows = re.findall(r"(?m)^\| ([A-Z][\w ,-]+|nginx.*?) \| ([\d,]+) s.*? \| (.+) \|$", section)
    atlas = Settings().edge.idle_seconds

    assert f"by default {atlas:g}" in section
    assert len(rows) == 6
    for balancer, seconds, remedy in rows:
        is_safe = int(seconds.replace(",", "")) < atlas
        assert remedy.startswith("nothing") is is_safe, balancer


def test_nginx_cuts_no_body_that_atlas_would_take():
    assert directive(NGINX, "client_max_body_size") == 0
    assert directive(NGINX, "client_body_timeout") > Settings().edge.slow_seconds
    assert directive(NGINX, "proxy_send_timeout") > IPHONE_SECONDS
    assert "proxy_request_buffering off;" in NGINX
    assert "request_body" not in CADDY
    assert "read_body" not in CADDY


@pytest.mark.slow
def test_caddy_goes_on_with_the_other_replica(tmp_path):
    needs("caddy", "version")
    port, (first, second) = find_free_port(), (find_free_port(), find_free_port())
    upstreams = {"SITE": f"http://{HOST}:{port}", "UPSTREAMS": f"{HOST}:{first} {HOST}:{second}"}
    (tmp_path / "Caddyfile").write_text(CADDY.replace("{\n", "{\n\tadmin off\n", 1))
    command = ["caddy", "run", "--config", str(tmp_path / "Caddyfile"), "--adapter", "caddyfile"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=tmp_path, stderr=log, text=True, env=with_home(tmp_path) | upstreams
        )
    with killed_at_last(process, 120), serve_name("second", second):
        wait_until_listening(port, tmp_path)
        with serve_name("first", first):
            assert {fetched(upstreams["SITE"]) for _ in range(4)} == {b"first", b"second"}
        assert {fetched(upstreams["SITE"]) for _ in range(4)} == {b"second"}


@contextmanager
def serve_name(name: str, port: int) -> Iterator[None]:
    """Answer every GET at this port with a name."""

    class Named(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(name)))
            self.end_headers()
            self.wfile.write(name.encode())

        def log_message(self, format: str, *args: object) -> None:
            """Do not log."""

    with ThreadingHTTPServer((HOST, port), Named) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.slow
def test_caddy_takes_its_file_as_it_stands(tmp_path):
    needs("caddy", "version")
    command = ["caddy", "validate", "--config", CONFIG / "Caddyfile", "--adapter", "caddyfile"]

    found = subprocess.run(
        command, env=with_home(tmp_path), capture_output=True, text=True, check=False
    )

    assert found.returncode == 0, found.stderr
