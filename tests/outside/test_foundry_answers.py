"""Every call to Foundry with every response: a documented result or a defined error.

The rules below are written independently of the code. They restate the table in
atlas/outside/foundry/README.md.
"""

import asyncio
import gc
import re
import sys
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import anyio
import msgspec
import pytest

from atlas.core.errors import (
    BranchBusy,
    ContentTooLarge,
    FileInvalid,
    FileRefused,
    FileSpoiled,
    FoundryError,
    PathTaken,
    TransactionEnded,
)
from atlas.core.events import FoundryCalled
from atlas.core.messages import BranchSnapshot
from atlas.core.ports import Branch
from atlas.outside.foundry import (
    CallLimits,
    Credentials,
    FoundryDataset,
    FoundryTarget,
    open_dataset,
)
from atlas.outside.foundry.client import (
    CHUNK_BYTES,
    ConnectionLost,
    InternalError,
    TransientError,
)
from tests.conftest import EventRecorder
from tests.support.exports import NOON
from tests.support.fakes import at_once
from tests.support.foundry_client import OUR_TIME, answered, error, hours

ROWS = b"row\n"
SIZE = len(ROWS)
README = Path("atlas/outside/foundry/README.md")
# 4 attempts, twice each for a rejected token, and as many to look up the outcome
CALLS_MAX = 4 * 2 * 2

CALLS = {
    "take_snapshot": lambda dataset: dataset.take_snapshot(),
    "begin": lambda dataset: dataset.begin(),
    "put": lambda dataset: dataset.put("t", "p", ROWS),
    "remove": lambda dataset: dataset.remove("t", "p"),
    "commit": lambda dataset: dataset.commit("t"),
    "abort": lambda dataset: dataset.abort("t"),
    "transaction_status": lambda dataset: dataset.transaction_status("t"),
    "list_transaction_files": lambda dataset: dataset.list_transaction_files("t"),
    "list_files": lambda dataset: dataset.list_files("p"),
    "find_file": lambda dataset: dataset.find_file("p"),
    "read_file": lambda dataset: dataset.read_file("p", SIZE),
    "find_orphan": lambda dataset: dataset.find_orphan(BranchSnapshot("another", NOON), []),
    "describe_open": lambda dataset: dataset.describe_open("t"),
}
NOT_CALLS = {"count_remaining_calls", "content_type", "observations"}  # these send no request

STATUSES = [200, 204, 301, 307, 400, 401, 403, 404, 408, 409, 413, 415, 422, 429, 500, 502, 503]
NAMES = """
    OpenTransactionAlreadyExists TransactionNotOpen TransactionNotFound TransactionNotCommitted
    DatasetNotFound BranchNotFound DatasetViewNotFound FileAlreadyExists FileNotFound
    FileNotFoundOnBranch InvalidFilePath InvalidTransactionType InvalidParameterCombination
    FileSizeLimitExceeded ApiUsageDenied CommitTransactionPermissionDenied Default:Unauthorized
    NobodyKnowsThis
""".split()
ACCESS = {"ApiUsageDenied", "CommitTransactionPermissionDenied", "Default:Unauthorized"}
SETUP = ACCESS | {"DatasetNotFound", "BranchNotFound", "DatasetViewNotFound"}
TRANSACTION_ERRORS = {
    "OpenTransactionAlreadyExists",
    "TransactionNotCommitted",
    "InvalidTransactionType",
}


def transaction(status, **more):
    found = {"rid": "t", "transactionType": "APPEND", "status": status, "name": "master"}
    times = {"createdTime": "2022-10-10T12:23:11.152Z", "transactionRid": "t", "data": []}
    return msgspec.json.encode(found | times | more)


def file(**changes):
    found = {"path": "p", "transactionRid": "t", "sizeBytes": str(SIZE)} | changes
    return msgspec.json.encode(found | {"data": [found]})


