"""A body is what its Content-Type says, or it is refused with the type to send, and not stored."""

import base64
import gzip
import json
import random

import pytest

from atlas.core.identifiers import API_PREFIX
from atlas.core.stream_splitter import PART_BYTES
from tests.conftest import ServiceHarness, an_export
from tests.support.listeners import ADA, SENDING, listening

SAMPLE = b'{"uuid":"a","sampleType":"Steps","valueDouble":1}\n'
EXPORT = an_export(SAMPLE, timestamp="2026-01-02T12:00:00Z", device="iPhone", recordCount=1)
ROUTE, BATCH_ROUTE = f"{API_PREFIX}/export", f"{API_PREFIX}/export/batch"
LINES = "application/x-ndjson"


@pytest.fixture
def life(tmp_path):
    return ServiceHarness(tmp_path / "journal", journal_bytes_max=64 * 2**20)


async def post(life, body, content_type, path=ROUTE, **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if content_type is not None:
        named["content-type"] = content_type
    async with listening(life) as server:
        return await server.send("POST", path, ADA | named, body)


JSON_TYPES = [
    pytest.param("application/json", id="as documented"),
    pytest.param("application/json; charset=utf-8", id="a charset"),
    pytest.param("application/json;charset=UTF-8", id="a charset without a space"),
    pytest.param("APPLICATION/JSON", id="capitals"),
    pytest.param("  Application/Json ;x", id="spaces"),
    pytest.param("", id="empty"),
    pytest.param(" ", id="blank"),
    pytest.param(";charset=utf-8", id="only a parameter"),
    pytest.param(None, id="none"),
    pytest.param("application/json\r\ncontent-type: text/plain", id="the first of two"),
]


@pytest.mark.parametrize("content_type", JSON_TYPES)
@pytest.mark.parametrize("path", [ROUTE, BATCH_ROUTE])
async def test_json_is_taken_as_json(life, content_type, path):
    body = {"chunks": [EXPORT]} if path == BATCH_ROUTE else EXPORT
    answer = await post(life, json.dumps(body).encode(), content_type, path)

    assert answer.status == 200, answer.text
    assert life.dataset.uuids() == ["a"]


@pytest.mark.parametrize(
    "content_type",
    [
        pytest.param("application/x-ndjson", id="as documented"),
        pytest.param("Application/X-NDJSON; charset=utf-8", id="capitals and a charset"),
        pytest.param("application/x-ndjson\r\ncontent-type: application/json", id="the first"),
    ],
)
async def test_lines_are_taken_as_lines(life, content_type):
    answer = await post(life, SAMPLE, content_type)

    assert answer.status == 200, answer.text
    assert life.dataset.uuids() == ["a"]


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "text/json",
        "application/octet-stream",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/ndjson",
        "application/jsonl",
        "application/json-seq",
        "application/vnd.api+json",
        "application/json, text/plain",
        "json",
        "*/*",
        "\xe9",
        "text/plain\r\ncontent-type: application/json",
    ],
)
async def test_another_type_is_refused_with_the_types_to_send(life, content_type):
    answer = await post(life, json.dumps(EXPORT).encode(), content_type)

    assert (answer.status, answer.code) == (415, "UNSUPPORTED_MEDIA_TYPE")
    assert "application/json or application/x-ndjson" in answer.body["error"]["message"]
    assert life.dataset.transactions == {}


def to_pretty(body) -> bytes:
    return json.dumps(body, indent=2).encode()


LARGE = base64.b64encode(random.Random(1).randbytes(9 * 2**20)).decode()  # of no valid line
BATCH = {"chunks": [EXPORT, EXPORT]}
ONE_CHUNK = {"chunks": [EXPORT], "options": {}}
MISTAKEN = [
    pytest.param(json.dumps(EXPORT).encode(), id="one line"),
    pytest.param(json.dumps(EXPORT).encode() + b"\r\n", id="one line with its end"),
    pytest.param(b"\xef\xbb\xbf \n\n" + json.dumps(EXPORT).encode(), id="a byte order mark"),
    pytest.param(json.dumps(dict(reversed(EXPORT.items()))).encode(), id="another order"),
    pytest.param(to_pretty(EXPORT), id="pretty"),
    pytest.param(to_pretty(EXPORT).replace(b"\n", b"\r\n"), id="pretty, by Windows"),
    pytest.param(json.dumps(EXPORT).encode().replace(b"{", b"{\n", 1), id="a line break"),
    pytest.param(json.dumps(EXPORT).encode()[:-9], id="cut off"),
    pytest.param(json.dumps(BATCH).encode(), id="a batch"),
    pytest.param(to_pretty(BATCH), id="a pretty batch"),
    pytest.param(
        b'{"chunks": [\n' + json.dumps(EXPORT).encode() + b"\n]}", id="a chunk on its own line"
    ),
    pytest.param((json.dumps(EXPORT) + "\n").encode() * 9, id="an export on each line"),
    pytest.param(json.dumps({"rawhealthkit": LARGE}).encode(), id="a long line"),
    pytest.param(to_pretty(EXPORT | {"rawhealthkit": LARGE}), id="pretty and long"),
    pytest.param(
        to_pretty({"manifest": {"files": ["x"] * 900}} | EXPORT), id="a manifest before it"
    ),
]


