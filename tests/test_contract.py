"""The public contract, byte for byte, over raw HTTP on a real socket."""

import base64
import gzip
import zlib
from contextlib import suppress

import anyio
import msgspec
import pytest
from openapi_spec_validator import validate

from atlas.core.errors import AuthUnavailable
from atlas.core.identifiers import API_PREFIX
from atlas.settings import ExportSettings
from tests.conftest import an_export
from tests.support.fakes import KnownUsers
from tests.support.listeners import HOST, SENDING, answered, listening

FIELDS = (
    "success dataset_rid records_ingested dataset_records_created file_path file_format "
    "transaction_rid ingestion_timestamp correlationId manifest status receipt_id "
    "records_received records_rejected rejects warnings replayed"
).split()


async def test_a_committed_export_answers_its_fields_in_the_order_that_the_app_knows(life):
    async with listening(life) as server:
        answer = await server.post(an_export(manifest={"n": 1}), x_correlation_id="mine")

    assert answer.status == 200
    assert list(answer.body) == FIELDS
    assert answer.body | {"receipt_id": ""} == {
        "success": True,
        "dataset_rid": "ri.foundry.main.dataset.1",
        "records_ingested": 1,
        "dataset_records_created": 1,
        "file_path": "healthkit/raw/ada/2026-01-02T12-00-00-000Z.ndjson",
        "file_format": "ndjson",
        "transaction_rid": "ri.foundry.main.transaction.1",
        "ingestion_timestamp": "2026-01-02T12:00:00.000Z",
        "correlationId": "mine",
        "manifest": {"n": 1},
        "status": "committed",
        "receipt_id": "",
        "records_received": 1,
        "records_rejected": 0,
        "rejects": [],
        "warnings": [],
        "replayed": False,
    }
    assert answer.headers["x-correlation-id"] == "mine"
    assert answer.headers["content-type"] == "application/json"


async def test_a_batch_answers_its_fields_in_order(life):
    async with listening(life) as server:
        answer = await server.post({"chunks": [an_export(), {}], "options": {}}, "/export/batch")

    names = "success dataset_rid chunks_processed chunks_successful chunks_failed total_records "
    assert answer.status == 207
    assert list(answer.body) == [
        *names.split(),
        "upload_results",
        "errors",
        "timestamp",
        "correlationId",
    ]
    assert list(answer.body["upload_results"][0]) == ["chunkIndex", *FIELDS]
    (error,) = answer.body["errors"]
    assert list(error) == ["chunkIndex", "error", "code", "retryable"]


B64 = base64.b64encode(b'{"uuid":"???>>>"}\n')
WAYS = [
    pytest.param(B64, id="base64"),
    pytest.param(B64.rstrip(b"="), id="without padding"),
    pytest.param(base64.urlsafe_b64encode(base64.b64decode(B64)), id="base64url"),
    pytest.param(b"\\r\\n".join([B64[:8], B64[8:]]), id="in lines"),
    pytest.param(B64.replace(b"/", b"\\/"), id="with escaped slashes"),
]


@pytest.mark.parametrize("text", WAYS)
async def test_the_same_export_is_known_however_it_is_written(life, text):
    async with listening(life) as server:
        await server.post({"rawhealthkit": B64.decode()})
        answer = await server.post(b'{"rawhealthkit":"%b"}' % text)

    assert (answer.status, answer.body["replayed"]) == (200, True)


RAW_DEFLATE = zlib.compressobj(wbits=-15)
JSON = msgspec.json.encode(an_export())
ENCODED = [
    pytest.param("identity", JSON, id="identity"),
    pytest.param("gzip", gzip.compress(JSON), id="gzip"),
    pytest.param("x-gzip", gzip.compress(JSON), id="x-gzip"),
    pytest.param("gzip", gzip.compress(JSON[:9]) + gzip.compress(JSON[9:]), id="two members"),
    pytest.param("gzip", gzip.compress(JSON) + bytes(100), id="padded"),
    pytest.param("identity", b"\xef\xbb\xbf" + JSON, id="a byte order mark"),
    pytest.param("deflate", zlib.compress(JSON), id="deflate"),
    pytest.param("deflate", RAW_DEFLATE.compress(JSON) + RAW_DEFLATE.flush(), id="raw deflate"),
]