BODIES = {
    "empty": b"",
    "HTML": b"<html><body>It works!</body></html>",
    "truncated": transaction("COMMITTED")[:-9],
    "null": b"null",
    "a number": b"7",
    "a list": b"[]",
    "an empty object": b"{}",
    "no UTF-8": b'{"\xff":"\xff"}',
    "deep": b'{"parameters":{"x":' + b"[" * 5_000 + b"]" * 5_000 + b"}}",
    "error of other types": b'{"errorName":7,"errorInstanceId":[],"parameters":"x"}',
    "error with odd parameters": b'{"errorName":"TransactionNotOpen","parameters":[]}',
    "fields of other types": b'{"rid":7,"status":{},"name":[],"path":1,"sizeBytes":{},"data":7}',
    "entries of other types": b'{"data":[{"path":7,"transactionRid":"t","sizeBytes":"1"}]}',
    "an entry that is none": b'{"data":[null]}',
    "a page that comes again": b'{"data":[],"nextPageToken":"1"}',
    "OPEN": transaction("OPEN"),
    "COMMITTED": transaction("COMMITTED"),
    "ABORTED": transaction("ABORTED"),
    "CLOSED": transaction("CLOSED"),
    "a time without a zone": transaction("OPEN", createdTime="2022-10-10T12:23:11"),
    "a file": file(),
    "a file, its size a number": file(sizeBytes=SIZE),
    "a file of another size": file(sizeBytes=SIZE + 1),
    "a file of no size": file(sizeBytes="many"),
}
IS_TRANSACTION = {"OPEN", "COMMITTED", "ABORTED", "a time without a zone"}
HAS_RID = IS_TRANSACTION | {"CLOSED"}
IS_FILE = {"a file", "a file, its size a number", "a file of another size"}
IS_PAGE = HAS_RID | IS_FILE


def answers():
    """Yield all bodies as (kind, error name or "", body)."""
    for name in NAMES:
        yield name, name, error(0, name)["body"]
    for kind, body in BODIES.items():
        yield kind, "TransactionNotOpen" if kind == "error with odd parameters" else "", body


def expected_error(call, status, kind, name):
    """Return the expected error type, `Result` or None for a result."""
    if status in {408, 429} or status >= 500:
        return InternalError if status == 500 else TransientError
    if status >= 300 and (status < 400 or status in {401, 403}):
        return NAMED.get((call, name), FoundryError) if status == 403 else FoundryError
    if status < 300:
        return (
            FoundryError
            if (call, status) == ("read_file", 204)
            else expected_after_success(call, kind)
        )
    return NAMED.get((call, name)) or expected_after_refusal(call, status, name)


class Result(Exception):
    """A marker for a result in a table of errors."""


ENDED = {"TransactionNotOpen", "TransactionNotFound"}
MISSING = {"FileNotFound", "FileNotFoundOnBranch"}
NAMED = (
    {("begin", "OpenTransactionAlreadyExists"): BranchBusy}
    | {("put", "FileAlreadyExists"): PathTaken}
    | {(call, name): TransactionEnded for call in ("put", "remove") for name in ENDED}
    | {("commit", "TransactionNotFound"): TransactionEnded}
    | {("abort", "TransactionNotFound"): Result}
    | {("transaction_status", "TransactionNotFound"): Result}
    | {("remove", name): Result for name in MISSING}
    | {("find_file", name): Result for name in MISSING | {"DatasetViewNotFound"}}
    | {("list_files", "DatasetViewNotFound"): Result}
    | {("read_file", "FileSizeLimitExceeded"): ContentTooLarge}
    | {("describe_open", name): Result for name in ["", *NAMES]}
)


def expected_after_refusal(call, status, name):
    if (call, status) == ("read_file", 413):
        return ContentTooLarge
    if call != "put" or name in SETUP or (status == 404 and not name):
        return FoundryError  # for commit too: the status query gets the same response
    if name == "InvalidFilePath" or status == 413:
        return FileInvalid
    return FoundryError if name in TRANSACTION_ERRORS else FileRefused


def expected_after_success(call, kind):
    is_good = {
        "take_snapshot": kind in HAS_RID,
        "begin": kind in HAS_RID,
        "put": kind != "a file of another size",
        "remove": True,
        "commit": kind == "COMMITTED",
        "abort": kind in {"COMMITTED", "ABORTED"},
        "transaction_status": kind in IS_TRANSACTION,
        "list_transaction_files": kind in IS_PAGE,
        "list_files": kind in IS_PAGE,
        "find_file": kind in IS_FILE,
        "read_file": True,
        "find_orphan": kind in {"OPEN", "COMMITTED", "ABORTED"},
        "describe_open": True,
    }[call]
    if is_good:
        return None
    if (call, kind) == ("commit", "ABORTED"):
        return TransactionEnded
    return FileSpoiled if call == "put" else FoundryError


