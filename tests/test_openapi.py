"""The OpenAPI documents describe the listeners, and generators make typed clients from them."""

import inspect
import re
from collections import Counter
from itertools import chain

import msgspec
import pytest
from openapi_spec_validator import validate

from atlas import __version__
from atlas.core.errors import RateLimited
from atlas.core.identifiers import API_PREFIX
from atlas.edge import openapi
from atlas.edge.app import EXPOSED_HEADERS
from atlas.edge.openapi.operator_document import ABOUT
from atlas.edge.openapi.schemas import build_schemas
from atlas.edge.openapi.texts import TEXTS, TypeText
from atlas.edge.operator.docs import FILES
from atlas.edge.operator.page import KINDS
from atlas.settings import OperatorSettings, Settings
from tests.conftest import an_export, asgi
from tests.ship.openapi_files import CONFIG, DOCUMENTS, render
from tests.support.documented import find_faults, find_undocumented, resolve, walk_schemas
from tests.support.error_codes import errors_with_codes
from tests.support.listeners import HOST, SENDING, listening

PUBLIC, OPERATOR = openapi.build_document("1"), openapi.build_operator_document("1")
of_both = pytest.mark.parametrize("document", [PUBLIC, OPERATOR], ids=["public", "operator"])
EXPORT, BATCH = f"{API_PREFIX}/export", f"{API_PREFIX}/export/batch"
RECEIPT, RECEIPTS = f"{API_PREFIX}/exports/{{id}}", f"{API_PREFIX}/exports"
OPERATOR_HOST = {"host": "127.0.0.1:9464"}
GUARDED = OPERATOR_HOST | {"authorization": "Bearer secret"}


def operations(document):
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield path, method, operation


def schemas(document):
    """Yield every schema of a document: those with a name, and those of parameters and bodies."""
    components = document["components"]
    for name, schema in components["schemas"].items():
        yield from walk_schemas(schema, name)
    for name, header in components["headers"].items():
        yield from walk_schemas(header["schema"], name)
    for path, _method, operation in operations(document):
        for parameter in operation.get("parameters", []):
            yield from walk_schemas(parameter["schema"], f"{path} {parameter['name']}")
        bodies = [operation.get("requestBody", {}), *operation["responses"].values()]
        for body in [resolve(document, body) for body in bodies]:
            for media_type, content in body.get("content", {}).items():
                yield from walk_schemas(content["schema"], f"{path} {media_type}")


# the files


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_change_of_the_contract_shows_in_the_diff_of_a_committed_document(name):
    text = (CONFIG / name).read_text(encoding="utf-8")
    assert text == render(name), "run `just openapi`, and review the difference"


def test_the_limits_in_the_committed_document_are_the_default_settings():
    edge = Settings().edge
    assert openapi.build_document("1", edge.chunks_max, edge.body_bytes_max) == PUBLIC


async def test_the_served_document_has_the_limits_of_the_service(life):
    life.edge = {"chunks_max": 5}
    async with listening(life) as server:
        described = (await server.send("GET", "/openapi.json", HOST)).body

    assert described == openapi.build_document(__version__, 5, life.settings().edge.body_bytes_max)
    assert described["components"]["schemas"]["BatchBody"]["properties"]["chunks"]["maxItems"] == 5


@pytest.mark.parametrize(
    ("path", "document"),
    [("/openapi.json", OPERATOR), ("/openapi-public.json", PUBLIC)],
)
async def test_the_operator_listener_serves_both_without_a_token_but_to_known_hosts(
    life, path, document
):
    async with life.running() as flow:
        answer = await asgi(flow.service.operator, "GET", path, OPERATOR_HOST)
        other = await asgi(flow.service.operator, "GET", path, {"host": "evil.test"})

    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.body["paths"] == document["paths"]
    assert other.status == 421


@pytest.mark.parametrize("path", FILES)
async def test_the_files_of_its_page_come_with_their_type_and_the_policy(life, path):
    async with life.running() as flow:
        answer = await asgi(flow.service.operator, "GET", path, OPERATOR_HOST)

    assert answer.status == 200
    assert answer.headers["content-type"].startswith(FILES[path][1])
    assert "script-src 'self'" in answer.headers["content-security-policy"]


# what generators need


@of_both
def test_a_document_is_valid(document):
    validate(document)