@pytest.mark.parametrize("body", MISTAKEN)
async def test_a_json_export_sent_as_lines_is_refused_before_anything_is_stored(life, body):
    headers = ADA | {"content-type": LINES}
    async with listening(life) as server:
        plain = await server.send("POST", ROUTE, headers, body)
        packed = headers | {"content-encoding": "gzip"}
        unpacked = await server.send("POST", ROUTE, packed, gzip.compress(body, 1))

    for answer in (plain, unpacked):
        assert (answer.status, answer.code) == (400, "INVALID_PAYLOAD"), answer.text
        assert "send it as application/json" in answer.body["error"]["message"]
    assert life.dataset.transactions == {}


async def test_a_refused_body_binds_no_key_and_is_taken_with_the_right_type(life):
    body = json.dumps(EXPORT).encode()
    async with listening(life) as server:
        key = {"idempotency-key": "k"}
        refused = await server.send("POST", ROUTE, ADA | key | {"content-type": LINES}, body)
        taken = await server.send("POST", ROUTE, SENDING | key, body)

    assert (refused.status, taken.status) == (400, 200)
    assert life.dataset.uuids() == ["a"]


LEGITIMATE = [
    pytest.param(b'{"uuid":"a","rawhealthkit":"e30="}\n', 1, id="a sample with that key"),
    pytest.param(b'{"sampleType":"S","rawhealthkit":"e30="}\n', 1, id="a type with that key"),
    pytest.param(b'{"startDate":"2026","rawhealthkit":"x"}\n', 1, id="a start with that key"),
    pytest.param(b'{"type":"S","chunks":["rawhealthkit"]}\n', 1, id="an old name with chunks"),
    pytest.param(b'{"rawhealthkit":null}\n', 1, id="that key without a text"),
    pytest.param(b'{"a":{"rawhealthkit":"x"}}\n', 1, id="that key deeper"),
    pytest.param(b'{"a":"\\"rawhealthkit\\":\\"x\\""}\n', 1, id="that key in a text"),
    pytest.param(SAMPLE + b'{"rawhealthkit":"x"}\n', 2, id="that key in a later line"),
    pytest.param(
        b'\xef\xbb\xbf{"uuid":"a","rawhealthkit":"x"}\n', 1, id="a byte order mark before it"
    ),
    pytest.param(b"\n \n" + SAMPLE + b'{"rawhealthkit":"x"}\n', 2, id="blank lines before it"),
    pytest.param(b'broken\n{"uuid":"a","rawhealthkit":"x"}\n', 1, id="a broken line before it"),
    pytest.param(b'{"broken\n{"a":{"rawhealthkit":"x"}}\n', 1, id="a broken object before it"),
]


@pytest.mark.parametrize(("body", "rows"), LEGITIMATE)
async def test_a_line_that_only_resembles_an_export_is_a_sample(life, body, rows):
    answer = await post(life, body, LINES)

    assert answer.status == 200, answer.text
    assert answer.body["total_records"] == len(life.dataset.rows()) == rows


async def test_a_late_export_among_the_lines_of_a_long_stream_hurts_nobody(life):
    lines = SAMPLE * (PART_BYTES // len(SAMPLE) + 1)
    answer = await post(life, lines + json.dumps(EXPORT).encode(), LINES)

    assert (answer.status, answer.body["chunks_processed"]) == (200, 2)


@pytest.mark.parametrize("path", [ROUTE, BATCH_ROUTE])
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(SAMPLE, id="one line"),
        pytest.param(SAMPLE * 3, id="lines"),
        pytest.param(b"\xef\xbb\xbf\r\n" + SAMPLE * 2, id="a byte order mark"),
        pytest.param(b'{"uuid":"a"}\n' * 2, id="deleted samples"),
        pytest.param(b'{"type":"Steps","start":"2026-01-01"}\n', id="old names"),
        pytest.param(SAMPLE + b"\xff", id="no UTF-8 later"),
    ],
)
async def test_lines_sent_as_json_are_refused_with_the_type_to_send(life, body, path):
    answer = await post(life, body, "application/json", path)

    assert (answer.status, answer.code) == (400, "INVALID_PAYLOAD")
    assert "send lines as application/x-ndjson" in answer.body["error"]["message"]
    assert life.dataset.transactions == {}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        pytest.param({"uuid": "a", "rawhealthkit": 5}, "rawhealthkit has the wrong", id="wrong"),
        pytest.param({"device": "iPhone"}, "rawhealthkit is missing", id="none"),
        pytest.param({"uuid": "a", "rawhealthkit": "!"}, "not base64", id="not base64"),
    ],
)
async def test_an_export_with_a_mistake_is_told_that_mistake(life, body, reason):
    answer = await post(life, json.dumps(body).encode(), "application/json")

    assert answer.status == 400
    assert reason in answer.body["error"]["message"]


async def test_lines_sent_to_the_route_of_batches_are_refused_with_what_to_do(life):
    answer = await post(life, SAMPLE, LINES, BATCH_ROUTE)

    assert (answer.status, answer.code) == (415, "UNSUPPORTED_MEDIA_TYPE")
    assert "send lines to /export" in answer.body["error"]["message"]


async def test_json_that_is_not_utf_8_is_refused_whatever_its_charset(life):
    body = json.dumps(EXPORT).encode("utf-16")
    answer = await post(life, body, "application/json; charset=utf-16")

    assert (answer.status, answer.code) == (400, "INVALID_PAYLOAD")