@pytest.mark.parametrize(("encoding", "body"), ENCODED)
async def test_a_body_may_be_compressed(life, encoding, body):
    async with listening(life) as server:
        answer = await server.post(body, content_encoding=encoding)

    assert answer.status == 200
    assert life.dataset.uuids() == ["a"]


async def test_a_body_may_come_in_pieces_and_without_a_length(life):
    head = b"\r\n".join(
        [f"POST {API_PREFIX}/ingest HTTP/1.1".encode()]
        + [f"{name}: {value}".encode() for name, value in SENDING.items()]
        + [b"transfer-encoding: chunked", b"", b""]
    )
    pieces = [JSON[start : start + 7] for start in range(0, len(JSON), 7)]
    async with (
        listening(life) as server,
        await anyio.connect_tcp("127.0.0.1", server.port) as stream,
    ):
        await stream.send(head)
        for piece in pieces:
            await stream.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        await stream.send(b"0\r\n\r\n")
        assert (await answered(stream)).status == 200


LARGE = b'{"uuid":"%b"}\n' % (b"a" * 1_000)
REFUSED = [  # request, then status and code
    pytest.param(b"{", 400, "INVALID_PAYLOAD", id="no JSON"),
    pytest.param(b"\xff", 400, "INVALID_PAYLOAD", id="no UTF-8"),
    pytest.param(b"[" * 100_000, 400, "INVALID_PAYLOAD", id="JSON without end"),
    pytest.param([], 400, "INVALID_PAYLOAD", id="a list"),
    pytest.param({}, 400, "INVALID_PAYLOAD", id="no rawhealthkit"),
    pytest.param({"rawhealthkit": 5}, 400, "INVALID_PAYLOAD", id="no text"),
    pytest.param({"rawhealthkit": "!"}, 400, "INVALID_PAYLOAD", id="no base64"),
    pytest.param({"rawhealthkit": "é"}, 400, "INVALID_PAYLOAD", id="base64 of another world"),
    pytest.param({"rawhealthkit": "A"}, 400, "INVALID_PAYLOAD", id="base64 cut off"),
    pytest.param({"rawhealthkit": ""}, 400, "INVALID_PAYLOAD", id="nothing"),
    pytest.param(an_export(b" \n\t\n"), 400, "INVALID_PAYLOAD", id="only white space"),
    pytest.param(an_export(b"{\n[]\n"), 400, "INVALID_NDJSON", id="no good line"),
    pytest.param(an_export(LARGE * 9), 413, "CHUNK_TOO_LARGE", id="a large export"),
    pytest.param(
        an_export(b"{}\n" * 50, device="d" * 2_000), 413, "CHUNK_TOO_LARGE", id="a long device"
    ),
    pytest.param(
        b'{"rawhealthkit":"e30=","manifest":"\xff"}', 400, "INVALID_PAYLOAD", id="manifest no UTF-8"
    ),
    pytest.param(an_export(b"{}\n" * 101), 413, "CHUNK_TOO_LARGE", id="too many lines"),
    pytest.param(b" " * 24_000_001, 413, "PAYLOAD_TOO_LARGE", id="a large body"),
]


@pytest.mark.parametrize(("body", "status", "code"), REFUSED)
async def test_a_bad_export_is_refused_and_leaves_no_trace(life, body, status, code):
    life.export = ExportSettings(bytes_max=8_192, lines_max=100)
    async with listening(life) as server:
        answer = await server.post(body)

    assert (answer.status, answer.code) == (status, code)
    assert answer.body["error"]["retryable"] is False
    assert answer.body["error"]["correlationId"] == answer.headers["x-correlation-id"]
    assert answer.body["error"]["timestamp"] == "2026-01-02T12:00:00.000Z"
    assert life.dataset.transactions == {}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        pytest.param({"chunks": []}, "INVALID_PAYLOAD", id="no chunks"),
        pytest.param({}, "INVALID_PAYLOAD", id="not even none"),
        pytest.param({"chunks": "chunks"}, "INVALID_PAYLOAD", id="no list"),
        pytest.param({"chunks": [an_export()] * 65}, "TOO_MANY_CHUNKS", id="too many"),
    ],
)
async def test_a_bad_batch_is_refused_as_a_whole(life, body, code):
    async with listening(life) as server:
        answer = await server.post(body, "/export/batch")

    assert (answer.status, answer.code) == (400, code)
    assert life.dataset.transactions == {}