@of_both
def test_each_value_has_a_type_so_that_no_client_has_any(document):
    typed = {"type", "$ref", "allOf", "oneOf"}
    bare = [name for name, each in schemas(document) if not typed & each.keys()]
    objects = [
        name
        for name, each in schemas(document)
        if each.get("type") == "object" and not {"properties", "additionalProperties"} & each.keys()
    ]
    arrays = [
        n for n, each in schemas(document) if each.get("type") == "array" and "items" not in each
    ]
    numbers = [
        name
        for name, each in schemas(document)
        if each.get("type") in {"integer", "number"} and "format" not in each
    ]
    assert (bare, objects, arrays, numbers) == ([], [], [], [])


@of_both
def test_a_union_has_a_name_and_nothing_stands_where_it_has_no_effect(document):
    named = set(document["components"]["schemas"])
    unions = {n for n, each in schemas(document) if {"oneOf", "anyOf"} & each.keys()}
    beside = [n for n, each in schemas(document) if "$ref" in each and len(each) > 1]
    null = [n for n, each in schemas(document) if "nullable" in each and "type" not in each]
    assert unions <= named
    assert (beside, null) == ([], []), "OpenAPI 3.0 ignores them"


@of_both
def test_names_differ_in_more_than_case_and_are_identifiers(document):
    ids = [operation["operationId"] for _, _, operation in operations(document)]
    for names in (ids, [*document["components"]["schemas"], *document["components"]["responses"]]):
        assert [name for name, count in Counter(map(str.lower, names)).items() if count > 1] == []
        assert [name for name in names if not re.fullmatch(r"[A-Za-z]\w+", name)] == []


@of_both
def test_every_operation_is_described_under_a_known_tag(document):
    tags = {tag["name"] for tag in document["tags"]}
    for path, _method, operation in operations(document):
        assert operation["summary"], path
        assert set(operation["tags"]) <= tags, path
        for parameter in operation.get("parameters", []):
            assert parameter["description"], path


@of_both
def test_every_example_conforms(document):
    count = 0
    for path, _method, operation in operations(document):
        bodies = [operation.get("requestBody", {}), *operation["responses"].values()]
        for body in [resolve(document, body) for body in bodies]:
            for media_type, content in body.get("content", {}).items():
                values = [each["value"] for each in content.get("examples", {}).values()]
                for value in [*values, *([content["example"]] if "example" in content else [])]:
                    count += 1
                    faults = find_faults(document, content["schema"], value)
                    assert faults == [], f"{path} {media_type} {value}"
        for each in operation.get("parameters", []):
            if "example" in each:
                assert find_faults(document, each["schema"], each["example"]) == [], each["name"]
    assert count > 10
    for name, header in document["components"]["headers"].items():
        assert find_faults(document, header["schema"], header["example"]) == [], name


def test_every_field_is_described_for_the_developers_of_an_app():
    silent = [
        name
        for name, each in schemas(PUBLIC)
        if re.fullmatch(r"\w+(\.\w+)?", name)
        and name.partition(".")[0] in PUBLIC["components"]["schemas"]
        and not name.endswith((".items", ".additionalProperties"))
        and not each.get("description")
    ]
    assert silent == []


def test_every_type_is_described_for_operators():
    kinds = OPERATOR["components"]["schemas"]
    assert [name for name, kind in kinds.items() if not kind.get("description")] == []


@of_both
def test_no_docstring_of_the_code_gets_out(document):
    """They are for those who change Atlas."""
    text = msgspec.json.encode(document).decode()
    kinds = {kind.__name__: kind for kind in msgspec.Struct.__subclasses__()}
    ours = [kinds[name] for name in document["components"]["schemas"] if name in kinds]
    assert len(ours) > 10
    for kind in ours:
        sentence = inspect.getdoc(kind).partition("\n\n")[2].partition("\n")[0]
        assert not sentence or sentence not in text, kind


def test_a_text_of_a_field_that_does_not_exist_is_an_error():
    class Reworded(msgspec.Struct):
        new: str

    with pytest.raises(KeyError, match="old"):
        build_schemas([], [Reworded], {"Reworded": TypeText("A type.", {"old": "A field."})})


# what the documents promise


def test_every_code_is_one_of_the_enumeration_and_stands_at_its_status():
    described = PUBLIC["components"]
    for kind in errors_with_codes():
        assert kind.code in described["schemas"]["ErrorCode"]["enum"]
        if kind.status != 405:  # of a method that no document describes
            responses = described["responses"].values()
            assert any(f"`{kind.code}`" in each["description"] for each in responses), kind.code
    codes = {kind.code for kind in errors_with_codes()}
    assert set(described["schemas"]["ErrorCode"]["enum"]) == codes