def is_sane(call, kind, result):
    """True if a result claims nothing that the response does not contain."""
    match call:
        case "put":
            return result == (kind in {"a file", "a file, its size a number"})
        case "commit":
            return (result.head, result.at.tzinfo) == ("t", UTC) and kind == "COMMITTED"
        case "begin":
            return result == "t"
        case "take_snapshot":
            return result.head == "t"
        case "transaction_status":
            return result == ("OPEN" if kind == "a time without a zone" else kind)
        case "find_orphan":
            return result == ("t" if kind == "OPEN" else None)
        case _:
            return True


async def result_or_error(call):
    """Return the result or the FoundryError; any other exception fails the test."""
    try:
        return await call
    except FoundryError as error:
        return error


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("call", CALLS)
async def test_every_answer_to_every_call_ends_as_it_should(call, status):
    now = {}

    def answer(_request):
        place = {"Location": "/elsewhere"} if 300 <= status < 400 else {}
        body = b"" if status == 204 else now["body"]
        return {"status": status, "body": body, "headers": place}

    async with answered(answer) as stack:
        for of_body, name, body in answers():
            kind = "empty" if status == 204 else of_body
            now["body"] = body
            stack.heard.clear()
            wanted = expected_error(call, status, kind, name)
            with anyio.fail_after(10):
                result = await result_or_error(CALLS[call](stack.dataset))
            if isinstance(result, FoundryError):
                assert type(result) is wanted, (kind, result)
                assert "html" not in str(result)
            else:
                assert wanted in {None, Result}, (kind, result)
                assert status >= 300 or is_sane(call, kind, result), (kind, result)
            assert len(stack.heard) <= CALLS_MAX + 2, kind  # plus two token requests


@pytest.mark.parametrize(
    "bytes_sent",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"SSH-2.0-OpenSSH_9.6\r\n", id="no HTTP"),
        pytest.param(b"HTTP/1.1 two hundred\r\n\r\n", id="no status"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{", id="cut"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n{}", id="no length"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nz\r\n", id="chunks"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc", id="gzip"
        ),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: \xff\x00\r\n\r\n", id="a bad header"),
    ],
)
async def test_what_is_no_http_is_an_error_of_every_call(bytes_sent):
    async with open_dataset_of_server(bytes_sent) as dataset:
        for name, call in CALLS.items():
            with anyio.fail_after(10):
                assert type(await result_or_error(call(dataset))) is ConnectionLost, name


async def test_a_cut_response_does_not_keep_the_body_of_its_request():
    """aiohttp keeps the error of a cut response in a cycle, and the collector rarely runs."""
    body = bytearray(2 * CHUNK_BYTES)
    before = sys.getrefcount(body)
    async with open_dataset_of_server(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{") as dataset:
        gc.disable()
        try:
            assert type(await result_or_error(dataset.put("t", "p", body))) is ConnectionLost
            await anyio.wait_all_tasks_blocked()
            assert sys.getrefcount(body) == before
        finally:
            gc.enable()


@asynccontextmanager
async def open_dataset_of_server(bytes_sent):
    """A dataset of a server that gives out tokens, and answers all else with these bytes."""

    async def serve(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"POST /token"):
            body = b'{"access_token":"t","expires_in":3600}'
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        else:
            writer.write(bytes_sent)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, open_test_dataset(host) as (dataset, _):
        yield dataset


@asynccontextmanager
async def open_test_dataset(host):
    seen = EventRecorder()
    client = Credentials(f"{host}/token", "CLIENT-ID", "SECRET-VALUE")
    target, limits = FoundryTarget(host, "ri.d", "master"), CallLimits(8, 10_000, 5.0)
    async with open_dataset(
        target, client, limits, seen.watch, lambda: OUR_TIME, hours(), lambda: 0.0, at_once
    ) as dataset:
        yield dataset, seen


# Observations of undocumented behaviour


def test_each_call_of_the_port_is_in_the_table():
    calls = {name for name in dir(Branch) if not name.startswith("_")} - NOT_CALLS
    assert calls == set(CALLS)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"body": b'{"data":[]}'}, "200 empty"),
        ({"body": msgspec.json.encode({"data": [msgspec.Raw(file())]})}, "200 lists its files"),
        ({"body": b"<html>"}, "200 unreadable"),
        (error(404, "TransactionNotFound"), "404 TransactionNotFound"),
        (error(400, "TransactionNotCommitted"), "400 TransactionNotCommitted"),
    ],
)
async def test_how_an_open_transaction_is_listed_is_told_and_observed(answer, expected):
    async with answered(answer) as stack:
        assert await stack.dataset.describe_open("t") == expected
        assert stack.dataset.observations()["open transaction's listing"] == expected