@pytest.mark.parametrize(
    ("chunks", "status"),
    [
        pytest.param([{}, an_export(b"{")], 400, id="400 and 400"),
        pytest.param([an_export(LARGE * 9)] * 2, 413, id="what they have in common"),
        pytest.param([an_export(LARGE * 9), {}], 400, id="400 and 413"),
    ],
)
async def test_a_batch_of_which_nothing_is_good_has_the_same_body_and_an_error(
    life, chunks, status
):
    life.export = ExportSettings(bytes_max=8_192)
    async with listening(life) as server:
        answer = await server.post({"chunks": chunks}, "/export/batch")

    assert (answer.status, answer.code) == (status, "BATCH_UPLOAD_FAILED")
    assert (answer.body["success"], answer.body["chunks_failed"]) == (False, 2)


async def test_bad_lines_are_told_by_number_and_reason_when_none_is_good(life):
    async with listening(life) as server:
        answer = await server.post(an_export(b"{\n\n[7]\n"))

    assert answer.body["error"]["details"] == [
        {"line": 1, "reason": "not valid JSON"},
        {"line": 3, "reason": "not a JSON object"},
    ]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param({"content-type": "text/plain"}, 415, id="another type"),
        pytest.param({"content-type": "application/x-www-form-urlencoded"}, 415, id="a form"),
        pytest.param({"content-type": "application/json; charset=utf-8"}, 200, id="a charset"),
        pytest.param({"content-encoding": "br"}, 415, id="another encoding"),
        pytest.param({"content-encoding": "gzip, gzip"}, 415, id="two encodings"),
        pytest.param({"content-encoding": "gzip"}, 400, id="no gzip although it says so"),
        pytest.param({"idempotency-key": ""}, 200, id="an empty key"),
        pytest.param({"idempotency-key": "k" * 256}, 400, id="a long key"),
        pytest.param({"idempotency-key": "k k"}, 400, id="a key with a space"),
    ],
)
async def test_headers_that_an_export_may_have_and_may_not(life, headers, status):
    async with listening(life) as server:
        assert (await server.post(an_export(), **headers)).status == status


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(gzip.compress(JSON)[:-9], id="cut off"),
        pytest.param(zlib.compress(JSON) + b"more", id="something behind it"),
        pytest.param(gzip.compress(JSON) + zlib.compress(b" "), id="another kind behind it"),
        pytest.param(gzip.compress(JSON) + gzip.compress(b"") * 100, id="a hundred of nothing"),
    ],
)
async def test_a_compressed_body_must_be_whole(life, body):
    encoding = "gzip" if body[:1] == b"\x1f" else "deflate"
    async with listening(life) as server:
        answer = await server.post(body, content_encoding=encoding)

    assert (answer.status, answer.code) == (400, "INVALID_PAYLOAD")


async def test_a_limit_holds_after_inflation_too(life):
    async with listening(life) as server:
        answer = await server.post(gzip.compress(b" " * 60_000_000), content_encoding="gzip")

    assert (answer.status, answer.code) == (413, "PAYLOAD_TOO_LARGE")


TOKENS = [  # Authorization, then status, code and WWW-Authenticate
    pytest.param(None, 401, "UNAUTHORIZED", 'Bearer realm="atlas"', id="none"),
    pytest.param("Basic YTpi", 401, "UNAUTHORIZED", 'Bearer realm="atlas"', id="another scheme"),
    pytest.param("Bearer ", 401, "UNAUTHORIZED", 'Bearer realm="atlas"', id="empty"),
    pytest.param("Bearer expired", 401, "TOKEN_EXPIRED", 'error="invalid_token"', id="expired"),
    pytest.param("Bearer stolen", 401, "INVALID_TOKEN", 'error="invalid_token"', id="not ours"),
    pytest.param("Bearer nobody", 400, "MISSING_IDENTITY", None, id="nobody's"),
    pytest.param(
        "Bearer token-of-ada", 403, "INSUFFICIENT_SCOPE", 'scope="send:exports"', id="no scope"
    ),
    pytest.param("bearer token-of-ada send:exports", 200, None, None, id="good"),
]


