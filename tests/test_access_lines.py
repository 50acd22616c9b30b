"""The line of each request in the log, on both listeners: at debug, and without a secret."""

import io
import json

import pytest

from atlas.core import identifiers
from atlas.core.identifiers import API_PREFIX
from atlas.outside.log import EventLog, build_logger
from tests.conftest import ServiceHarness, an_export, asgi

KEY = b"k" * 32
HOST = {"host": "127.0.0.1"}
ADA = identifiers.pseudonymize(KEY, "ada")


@pytest.fixture
def log():
    return io.StringIO()


@pytest.fixture
def life(tmp_path, log):
    life = ServiceHarness(tmp_path / "journal")
    life.readers = {"log": EventLog(build_logger(log, "debug", "json"), KEY)}
    return life


def read_lines(log, message):
    """Return the lines with this message, without what differs each time."""
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    found = [line for line in lines if line["message"] == message]
    assert all(0 <= line.pop("requestSeconds") < 60 for line in found)
    return [
        {name: line[name] for name in line.keys() - {"timestamp", "level", "message"}}
        for line in found
    ]


async def test_a_request_of_a_phone_has_a_line_with_its_route_and_its_user(life, log):
    async with life.running() as flow:
        answer = await flow.post(an_export(), X_Correlation_Id="c1")
    (line,) = read_lines(log, "Request answered")

    assert line.pop("responseBytes") == int(answer.headers["content-length"]) > 0
    assert line == {
        "correlationId": "c1",
        "route": f"{API_PREFIX}/export",
        "method": "POST",
        "status": 200,
        "user": ADA,
    }


async def test_a_refused_request_has_one_too_and_an_unknown_path_is_not_repeated(life, log):
    async with life.running() as flow:
        await flow.send("GET", "/admin/secret-path", None)
        await flow.post(an_export(), token="secret-token")
        await flow.send("BREW", "/", None)
    lines = read_lines(log, "Request answered")

    assert [(line["route"], line["method"], line["status"]) for line in lines] == [
        ("none", "GET", 404),
        (f"{API_PREFIX}/export", "POST", 401),
        ("/", "other", 405),
    ]
    assert "user" not in lines[1], "its token was not accepted"
    assert "secret" not in log.getvalue()


async def test_a_limited_user_is_named(life, log):
    life.edge = {"rate_per_minute": 1}
    async with life.running() as flow:
        for _ in range(3):
            answer = await flow.send("GET", f"{API_PREFIX}/exports", "token-of-ada")
    last = read_lines(log, "Request answered")[-1]

    assert answer.status == 429
    assert (last["status"], last["user"]) == (429, ADA)


async def test_an_id_in_a_path_and_a_query_are_left_out(life, log):
    secret = "f" * 64
    async with life.running() as flow:
        await flow.receipt(secret)
        await flow.send("GET", f"{API_PREFIX}/exports?key=secret&cursor=secret", "token-of-ada")
    routes = [line["route"] for line in read_lines(log, "Request answered")]

    assert routes == [f"{API_PREFIX}/exports/{{id}}", f"{API_PREFIX}/exports"]
    assert "secret" not in log.getvalue()
    assert secret not in log.getvalue()


@pytest.mark.parametrize(
    ("method", "path", "route", "status"),
    [
        ("GET", "/status", "/status", 200),
        ("GET", "/metrics?secret=1", "/metrics", 200),
        ("GET", "/exports?find=secret", "/exports", 200),
        ("GET", "/exports/secret", "/exports/{id:path}", 404),
        ("POST", "/exports/secret/replay", "/exports/{id:path}/replay", 404),
        ("GET", "/secret", "none", 404),
        ("BREW", "/status", "/status", 405),
    ],
)
async def test_a_request_of_an_operator_has_a_line(life, log, method, path, route, status):
    async with life.running() as flow:
        answer = await asgi(flow.service.operator, method, path, HOST)
    (line,) = read_lines(log, "Operator request answered")

    assert answer.status == status
    assert line.pop("responseBytes") > 0
    assert line == {
        "route": route,
        "method": "other" if method == "BREW" else method,
        "status": status,
    }
    assert "secret" not in log.getvalue()


async def test_at_info_a_request_has_no_line(life, log):
    life.readers = {"log": EventLog(build_logger(log, "info", "json"), KEY)}
    async with life.running() as flow:
        await flow.send("GET", "/health", None)
        await asgi(flow.service.operator, "GET", "/status", HOST)

    assert "answered" not in log.getvalue()
    assert "Atlas started" in log.getvalue()
