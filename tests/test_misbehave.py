"""`atlas misbehave`: the emulators of a running `atlas local` fail as told, and recover."""

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from urllib.error import HTTPError

import msgspec
import pytest

from atlas.cli.misbehave import EmulatorState
from tests.support.processes import HOST, fetched, four_free_ports, local
from tests.support.waiting import until

ADA, BEN = "auth0|ada", "auth0|ben"
JWKS = "/.well-known/jwks.json"
NAMES = count()
COMMITTED = 200, "committed"


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """A running `atlas local`."""
    with local(tmp_path_factory.mktemp("local")) as atlas:
        yield atlas


@pytest.fixture
def misbehave(atlas, running):
    """Run `atlas misbehave` for it, and end all failures after the test."""

    def run(*arguments):
        return atlas("misbehave", *arguments, "--port", running.port)

    yield run
    assert run("--stop").out == "The emulators behave as usual.\n"


def post(running, sub, prefer="wait=20"):
    """Send an export of a user; return the status and the state of the export."""
    token = fetched(f"http://{HOST}:{running.port + 2}/stand-in/tokens?sub={sub}").decode()
    status, receipt = running.post(f"export-{next(NAMES)}", prefer, token)
    return status, receipt["status"]


def count_set_aside(atlas, running):
    options = "--status", "set_aside", "--json", "--journal", running.journal
    page = msgspec.json.decode(atlas("exports", "list", *options).out)
    return len(page["entries"])


def calls_of(running):
    return running.stand_in()["calls"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "target", [("--user", ADA), ("--path", "healthkit/raw/auth0|ada/")], ids=["user", "path"]
)
def test_only_her_uploads_fail_and_can_be_replayed_after_the_end(running, misbehave, atlas, target):
    ended = misbehave("foundry", "--status", 400, *target)
    hers, his = post(running, ADA, "wait=3"), post(running, BEN)
    until(lambda: count_set_aside(atlas, running) == 1)
    misbehave("--stop")
    replayed = atlas("exports", "replay", "--all", "--journal", running.journal)

    assert ended.code == 0
    assert ended.out.startswith("Foundry: 400 to upload calls with ")
    assert f"misbehave --stop --port {running.port}" in ended.err
    assert (hers[0], his) == (202, COMMITTED)
    assert replayed.code == 0
    assert count_set_aside(atlas, running) == 0
    assert post(running, ADA) == COMMITTED


@pytest.mark.slow
def test_after_so_many_times_foundry_recovers(running, misbehave):
    before = calls_of(running).get("create 503", 0)
    ended = misbehave("foundry", "--status", 503, "--call", "create", "--times", 2)

    assert ended.out == "Foundry: 503 to create calls, 2 times\n"
    assert post(running, ADA) == COMMITTED
    assert calls_of(running)["create 503"] == before + 2
    assert misbehave("--list").out == "The emulators behave as usual.\n"


@pytest.mark.slow
def test_a_latency_is_that_of_the_answer(running, misbehave):
    misbehave("foundry", "--latency", 1.5, "--path", "auth0|ada")

    assert post(running, ADA, "wait=1")[0] == 202
    assert post(running, BEN, "wait=20")[0] == 200


@pytest.mark.slow
def test_a_kind_of_failure_that_is_lost_adds_no_row_twice(running, misbehave):
    before = len(running.rows())
    misbehave("foundry", "--kind", "lost", "--call", "commit", "--times", 1)

    assert post(running, ADA) == COMMITTED
    assert len(running.rows()) == before + 1


@pytest.mark.slow
def test_auth0_fails_so_many_times_and_signs_with_a_key_that_is_new(running, misbehave):
    auth0 = f"http://{HOST}:{running.port + 2}"
    known = fetched(auth0 + JWKS)
    ended = misbehave("auth0", "--status", 500, "--rotate", "--times", 1)
    kid = msgspec.json.decode(fetched(auth0 + "/stand-in/state"))["kids"][0]
    with pytest.raises(HTTPError, match="500"):
        fetched(auth0 + JWKS)

    assert ended.out == "Auth0: 500 to requests for keys, 1 times\n"
    assert kid.encode() not in known
    assert kid.encode() in fetched(auth0 + JWKS)


@pytest.mark.slow
def test_auth0_can_answer_with_another_kind(running, misbehave):
    assert misbehave("auth0", "--kind", "no-keys").out == "Auth0: no keys to requests for keys\n"
    assert b"EC" in fetched(f"http://{HOST}:{running.port + 2}{JWKS}")


