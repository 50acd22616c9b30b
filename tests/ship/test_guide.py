"""The client guide describes the actual behaviour of the service."""

import gzip
import json
import re
import zlib
from typing import Any

import pytest

from atlas.client.batches import CHUNK_BYTES_MAX, CHUNKS_MAX
from atlas.core.records import DEPTH_MAX, LINE_BYTES_MAX
from atlas.core.rows import Header, RowForm, flatten
from atlas.core.stream_splitter import PART_BYTES
from atlas.edge.app import EXPOSED_HEADERS
from atlas.edge.context import CORRELATION_ID, WAIT_SECONDS_MAX
from atlas.edge.openapi import build_document
from atlas.local.auth0 import Auth0Emulator
from atlas.settings import Settings
from tests.support import generator
from tests.support.client_guide import BATCH, GUIDE, ROWS, SAFE, SOME_SAFE, STREAM, Message, blocks
from tests.support.dpop import Phone
from tests.support.error_codes import errors_with_codes
from tests.support.listeners import Reply, Server, listening

DESCRIBED = build_document("0")
HTTP_HEADERS = {"Host", "Authorization", "Content-Type", "WWW-Authenticate"}
ANYTHING = "…"
SWIFT_ACTIONS = {
    "done": "done",
    "again": "start",
    "token": "start",  # the first time; after that it tells the user
    "ask": "tell",
    "split": "setAside",
    "aside": "setAside",
}


REFUSED = {(row.status, code): row.app for row in ROWS for code in row.codes}
CODES = {(kind.status, kind.code): kind for kind in errors_with_codes()}
SWIFT, PROVER = blocks("swift")
UUIDS = re.findall(r'"uuid":"([\w-]+)"', STREAM.body)


def test_every_code_that_a_phone_can_meet_stands_in_the_table_and_no_other():
    assert sum(len(row.codes) for row in ROWS) == len(REFUSED)
    assert REFUSED.keys() == CODES.keys()
    assert {row.status for row in ROWS if not row.codes} == {0, 200, 202, 207}


def test_the_app_sends_again_what_is_retryable_and_nothing_else():
    again = {each for each, app in REFUSED.items() if app == "again"}
    retryable = {each for each, kind in CODES.items() if kind.retryable}

    assert again == retryable - {(401, "TOKEN_EXPIRED")}  # retried with a new token


def test_the_anchor_moves_on_200_and_202_alone():
    assert {row.status for row in ROWS if row.app == "done"} == {200, 202}


def test_each_thing_that_the_app_may_do_is_explained():
    explained = re.findall(r"(?m)^- \*\*(\w+)\*\*:", GUIDE)

    assert set(explained) == {row.app for row in ROWS} == set(SWIFT_ACTIONS)


def find_swift_action(status: int) -> str:
    """Return the function that the Swift example calls for a status."""
    for cases, does in re.findall(r"(?m)^ +case (.+?): (\w+)\(", SWIFT):
        for case in cases.partition(" where ")[0].split(", "):
            low, _, high = case.partition("...")
            if int(low) <= status <= int(high or low):
                return does
    (otherwise,) = re.findall(r"(?m)^ +default: (\w+)\(", SWIFT)
    return otherwise


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.status} {' '.join(row.codes)}".strip())
def test_the_uploader_in_swift_does_what_the_table_says(row):
    assert find_swift_action(row.status) == SWIFT_ACTIONS[row.app]


def test_the_uploader_in_swift_sends_the_headers_of_the_example():
    sent = re.findall(r'(?m)^ +"([A-Z][A-Za-z-]+)": ', SWIFT)

    assert ["Host", *sent] == list(STREAM.headers)
    assert SWIFT.count("/api/v1/healthkit/export") == 1


UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "": 1}
LIMITS = re.findall(r"(?m)^\|.*\| ([\d,]+) ?(\w*) \| `(\w+)\.(\w+)` \|", GUIDE)


def test_each_limit_with_a_setting_is_read():
    assert len(LIMITS) == len(re.findall(r"(?m)^\|.* `\w+\.\w+` \|", GUIDE)) > 5


@pytest.mark.parametrize(("number", "unit", "room", "key"), LIMITS)
def test_a_limit_is_the_default_of_its_setting(number, unit, room, key):
    default = getattr(getattr(Settings(), room), key)

    assert int(number.replace(",", "")) * UNITS[unit] == default