@pytest.mark.parametrize(("authorization", "status", "code", "challenge"), TOKENS)
async def test_who_may_send(life, authorization, status, code, challenge):
    life.required_scope = "send:exports"
    headers = {**HOST, "content-type": "application/json"}
    if authorization is not None:
        headers["authorization"] = authorization
    async with listening(life) as server:
        answer = await server.send("POST", f"{API_PREFIX}/export", headers, JSON)

    assert answer.status == status
    assert challenge is None or challenge in answer.headers["www-authenticate"]
    if code:
        assert answer.code == code
        assert answer.body["error"]["retryable"] is (code == "TOKEN_EXPIRED")
        assert "stolen" not in answer.text.decode()


async def test_a_stranger_is_answered_before_the_body_is_sent_and_the_connection_closed(life):
    headers = {**HOST, "content-type": "application/json"}
    async with listening(life) as server:
        answer = await server.send("POST", f"{API_PREFIX}/export", headers, length=10_000_000)

    assert (answer.status, answer.headers["connection"]) == (401, "close")


async def test_the_rest_of_a_body_that_was_answered_early_is_dropped_a_little_and_no_more(life):
    start = f"POST {API_PREFIX}/export HTTP/1.1\r\nhost: a\r\n"
    request = f"{start}content-length: 200000000\r\n\r\n".encode()
    taken = 0
    async with (
        listening(life) as server,
        await anyio.connect_tcp("127.0.0.1", server.port) as stream,
    ):
        await stream.send(request)
        assert (await answered(stream)).status == 401
        with suppress(anyio.BrokenResourceError):
            while taken < 100_000_000:
                await stream.send(b" " * 65_536)
                taken += 65_536

    assert taken < 20_000_000, "1 MiB by us; the rest is in the buffers of the kernel"


@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
async def test_a_body_that_nobody_asked_for_is_not_swallowed(life, method):
    async with listening(life) as server:
        answer = await server.send(method, "/health", HOST | {"content-length": "10"})

    assert answer.headers["connection"] == "close"


async def test_a_compressed_body_may_be_no_longer_than_a_plain_one(life):
    async with listening(life) as server:
        nothing = gzip.compress(b"")[:-8] + bytes(8)
        answer = await server.post(nothing + bytes(24_000_001), content_encoding="gzip")

    assert (answer.status, answer.code) == (413, "PAYLOAD_TOO_LARGE")


async def test_a_length_that_is_too_large_is_refused_before_the_body_is_sent(life):
    async with listening(life) as server:
        answer = await server.send("POST", f"{API_PREFIX}/export", length=24_000_001)

    assert (answer.status, answer.headers["connection"]) == (413, "close")


async def test_without_keys_the_truth_is_503(life):
    class NoKeys(KnownUsers):
        async def identify_user(self, token, proof=None):
            raise AuthUnavailable

    life.identities = NoKeys()
    async with listening(life) as server:
        answer = await server.post(an_export())

    assert (answer.status, answer.code) == (503, "AUTH_UNAVAILABLE")
    assert answer.body["error"]["retryable"] is True
    assert int(answer.headers["retry-after"]) == answer.body["error"]["retryAfter"] > 0


async def test_a_body_that_comes_too_slowly_is_given_up(life):
    life.edge = {"slow_seconds": 0.05}
    async with listening(life) as server:
        answer = await server.send("POST", f"{API_PREFIX}/export", body=b"{", length=10)

    assert (answer.status, answer.code) == (408, "REQUEST_TIMEOUT")
    assert answer.body["error"]["retryable"] is True