async def test_an_error_shows_the_name_and_the_instance_id_and_no_other_text():
    answer = error(400, "FileContentRefused", path="OWN-WORDS")
    async with answered(answer) as stack:
        with pytest.raises(FileRefused) as caught:
            await stack.dataset.put("t", "p", ROWS)
        (event,) = [each for each in stack.seen.of(FoundryCalled) if each.operation == "put"]

    instance = "3f6e1c5a-1b2c-4d3e-8f90-a1b2c3d4e5f6"
    assert str(caught.value) == (
        f"Foundry answers 400 FileContentRefused (errorInstanceId {instance})."
    )
    assert (caught.value.error_name, caught.value.instance_id) == ("FileContentRefused", instance)
    assert (event.error_name, event.instance_id) == ("FileContentRefused", instance)


@pytest.mark.parametrize("status", [400, 500])
@pytest.mark.parametrize(
    "body",
    [
        {"errorName": "own words", "errorInstanceId": "own words"},
        {"errorName": "<script>", "errorInstanceId": "0"},
        {"errorName": "x" * 81, "errorInstanceId": "3f6e1c5a-1b2c-4d3e-8f90-a1b2c3d4e5f6\n"},
        {"errorName": None, "errorInstanceId": {}},
    ],
)
async def test_what_is_no_name_and_no_instance_id_is_not_shown(status, body):
    async with answered({"status": status, "body": msgspec.json.encode(body)}) as stack:
        with pytest.raises(FoundryError) as caught:
            await stack.dataset.transaction_status("t")
        events = stack.seen.of(FoundryCalled)

    assert str(caught.value) == f"Foundry answers {status}."
    assert (caught.value.error_name, caught.value.instance_id) == ("", "")
    assert {(each.error_name, each.instance_id) for each in events} == {("", "")}