def test_the_default_message_of_an_error_is_a_line_for_the_client():
    for kind in errors_with_codes():
        message = str(RateLimited(100, 60, 1.0) if kind is RateLimited else kind())
        assert re.fullmatch(r"[A-Z][^\n]+\.", message), kind


def test_the_headers_that_pages_may_read_are_described():
    assert set(EXPOSED_HEADERS) <= set(PUBLIC["components"]["headers"])


def test_every_route_for_phones_has_a_plain_or_a_bound_token_and_no_other():
    for path, _method, operation in operations(PUBLIC):
        schemes = [*chain.from_iterable(operation.get("security", ()))]
        assert schemes == (["auth0", "dpop"] if path.startswith(API_PREFIX) else [])


async def test_every_operator_route_is_described_and_no_other(life):
    static = {"/", *FILES, "/openapi.json", "/openapi-public.json", *(f"/{name}" for name in KINDS)}
    async with life.running() as flow:
        routes = {
            (re.sub(r":\w+}", "}", route.path), method.lower())
            for route in flow.service.operator.routes
            for method in route.methods - {"HEAD"}
        }
    described = {(path, method) for path, method, _ in operations(OPERATOR)}
    assert described == {route for route in routes if route[0] not in static}
    assert OPERATOR["security"]
    assert "must not be public" in ABOUT


# real replies


LINES = SENDING | {"content-type": "application/x-ndjson", "atlas-record-count": "7"}
GOOD = msgspec.json.encode(an_export(b'{"uuid":"a"}\nbad\n', manifest={"n": 1}, recordCount=5))
CHUNKS = msgspec.json.encode({"chunks": [an_export(), {}]})
PROBLEM = {"accept": "application/problem+json"}
REQUESTS = [
    pytest.param("POST", EXPORT, SENDING, GOOD, 200, id="an export"),
    pytest.param("POST", EXPORT, SENDING | {"prefer": "respond-async"}, GOOD, 202, id="stored"),
    pytest.param("POST", EXPORT, LINES, b'{"uuid":"a"}\nbad\n', 200, id="a stream"),
    pytest.param("POST", EXPORT, LINES, b"bad\n", 400, id="a bad stream"),
    pytest.param("POST", EXPORT, LINES, b"", 400, id="an empty stream"),
    pytest.param("POST", EXPORT, SENDING, b"{}", 400, id="a bad export"),
    pytest.param("POST", EXPORT, SENDING | PROBLEM, b"{}", 400, id="a problem"),
    pytest.param("POST", EXPORT, HOST, b"{}", 401, id="no token"),
    pytest.param("POST", EXPORT, SENDING | {"content-encoding": "br"}, GOOD, 415, id="brotli"),
    pytest.param("POST", EXPORT, SENDING, b" " * 24_000_001, 413, id="a large body"),
    pytest.param("POST", BATCH, SENDING, CHUNKS, 207, id="a batch"),
    pytest.param("POST", BATCH, SENDING, b'{"chunks":[{}]}', 400, id="a batch without a good one"),
    pytest.param("GET", RECEIPTS, SENDING, b"", 200, id="receipts"),
    pytest.param("GET", f"{RECEIPTS}?limit=x", SENDING, b"", 400, id="a bad limit"),
    pytest.param("GET", f"{RECEIPTS}/none", SENDING, b"", 404, id="no receipt"),
    pytest.param("GET", "/health", HOST, b"", 200, id="health"),
    pytest.param("GET", "/health/ready", HOST, b"", 200, id="ready"),
    pytest.param("GET", "/health", {"host": "a", "content-length": "x"}, b"", 400, id="bad HTTP"),
    pytest.param("GET", "/health", HOST | {"x": "x" * 20_000}, b"", 431, id="large headers"),
]


def operation_of(method, path):
    path = path.partition("?")[0]
    return RECEIPT if path.startswith(f"{RECEIPTS}/") else path, method.lower()


@pytest.mark.parametrize(("method", "path", "headers", "body", "status"), REQUESTS)
async def test_a_reply_has_nothing_that_is_not_documented(
    life, method, path, headers, body, status
):
    async with listening(life) as server:
        answer = await server.send(method, path, headers, body)

    assert answer.status == status
    operation = operation_of(method, path)
    assert find_undocumented(PUBLIC, operation, status, answer.headers, answer.body) == []