@pytest.mark.slow
def test_what_atlas_local_began_with_is_said_and_its_refusals_end(atlas, tmp_path):
    options = "--foundry-refuse", "auth0|bad", "--foundry-latency", "0.01"
    with local(tmp_path, *options) as running:
        ended = atlas("misbehave", "--stop", "--port", running.port)

    assert ended.out == "Foundry: latency_seconds=0.01\n"
    assert ended.err == "It began with options of `atlas local`: start it without them.\n"


@pytest.mark.slow
def test_each_command_prints_the_state_as_json(misbehave):
    for command in (
        ("foundry", "--status", 503),
        ("auth0", "--latency", 1),
        ("behaviour", "path_taken=upload"),
    ):
        shown = misbehave(*command, "--json").out
        assert msgspec.json.decode(shown, type=EmulatorState).faults[0].status == 503


@pytest.mark.slow
def test_the_list_has_the_latest_first_and_is_there_for_programs(misbehave):
    misbehave("foundry", "--status", 503, "--latency", 2)
    misbehave("foundry", "--kind", "torn", "--call", "get", "--times", 3)
    misbehave("behaviour", "path_taken=upload", "file_exists=409")
    misbehave("auth0", "--latency", 1)
    listed, json = misbehave("--list"), misbehave("--list", "--json")
    state = msgspec.json.decode(json.out, type=EmulatorState)

    assert listed.out.splitlines() == [
        "Foundry: torn to get calls, 3 times",
        "Foundry: 503, 2 s late to every call",
        "Foundry: file_exists=409",
        'Foundry: path_taken="upload"',
        "Auth0: 1 s late to requests for keys",
    ]
    assert [fault.kind for fault in state.faults] == ["torn", "status"]
    assert json.err == ""


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        pytest.param(["foundry"], "--status, --latency or --kind", id="nothing"),
        pytest.param(["foundry", "--kind", "lost", "--status", "400"], "--kind", id="two"),
        pytest.param(["foundry", "--kind", "lost", "--latency", "1"], "--kind", id="both"),
        pytest.param(["foundry", "--kind", "cut"], "refused", id="a kind of the other"),
        pytest.param(["foundry", "--status", "200"], "--status", id="a success"),
        pytest.param(["foundry", "--latency", "-1"], "--latency", id="before the call"),
        pytest.param(["foundry", "--status", "500", "--times", "-1"], "--times", id="times"),
        pytest.param(["foundry", "--status", "500", "--call", "push"], "upload", id="a call"),
        pytest.param(
            ["foundry", "--status", "500", "--call", "commit", "--path", "a"],
            "commit is not about a file",
            id="a path of a call without one",
        ),
        pytest.param(
            ["foundry", "--status", "500", "--call", "list", "--user", "a"],
            "list is not about a file",
            id="a user of a call without one",
        ),
        pytest.param(["foundry", "--status", "500", "--user", ""], "--user", id="an empty user"),
        pytest.param(["foundry", "--status", "500", "--path", ""], "--path", id="an empty path"),
        pytest.param(["auth0"], "--status, --latency or --kind", id="nothing of Auth0"),
        pytest.param(["auth0", "--status", "500", "--user", "a"], "--user", id="a user of Auth0"),
        pytest.param(["behaviour"], "NAME=VALUE", id="no mode"),
        pytest.param(["behaviour", "busy"], "is not NAME=VALUE", id="no value"),
        pytest.param(["behaviour", "busy=very"], "named, unnamed", id="a wrong value"),
        pytest.param(["slack", "--status", "500"], "slack", id="a stranger"),
        pytest.param(["--stop", "foundry", "--status", "500"], "after", id="an end and a failure"),
        pytest.param(["--list", "--port", "0"], "--port", id="a port"),
    ],
)
def test_wrong_usage_is_one_line(atlas, arguments, named):
    assert named in atlas("misbehave", *arguments).in_one_line(2)


def test_without_emulators_it_says_how_to_start_them(atlas):
    port = four_free_ports()
    line = atlas("misbehave", "foundry", "--status", 503, "--port", port).in_one_line(1)

    assert f"run atlas local --port {port}" in line


def test_a_server_that_is_no_emulator_is_asked_only(atlas):
    port = four_free_ports()
    with open_stranger(port + 1) as methods:
        line = atlas("misbehave", "--stop", "--port", port).in_one_line(1)

    assert "No emulators respond" in line
    assert set(methods) == {"GET"}


@contextmanager
def open_stranger(port):
    """Run a server that answers 200 to everything; yield the methods of the requests."""
    methods = []

    class Stranger(BaseHTTPRequestHandler):
        def answer(self):
            methods.append(self.command)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"It works!")

        do_GET = do_POST = do_DELETE = answer  # noqa: N815 - names of the library

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer((HOST, port), Stranger) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield methods
        server.shutdown()
        thread.join()