@pytest.mark.parametrize(
    "date", ["", "yesterday", "Tue, 24 Nov 99999999999 11:00:00 GMT", "Tue, 31 Feb 2026 1:1:1 GMT"]
)
async def test_our_own_clock_stands_in_for_a_date_that_is_missing(date):
    """The server is hand-written because aiohttp's always adds a Date header."""

    async def serve(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        is_token = head.startswith(b"POST /token")
        body = b'{"access_token":"t"}' if is_token else b'{"name":"master"}'
        line = f"Date: {date}\r\n" if date else ""
        writer.write(f"HTTP/1.1 200 OK\r\n{line}Content-Length: {len(body)}\r\n\r\n".encode())
        writer.write(body)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, open_test_dataset(host) as (dataset, _):
        assert await dataset.take_snapshot() == BranchSnapshot("", OUR_TIME)
        observed = dataset.observations()["Date header"]

    assert observed == ("unreadable" if date else "absent")


# Orphaned transactions


def serve_orphan(listing=None, **changes):
    """Return a handler for a branch whose head is an open transaction.

    `listing` is the response to a listing of its files.
    """

    def answer(request):
        if request.path.endswith("/files"):
            return listing or {"body": b'{"data":[]}'}
        return {"body": transaction("OPEN", **changes)}

    return answer


AT = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
SNAPSHOT = BranchSnapshot("another", AT)


@pytest.mark.parametrize(
    ("created", "is_found"),
    [
        pytest.param("1970-01-01T00:00:00Z", True, id="no lower bound: the head has moved since"),
        pytest.param("2026-01-02T12:00:00Z", True, id="at once"),
        pytest.param("2026-01-02T12:14:04.9Z", True, id="just before the end"),
        pytest.param("2026-01-02T12:14:05.1Z", False, id="just after it"),  # 5 + 4*30 + 2*60 + 600
    ],
)
async def test_an_orphan_is_created_until_the_end_of_the_attempt(created, is_found):
    async with answered(serve_orphan(createdTime=created)) as stack:
        assert await stack.dataset.find_orphan(SNAPSHOT, []) == ("t" if is_found else None)


def page(*files):
    return {"body": msgspec.json.encode({"data": files})}


def entry(path, transaction_rid):
    return {"path": path, "transactionRid": transaction_rid, "sizeBytes": "1"}


@pytest.mark.parametrize(
    ("listing", "is_found"),
    [
        pytest.param(page(), True, id="empty"),
        pytest.param(page(entry("p", "t")), True, id="our path"),
        pytest.param(page(entry("theirs", "t")), False, id="theirs"),
        pytest.param(page(entry("p", "t"), entry("theirs", "t")), False, id="theirs and ours"),
        pytest.param(page(entry("theirs", "u")), True, id="of another transaction"),
        pytest.param(page(7), True, id="another type"),
        pytest.param({"body": b"<html>"}, True, id="HTML"),
        pytest.param({"body": b""}, True, id="nothing"),
        *(
            pytest.param(error(status, name), True, id=f"{status} {name}")
            for status in (400, 401, 403, 404, 429, 500, 503)
            for name in ("", "TransactionNotCommitted", "TransactionNotFound")
        ),
    ],
)
async def test_only_a_file_of_theirs_that_is_listed_shows_that_an_orphan_is_not_ours(
    listing, is_found
):
    async with answered(serve_orphan(listing)) as stack:
        assert await stack.dataset.find_orphan(SNAPSHOT, ["p"]) == ("t" if is_found else None)
        assert stack.asked("/files") <= 2  # twice if the token is refreshed


async def test_a_transaction_that_deletes_is_not_listed():
    listing = page(entry("theirs", "t"))
    async with answered(serve_orphan(listing, transactionType="DELETE")) as stack:
        assert await stack.dataset.find_orphan(SNAPSHOT, [], "DELETE") == "t"
        assert stack.asked("/files") == 0


async def test_a_head_that_is_not_known_any_more_is_not_an_orphan():
    def answer(request):
        is_branch = request.path.endswith("/master")
        return {"body": transaction("OPEN")} if is_branch else error(404, "TransactionNotFound")

    async with answered(answer) as stack:
        assert await stack.dataset.find_orphan(SNAPSHOT, []) is None


async def test_what_foundry_does_not_document_is_noted_for_the_operator():
    def answer(request):
        if request.path.endswith("/upload"):
            return error(404, "FileAlreadyExists")
        if request.path.endswith("/commit"):
            return {"status": 204}
        if request.path.endswith("/abort"):
            return {"body": transaction("ABORTED")}
        return serve_orphan()(request)

    async with answered(answer) as stack:
        dataset = stack.dataset
        assert dataset.observations() == {}
        await dataset.begin()
        await dataset.find_orphan(SNAPSHOT, [])
        for call in (dataset.put("t", "p", ROWS), dataset.commit("t")):
            with pytest.raises(FoundryError):
                await call
        await dataset.abort("t")
        await dataset.take_snapshot()
        observed = dict(dataset.observations())

    assert int(observed.pop("createdTime against Date").removesuffix(" s")) < 0
    assert observed == {
        "expires_in": "number",
        "Date header": "readable",
        "open transaction's listing": "200 empty",
        "FileAlreadyExists": "404 on the first attempt",
        "answer to commit": "204 empty",
        "answer to abort": "200 ABORTED",
        "head after abort": "the aborted one",
    }


# The table in the README


def test_the_readmes_table_is_that_of_the_code():
    text = README.read_text(encoding="utf-8")
    rows = re.findall(r"(?m)^\| `(\w+)` \|.*\| `(test_\w+)` \|$", text)
    tests = "".join(path.read_text(encoding="utf-8") for path in Path("tests").rglob("test_*.py"))

    assert {call for call, _ in rows} == set(CALLS)
    assert all(callable(getattr(FoundryDataset, call)) for call, _ in rows)
    assert not {test for _, test in rows if f"def {test}(" not in tests}