FIXED = [
    pytest.param(r"longer than \*\*(\d+) MiB", LINE_BYTES_MAX // 2**20, id="a line"),
    pytest.param(r"nested deeper than \*\*(\d+)", DEPTH_MAX, id="depth"),
    pytest.param(r"\*\*(\d+)\*\* chunks", CHUNKS_MAX, id="chunks of atlas send"),
    pytest.param(r"\*\*(\d+)\*\* KiB in a batch", CHUNK_BYTES_MAX // 2**10, id="their bytes"),
    pytest.param(r"wait=SECONDS`, up to \*\*(\d+)", WAIT_SECONDS_MAX, id="a wait"),
    pytest.param(r"already stored, of \*\*(\d+) MiB", PART_BYTES // 2**20, id="a part"),
    pytest.param(r"for\s+\*\*(\d+)\*\* days", Settings().journal.receipts_days, id="receipts"),
]


@pytest.mark.parametrize(("said", "is_so"), FIXED)
def test_what_cannot_be_set_is_said_as_it_is(said, is_so):
    (found,) = re.findall(said, GUIDE)

    assert int(found) == is_so


def test_a_correlation_id_may_be_as_long_as_is_said():
    (found,) = re.findall(r"up to \*\*(\d+)\*\* printable ASCII", GUIDE)

    assert CORRELATION_ID.fullmatch("x" * int(found))
    assert not CORRELATION_ID.fullmatch("x" * (int(found) + 1))


def test_every_address_is_described():
    named = {each.partition("?")[0] for each in re.findall(r"/api/v1/healthkit[\w/{}?=-]*", GUIDE)}

    assert {each.removesuffix("/") for each in named} <= set(DESCRIBED["paths"])


def test_every_header_that_the_app_sends_is_described():
    path = DESCRIBED["paths"]["/api/v1/healthkit/export"]["post"]
    described = {each["name"] for each in path["parameters"] if each["in"] == "header"}
    named = set(re.findall(r"`([A-Z]\w+-[\w-]+)(?=[`:])", GUIDE)) - set(EXPOSED_HEADERS)

    assert named | set(STREAM.headers) | set(BATCH.headers) <= described | HTTP_HEADERS


def test_every_header_that_the_app_reads_is_shown_to_pages_of_other_origins_too():
    read = set(re.findall(r'value\(forHTTPHeaderField: "([\w-]+)"', SWIFT))

    assert read | set(SAFE.headers) | set(SOME_SAFE.headers) <= set(EXPOSED_HEADERS)


def test_the_prover_in_swift_says_all_that_a_proof_must_say():
    phone = Phone(Auth0Emulator("https://a.test/"))
    said = set(re.findall(r'"(\w+)": ', PROVER))

    assert said == {*phone.claims(), *phone.header(), *phone.header()["jwk"]}


def deflate(text: bytes) -> bytes:
    """Compress as documented by Apple: level 5, raw deflate (windowBits -15), memLevel 8."""
    packer = zlib.compressobj(5, zlib.DEFLATED, -15, 8, zlib.Z_DEFAULT_STRATEGY)
    return packer.compress(text) + packer.flush()


async def send_request(
    server: Server, request: Message, body: bytes | None = None, **more: str
) -> Reply:
    """Send a request of the guide with a valid token; `more` adds or replaces headers."""
    method, path, _ = request.first.split(" ")
    headers = request.headers | {"Authorization": "Bearer token-of-ada"}
    headers |= {name.replace("_", "-"): value for name, value in more.items()}
    if body is None:
        body = request.body.encode()
        body = deflate(body) if headers.get("Content-Encoding") == "deflate" else body
    return await server.send(method, path, headers, body)


def mask(said: Any, found: Any) -> Any:
    """Return `found` with every value replaced by … that is … in the guide."""
    if said in (ANYTHING, [ANYTHING]):
        return said
    if isinstance(said, dict) and isinstance(found, dict):
        return {name: mask(said.get(name), value) for name, value in found.items()}
    if isinstance(said, list) and isinstance(found, list) and len(said) == len(found):
        return [mask(*each) for each in zip(said, found, strict=True)]
    return found


def assert_matches(said: Message, reply: Reply) -> None:
    """Assert that a reply is the one in the guide, including the order of its fields."""
    _, status, _ = said.first.split(" ", 2)
    body = json.loads(said.body)
    assert reply.status == int(status)
    assert json.dumps(mask(body, reply.body)) == json.dumps(body)
    for name, value in said.headers.items():
        pattern = re.escape(value).replace(ANYTHING, ".+")
        assert re.fullmatch(pattern, reply.headers[name.lower()]), name


async def test_a_file_of_lines_is_answered_as_is_said_as_soon_as_it_is_safe(life):
    life.reply_seconds, life.dataset.down = 600, True
    async with listening(life) as server:
        assert_matches(SAFE, await send_request(server, STREAM))


async def test_a_batch_of_which_some_is_safe_is_answered_as_is_said(life):
    async with listening(life) as server:
        assert_matches(SOME_SAFE, await send_request(server, BATCH))


async def test_the_receipt_of_what_was_safe_is_found_by_key_and_by_location(life):
    (by_key,) = re.findall(r"`GET (\S+\?key=\S+)`", GUIDE)
    life.dataset.down = True
    async with listening(life) as server:
        safe = await send_request(server, STREAM)
        life.dataset.down = False
        await server.flow.is_empty()
        listed = await server.send("GET", by_key)
        whole = await server.send("GET", safe.headers["location"])

    (found,) = listed.body["receipts"]
    assert listed.body["receipt_id"] == safe.body["receipt_id"] == whole.body["receipt_id"]
    assert whole.body["upload_results"][0]["receipt_id"] == found["receipt_id"]
    assert (found["status"], bool(found["transaction_rid"] and found["file_path"])) == (
        "committed",
        True,
    )


TEXT = STREAM.body.encode()
WAYS = [
    pytest.param("deflate", deflate(TEXT), id="deflate, as before"),
    pytest.param("deflate", zlib.compress(TEXT), id="deflate with a header"),
    pytest.param("gzip", gzip.compress(TEXT), id="gzip"),
    pytest.param("identity", TEXT, id="plain"),
]


@pytest.mark.parametrize(("encoding", "body"), WAYS)
async def test_sent_again_it_gets_its_first_receipt_and_adds_nothing(life, encoding, body):
    async with listening(life) as server:
        first = await send_request(server, STREAM, Prefer="wait=5")
        again = await send_request(server, STREAM, body, Content_Encoding=encoding)

    assert [each["replayed"] for each in again.body["upload_results"]] == [True]
    assert again.body["receipt_id"] == first.body["receipt_id"]
    assert life.dataset.uuids() == sorted(UUIDS)


async def test_other_bytes_under_the_key_of_a_file_are_refused(life):
    async with listening(life) as server:
        await send_request(server, STREAM)
        other = await send_request(server, STREAM, deflate(TEXT.replace(b":0,", b":1,")))

    assert (other.status, other.code) == (422, "IDEMPOTENCY_KEY_REUSED")


async def test_a_token_that_expired_in_the_queue_is_told_before_the_body_is_read(life):
    async with listening(life) as server:
        answer = await send_request(
            server, STREAM, b"", Authorization="Bearer expired", content_length="9999"
        )

    assert (answer.status, answer.code, answer.headers["connection"]) == (
        401,
        "TOKEN_EXPIRED",
        "close",
    )


async def test_what_swift_deflates_is_taken_in_all_its_parts(life):
    text = b"\n".join(generator.lines(10_000))
    life.journal_bytes_max, life.dataset.down = 64 * 2**20, True
    async with listening(life) as server:
        answer = await send_request(server, STREAM, deflate(text), Atlas_Record_Count="10000")

    assert answer.body["chunks_processed"] == -(-len(text) // PART_BYTES) > 1
    assert (answer.status, answer.body["safe_bytes"]) == (202, len(text))
    assert (answer.body["total_records"], "warnings" in answer.body) == (10_000, False)


def test_the_second_line_of_the_example_deletes_a_sample():
    header = Header("ada", "phone", "2026-01-02", "2026-01-02")
    table = flatten(TEXT.splitlines(), header, form=RowForm(23)).ndjson
    found = [json.loads(line) for line in table.splitlines()]

    assert [(row["uuid"], row["is_deleted"]) for row in found] == [
        (UUIDS[0], False),
        (UUIDS[1], True),
    ]