async def test_a_receipt_and_a_replay_have_nothing_that_is_not_documented(life):
    async with listening(life) as server:
        stream = await server.send("POST", EXPORT, LINES, b'{"uuid":"a"}\n')
        again = await server.send("POST", EXPORT, LINES, b'{"uuid":"a"}\n')
        receipts = [
            await server.send("GET", f"{RECEIPTS}/{id}")
            for id in (stream.body["receipt_id"], stream.body["upload_results"][0]["receipt_id"])
        ]

    assert again.headers["idempotency-replayed"] == "true"
    assert find_undocumented(PUBLIC, (EXPORT, "post"), 200, again.headers, again.body) == []
    for answer in receipts:
        operation = RECEIPT, "get"
        assert find_undocumented(PUBLIC, operation, 200, answer.headers, answer.body) == []


async def test_a_limited_and_a_draining_service_have_nothing_that_is_not_documented(life):
    life.edge = {"rate_per_minute": 1}
    async with listening(life) as server:
        for _ in range(2):
            limited = await server.post(an_export())
        server.flow.service.drain()
        draining = await server.post(an_export())
        not_ready = await server.send("GET", "/health/ready", HOST)

    assert [limited.status, draining.status, not_ready.status] == [429, 503, 503]
    assert "ratelimit-policy" in limited.headers
    for path, method, answer in (
        (EXPORT, "post", limited),
        (EXPORT, "post", draining),
        ("/health/ready", "get", not_ready),
    ):
        operation = path, method
        faults = find_undocumented(PUBLIC, operation, answer.status, answer.headers, answer.body)
        assert faults == []


ADA = b'{"user":"ada","files":true}'
OPERATOR_REQUESTS = [
    pytest.param("GET", "/status", b"", 200, id="status"),
    pytest.param("GET", "/exports", b"", 200, id="exports"),
    pytest.param("GET", "/exports?limit=x", b"", 400, id="a bad limit"),
    pytest.param("GET", "/exports/{id}", b"", 200, id="one"),
    pytest.param("GET", "/exports/none", b"", 404, id="none"),
    pytest.param("POST", "/exports/replay", b"", 200, id="replay all"),
    pytest.param("POST", "/personal-data", ADA, 200, id="a person"),
    pytest.param("POST", "/personal-data", b"{}", 400, id="nobody"),
    pytest.param("POST", "/erasures", b'{"user":"ada"}', 200, id="an erasure"),
]


@pytest.mark.parametrize(("method", "path", "body", "status"), OPERATOR_REQUESTS)
async def test_an_operator_reply_has_nothing_that_is_not_documented(
    life, method, path, body, status
):
    async with life.running() as flow:
        sent = await flow.post(an_export(b'{"uuid":"a"}\nbad\n'))
        id = sent.body["receipt_id"]
        answer = await asgi(flow.service.operator, method, path.format(id=id), OPERATOR_HOST, body)

    assert answer.status == status
    plain = re.sub(r"/exports/(?!replay)[^/]+", "/exports/{id}", path.partition("?")[0])
    operation = plain, method.lower()
    assert find_undocumented(OPERATOR, operation, status, answer.headers, answer.body) == []


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param(OPERATOR_HOST, 401, id="no token"),
        pytest.param({"host": "evil.test"}, 421, id="another host"),
        pytest.param(GUARDED | {"origin": "http://evil.test"}, 403, id="a page"),
    ],
)
async def test_an_operator_refusal_has_nothing_that_is_not_documented(life, headers, status):
    settings = msgspec.structs.replace(life.settings(), operator=OperatorSettings(token="secret"))
    life.settings = lambda: settings
    async with life.running() as flow:
        answer = await asgi(flow.service.operator, "POST", "/exports/replay", headers)

    assert answer.status == status
    operation = "/exports/replay", "post"
    assert find_undocumented(OPERATOR, operation, status, answer.headers, answer.body) == []


@pytest.mark.parametrize("name", ["ExportReply", "BatchReply", "ErrorDetail"])
def test_a_field_that_is_not_in_the_document_would_be_found(name):
    fields = TEXTS[name].fields
    assert fields
    faults = find_faults(PUBLIC, {"$ref": f"#/components/schemas/{name}"}, {"surprise": 1})
    assert any("surprise" in fault for fault in faults)