async def test_a_body_that_takes_long_and_is_not_slow_is_taken(life):
    life.edge = {"slow_seconds": 0.5}
    text = JSON + b" " * 20_000
    headers = "".join(f"{name}: {value}\r\n" for name, value in SENDING.items())
    head = f"POST {API_PREFIX}/export HTTP/1.1\r\n{headers}content-length: {len(text)}\r\n\r\n"
    async with (
        listening(life) as server,
        await anyio.connect_tcp("127.0.0.1", server.port) as stream,
    ):
        await stream.send(head.encode() + text[:-1])
        await anyio.sleep(0.6)
        await stream.send(text[-1:])
        assert (await answered(stream)).status == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "NOT_FOUND"),
        ("GET", f"{API_PREFIX}/exports/none", 404, "NOT_FOUND"),
        ("GET", f"{API_PREFIX}/export", 405, "METHOD_NOT_ALLOWED"),
        ("GET", f"{API_PREFIX}/exports?limit=0", 400, "INVALID_PAYLOAD"),
        ("GET", f"{API_PREFIX}/exports?limit=many", 400, "INVALID_PAYLOAD"),
        ("GET", f"{API_PREFIX}/exports?limit={'9' * 5_000}", 400, "INVALID_PAYLOAD"),
        ("GET", f"{API_PREFIX}/exports?cursor=x", 400, "INVALID_PAYLOAD"),
    ],
)
async def test_what_is_not_there_is_an_error_like_all_others(life, method, path, status, code):
    async with listening(life) as server:
        answer = await server.send(method, path)

    assert (answer.status, answer.code) == (status, code)
    assert answer.headers["x-correlation-id"]


async def test_who_asks_for_problems_gets_them(life):
    async with listening(life) as server:
        answer = await server.post({}, accept="application/problem+json")

    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.body
    assert (problem["status"], problem["code"], problem["retryable"]) == (
        400,
        "INVALID_PAYLOAD",
        False,
    )
    assert {"type", "title", "detail", "correlationId", "timestamp"} <= problem.keys()


@pytest.mark.parametrize(
    ("sent", "is_echoed"),
    [("mine", True), ("a b~", True), ("x" * 128, True), ("x" * 129, False), ("\xe9", False)],
)
async def test_a_correlation_id_is_echoed_if_it_is_one(life, sent, is_echoed):
    async with listening(life) as server:
        answer = await server.send("GET", "/health", {**HOST, "x-correlation-id": sent})

    assert (answer.headers["x-correlation-id"] == sent) is is_echoed
    assert answer.body["correlationId"] == answer.headers["x-correlation-id"]


@pytest.mark.parametrize("path", ["/", "/health", "/health/live"])
async def test_health_is_told_to_anybody(life, path):
    async with listening(life) as server:
        answer = await server.send("GET", path, HOST)

    assert answer.status == 200
    assert list(answer.body) == ["status", "service", "timestamp", "version", "correlationId"]
    assert (answer.body["status"], answer.body["service"]) == ("healthy", "atlas")


async def test_a_page_of_a_known_origin_may_send_and_another_may_not(life):
    life.cors_origins = ("https://app.test",)
    asking = {
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization",
    }
    async with listening(life) as server:
        asked = await server.send(
            "OPTIONS", f"{API_PREFIX}/export", HOST | asking | {"origin": "https://app.test"}
        )
        other = await server.send(
            "OPTIONS", f"{API_PREFIX}/export", HOST | asking | {"origin": "https://evil.test"}
        )
        answer = await server.post(an_export(), origin="https://app.test")

    assert asked.headers["access-control-allow-origin"] == "https://app.test"
    assert "access-control-allow-origin" not in other.headers
    assert answer.headers["access-control-allow-origin"] == "https://app.test"
    assert "X-Correlation-Id" in answer.headers["access-control-expose-headers"]
    assert all(each.headers["x-correlation-id"] for each in (asked, other, answer))


async def test_the_description_is_valid_and_tells_the_fields_that_are_answered(life):
    async with listening(life) as server:
        described = (await server.send("GET", "/openapi.json", HOST)).body

    validate(described)
    assert [
        f
        for f in described["components"]["schemas"]["ExportReply"]["properties"]
        if f != "chunkIndex"
    ] == FIELDS
    assert set(described["paths"]) == {
        f"{API_PREFIX}/export",
        f"{API_PREFIX}/ingest",
        f"{API_PREFIX}/export/batch",
        f"{API_PREFIX}/exports",
        f"{API_PREFIX}/exports/{{id}}",
        f"{API_PREFIX}/reports",
        "/",
        "/health",
        "/health/live",
        "/health/ready",
    }


@pytest.mark.parametrize("path", ["/health", "/openapi.json", f"{API_PREFIX}/exports", "/nowhere"])
async def test_no_answer_is_kept_on_its_way_or_taken_for_something_else(life, path):
    async with listening(life) as server:
        answer = await server.send("GET", path)

    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_routes_keep_the_prefix_that_phones_have_compiled_in():
    assert API_PREFIX == "/api/v1/healthkit"
