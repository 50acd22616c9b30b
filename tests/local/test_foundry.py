"""The Foundry emulator, tested with Palantir's SDK, and over raw HTTP for what the SDK hides.

The SDK is the only independent check: an emulator that it does not accept as Foundry would prove
nothing about our client.
"""

import base64
import re
import stat
import uuid
from datetime import UTC, datetime
from urllib.parse import urlencode

import aiohttp
import anyio
import foundry_sdk
import msgspec
import pytest
from aiohttp.test_utils import TestServer
from anyio.from_thread import start_blocking_portal
from foundry_sdk import ConfidentialClientAuth, Config, FoundryClient
from foundry_sdk.v2.core import errors as core_errors
from foundry_sdk.v2.core.models import DatasetFieldSchema, DatasetSchema
from foundry_sdk.v2.datasets import errors

from atlas.local.foundry import FoundryEmulator, build_application
from atlas.local.foundry.branches import FoundryApiError
from atlas.local.foundry.faults import Fault
from atlas.local.foundry.state import CONCURRENT_REQUESTS_MAX, DATASET, REQUESTS_PER_MINUTE
from tests.local.caller import A_FILE, READ, ROWS, WRITE, error, open_caller

PATH = "healthkit/raw/auth0|64f0/2026-01-02T12-00-00-000Z.ndjson"
NO_TRANSACTION = "ri.foundry.main.transaction.00000000-0000-0000-0000-000000000000"


# As the official SDK sees it


@pytest.fixture
def foundry(tmp_path):
    return FoundryEmulator(tmp_path)


@pytest.fixture
def sdk(foundry):
    """The SDK's dataset client. It blocks, so the emulator runs in another thread."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(TestServer(build_application(foundry))) as server,
    ):
        auth = ConfidentialClientAuth("local", "local-secret", should_refresh=False)
        close = {"Connection": "close"}  # its global connection pool is never closed
        config = Config(scheme="http", default_headers=close, timeout=30.0, max_retries=1)
        yield FoundryClient(auth, f"127.0.0.1:{server.port}", config=config).datasets.Dataset


def begin(sdk, kind="APPEND"):
    return sdk.Transaction.create(DATASET, transaction_type=kind).rid


def put(sdk, rid, path=PATH, content=ROWS):
    return sdk.File.upload(DATASET, path, content, transaction_rid=rid)


def commit_files(sdk, *paths):
    rid = begin(sdk)
    for path in paths:
        put(sdk, rid, path)
    return sdk.Transaction.commit(DATASET, rid)


def paths(sdk, **more):
    return [file.path for file in sdk.File.list(DATASET, **more)]


def test_the_sdk_sees_the_dataset_and_its_branch(sdk):
    assert sdk.get(DATASET).rid == DATASET
    assert sdk.Branch.get(DATASET, "master").transaction_rid is None

    rid = begin(sdk)
    assert sdk.Branch.get(DATASET, "master").transaction_rid == rid


def test_the_sdk_opens_one_transaction_and_no_second_one(sdk):
    found = sdk.Transaction.create(DATASET, transaction_type="APPEND", branch_name="master")
    assert (found.status, found.transaction_type, found.closed_time) == ("OPEN", "APPEND", None)
    assert sdk.Transaction.get(DATASET, found.rid) == found

    with pytest.raises(errors.OpenTransactionAlreadyExists) as caught:
        begin(sdk)
    assert isinstance(caught.value, foundry_sdk.ConflictError)
    assert caught.value.parameters == {"datasetRid": DATASET, "branchName": "master"}


def test_the_sdk_cannot_upload_in_one_call_or_delete_while_a_transaction_is_open(sdk):
    commit_files(sdk, PATH)
    begin(sdk)
    with pytest.raises(errors.OpenTransactionAlreadyExists):
        sdk.File.upload(DATASET, "b", ROWS)
    with pytest.raises(errors.OpenTransactionAlreadyExists):
        sdk.File.upload(DATASET, "b", ROWS, branch_name="master", transaction_type="APPEND")
    with pytest.raises(errors.OpenTransactionAlreadyExists):
        sdk.File.delete(DATASET, PATH)


def test_the_sdk_sees_a_file_when_it_is_committed_and_not_before(sdk):
    rid = begin(sdk)
    file = put(sdk, rid)
    assert (file.path, file.transaction_rid, file.size_bytes) == (PATH, rid, len(ROWS))
    assert paths(sdk) == []
    with pytest.raises(errors.FileNotFoundOnBranch):
        sdk.File.get(DATASET, PATH)
    with pytest.raises(errors.FileNotFoundOnBranch):
        sdk.File.content(DATASET, PATH)

    found = sdk.Transaction.commit(DATASET, rid)
    assert found.status == "COMMITTED"
    assert found.closed_time >= found.created_time
    assert sdk.File.get(DATASET, PATH) == file
    assert sdk.File.content(DATASET, PATH) == ROWS
    assert paths(sdk, start_transaction_rid=rid, end_transaction_rid=rid) == [PATH]


def test_the_sdk_cannot_put_a_path_twice_into_a_transaction(sdk):
    rid = begin(sdk)
    put(sdk, rid)
    with pytest.raises(errors.FileAlreadyExists) as caught:
        put(sdk, rid)

    assert isinstance(caught.value, foundry_sdk.NotFoundError)  # that is a 404, not a 409


@pytest.mark.parametrize("end", ["commit", "abort"])
@pytest.mark.parametrize(("first", "state"), [("commit", "COMMITTED"), ("abort", "ABORTED")])
def test_the_sdk_ends_a_transaction_once(sdk, first, state, end):
    rid = begin(sdk)
    assert getattr(sdk.Transaction, first)(DATASET, rid).status == state
    with pytest.raises(errors.TransactionNotOpen) as caught:
        getattr(sdk.Transaction, end)(DATASET, rid)

    assert isinstance(caught.value, foundry_sdk.BadRequestError)
    assert caught.value.parameters["transactionStatus"] == state
    with pytest.raises(errors.TransactionNotOpen):
        put(sdk, rid)


def test_the_sdk_does_not_see_what_was_aborted(sdk):
    first = commit_files(sdk, PATH)
    rid = begin(sdk)
    put(sdk, rid, "aborted")
    sdk.Transaction.abort(DATASET, rid)

    assert paths(sdk) == [PATH]
    assert paths(sdk, start_transaction_rid=rid, end_transaction_rid=rid) == []
    assert sdk.Branch.get(DATASET, "master").transaction_rid == first.rid
    begin(sdk)


def test_the_sdk_uploads_in_one_call_and_replaces_what_was_there(sdk):
    commit_files(sdk, PATH)
    file = sdk.File.upload(DATASET, PATH, b"later")

    found = sdk.Transaction.get(DATASET, file.transaction_rid)
    assert (found.transaction_type, found.status) == ("UPDATE", "COMMITTED")
    assert sdk.File.content(DATASET, PATH) == b"later"
    with pytest.raises(foundry_sdk.BadRequestError):
        sdk.File.upload(DATASET, PATH, ROWS, branch_name="master", transaction_type="APPEND")
    assert sdk.File.content(DATASET, PATH) == b"later"
    begin(sdk)


def test_the_sdk_lists_files_page_by_page(sdk):
    commit_files(sdk, "a/1", "a/2", "a/3", "b/1")
    pages = sdk.File.list(DATASET, page_size=2)
    assert [file.path for file in pages.data] == ["a/1", "a/2"]
    assert pages.next_page_token is not None

    assert paths(sdk, page_size=2) == ["a/1", "a/2", "a/3", "b/1"]
    assert paths(sdk, path_prefix="a/", page_size=1) == ["a/1", "a/2", "a/3"]
    with pytest.raises(core_errors.InvalidPageSize):
        paths(sdk, page_size=0)


def test_the_sdk_lists_transactions_newest_first_and_as_a_preview_only(sdk):
    rids = [commit_files(sdk).rid for _ in range(3)]
    by_branch = sdk.Branch.transactions(DATASET, "master", preview=True)

    assert [each.rid for each in sdk.transactions(DATASET, page_size=2, preview=True)] == rids[::-1]
    assert [each.rid for each in by_branch] == rids[::-1]
    with pytest.raises(foundry_sdk.BadRequestError, match="ApiFeaturePreviewUsageOnly"):
        list(sdk.transactions(DATASET))


def test_the_sdk_gives_the_dataset_a_schema_and_reads_it_as_a_table(sdk):
    with pytest.raises(errors.SchemaNotFound):
        sdk.get_schema(DATASET)
    fields = [DatasetFieldSchema(type="STRING", name="uuid", nullable=True)]
    schema = DatasetSchema(field_schema_list=fields)
    with pytest.raises(errors.DatasetViewNotFound):
        sdk.put_schema(DATASET, schema=schema)

    commit_files(sdk, PATH)
    put_there = sdk.put_schema(DATASET, schema=schema, dataframe_reader="CSV")
    assert put_there.schema_ == schema
    assert sdk.get_schema(DATASET, branch_name="master") == put_there
    assert sdk.read_table(DATASET, format="CSV").split() == [b"uuid", b"a"]


def test_the_sdk_cannot_read_ndjson_by_a_schema_for_parquet(sdk):
    commit_files(sdk, PATH)
    schema = DatasetSchema(
        field_schema_list=[DatasetFieldSchema(type="STRING", name="uuid", nullable=True)]
    )
    sdk.put_schema(DATASET, schema=schema)  # the default format is Parquet
    with pytest.raises(errors.ReadTableError):
        sdk.read_table(DATASET, format="CSV")


def test_the_sdk_lacks_a_scope_that_is_withheld(sdk, foundry):
    foundry.options.withheld_scope = "api:datasets-write"
    with pytest.raises(foundry_sdk.PermissionDeniedError, match="ApiUsageDenied"):
        begin(sdk)


def test_the_sdk_deletes_a_file_in_one_call_or_in_a_transaction(sdk):
    commit_files(sdk, "a", "b", "c")
    sdk.File.delete(DATASET, "a")
    assert paths(sdk) == ["b", "c"]

    rid = begin(sdk, "DELETE")
    sdk.File.delete(DATASET, "b", transaction_rid=rid)
    assert paths(sdk) == ["b", "c"]
    sdk.Transaction.commit(DATASET, rid)
    assert paths(sdk) == ["c"]
    with pytest.raises(errors.FileNotFoundOnBranch):
        sdk.File.delete(DATASET, "a")


@pytest.mark.parametrize(
    ("call", "error"),
    [
        pytest.param(
            lambda sdk: sdk.Transaction.get(DATASET, NO_TRANSACTION),
            errors.TransactionNotFound,
            id="no such transaction",
        ),
        pytest.param(
            lambda sdk: put(sdk, NO_TRANSACTION), errors.TransactionNotFound, id="nor into it"
        ),
        pytest.param(
            lambda sdk: sdk.Transaction.create(DATASET + "0", transaction_type="APPEND"),
            errors.DatasetNotFound,
            id="no such dataset",
        ),
        pytest.param(
            lambda sdk: sdk.Branch.get(DATASET, "main"), errors.BranchNotFound, id="no such branch"
        ),
        pytest.param(
            lambda sdk: put(sdk, begin(sdk), "/a"), core_errors.InvalidFilePath, id="a slash first"
        ),
        pytest.param(
            lambda sdk: put(sdk, begin(sdk), "a/../b"), core_errors.InvalidFilePath, id="dots"
        ),
        pytest.param(
            lambda sdk: sdk.File.upload(
                DATASET, PATH, ROWS, branch_name="master", transaction_rid=begin(sdk)
            ),
            core_errors.InvalidParameterCombination,
            id="a branch and a transaction",
        ),
        pytest.param(
            lambda sdk: sdk.File.upload(DATASET, PATH, ROWS, transaction_type="APPEND"),
            core_errors.InvalidParameterCombination,
            id="a type and no branch",
        ),
        pytest.param(
            lambda sdk: put(sdk, begin(sdk, "DELETE")),
            foundry_sdk.BadRequestError,
            id="an upload that deletes",
        ),
        pytest.param(
            lambda sdk: sdk.get_health_checks(DATASET, preview=True),
            foundry_sdk.ApiNotFoundError,
            id="an endpoint that is not there",
        ),
    ],
)
def test_the_sdk_knows_each_error_by_its_type(sdk, call, error):
    with pytest.raises(error):
        call(sdk)


def test_the_sdk_knows_that_it_has_no_role(sdk, foundry):
    rid = begin(sdk)
    foundry.options.is_role_revoked = True
    with pytest.raises(errors.CreateTransactionPermissionDenied):
        begin(sdk)
    with pytest.raises(errors.UploadFilePermissionDenied):
        put(sdk, rid)
    with pytest.raises(errors.CommitTransactionPermissionDenied):
        sdk.Transaction.commit(DATASET, rid)
    with pytest.raises(errors.AbortTransactionPermissionDenied):
        sdk.Transaction.abort(DATASET, rid)
    with pytest.raises(errors.DatasetNotFound):
        sdk.get(DATASET)


@pytest.mark.parametrize(
    ("status", "error"),
    [(429, foundry_sdk.RateLimitError), (503, foundry_sdk.ServiceUnavailable)],
)
def test_the_sdk_knows_when_it_is_too_much(sdk, foundry, status, error):
    foundry.faults.add(Fault("dataset", "status", status=status))
    with pytest.raises(error):
        sdk.get(DATASET)


@pytest.mark.parametrize("path", ["100%/a b", "%C3%A9%2F/ü", "a+b&c=d?e#f", "{curly}/⌚", "..."])
def test_the_sdk_finds_a_file_under_the_path_that_it_was_given(sdk, path):
    commit_files(sdk, path)

    assert paths(sdk) == paths(sdk, path_prefix=path) == [path]
    assert sdk.File.content(DATASET, path) == ROWS


# Path traversal

ESCAPES = [
    "..",
    "../a",
    "a/../../b",
    "a/..",
    "./a",
    "a//b",
    "a/",
    "a/./b",
    "/etc/a",
    "a\0b",
    "",
    ".",
]


@pytest.mark.parametrize("path", ESCAPES)
def test_no_path_leads_out_of_the_folder_of_its_branch(tmp_path, path):
    found = FoundryEmulator(tmp_path / "state")
    opened = found.branches.begin(DATASET, "master", "APPEND")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(FoundryApiError, match="InvalidFilePath"):
        found.branches.put(opened, path, b"x")
    found.branches.commit(opened)
    found.branches.close()

    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("path", ["~/a", "..%2Fa", "a\\..\\b", "...", ".log", ".open/a", "C:a"])
def test_what_only_looks_like_a_way_out_is_a_file_in_that_folder(tmp_path, path):
    found = FoundryEmulator(tmp_path / "state")
    opened = found.branches.begin(DATASET, "master", "APPEND")
    found.branches.put(opened, path, b"x")
    found.branches.commit(opened)
    found.branches.close()

    (file,) = (each for each in tmp_path.rglob("*") if each.is_file() and each.read_bytes() == b"x")
    assert file == tmp_path / "state" / DATASET / "master" / path


# Wire format


async def test_answers_have_the_shapes_that_are_documented(tmp_path):
    noon = datetime(2026, 1, 2, 12, tzinfo=UTC)
    async with open_caller(tmp_path, clock=lambda: noon) as stack:
        rid = await stack.begin()
        file = await stack.put(rid)
        transaction = await stack.ask("GET", f"/transactions/{rid}")
        closed = await stack.end(rid)
        branch = await stack.ask("GET", "/branches/master")
        dataset = await stack.ask("GET", "")

    assert re.fullmatch(r"ri\.foundry\.main\.transaction\.[0-9a-f-]{36}", rid)
    at = "2026-01-02T12:00:00.000Z"
    shown = {"rid": rid, "transactionType": "APPEND", "status": "OPEN", "createdTime": at}
    assert transaction.json == shown
    assert closed.json == shown | {"status": "COMMITTED", "closedTime": at}
    assert file.json == {
        "path": "a/b.ndjson",
        "transactionRid": rid,
        "sizeBytes": str(len(ROWS)),  # a string in Foundry's API
        "updatedTime": at,
    }
    assert branch.json == {"name": "master", "transactionRid": rid}
    assert dataset.json.keys() == {"rid", "name", "parentFolderRid"}


async def test_errors_have_foundrys_envelope(stack):
    answer = await stack.ask("GET", f"/transactions/{NO_TRANSACTION}")

    assert answer.status == 404
    assert answer.headers["Content-Type"].startswith("application/json")
    assert len(answer.json.pop("errorInstanceId")) == 36
    assert answer.json | {"errorInstanceId": ""} == {
        "errorCode": "NOT_FOUND",
        "errorName": "TransactionNotFound",
        "errorInstanceId": "",
        "parameters": {"datasetRid": DATASET, "transactionRid": NO_TRANSACTION},
    }


@pytest.mark.parametrize(
    ("method", "path", "query", "status", "code", "name"),
    [
        pytest.param(
            "GET", "/transactions", {}, 400, "INVALID_ARGUMENT", "ApiFeaturePreviewUsageOnly",
            id="no preview",
        ),
        pytest.param(
            "GET", "/branches/master/transactions", {"preview": "false"}, 400, "INVALID_ARGUMENT",
            "ApiFeaturePreviewUsageOnly", id="no preview of a branch",
        ),
        pytest.param(
            "GET", "/files", {"pageSize": "0"}, 400, "INVALID_ARGUMENT", "InvalidPageSize",
            id="pages of nothing",
        ),
        pytest.param(
            "POST", A_FILE + "/upload", {"transactionRid": "t", "branchName": "master"}, 400,
            "INVALID_ARGUMENT", "InvalidParameterCombination", id="transaction and branch",
        ),
        pytest.param(
            "POST", A_FILE + "/upload", {"transactionRid": "t", "transactionType": "APPEND"}, 400,
            "INVALID_ARGUMENT", "InvalidParameterCombination", id="transaction and type",
        ),
        pytest.param(
            "POST", A_FILE + "/upload", {"transactionType": "APPEND"}, 400, "INVALID_ARGUMENT",
            "InvalidParameterCombination", id="type without a branch",
        ),
        pytest.param(
            "POST", A_FILE + "/upload", {"branchName": "master", "transactionType": "X"}, 400,
            "INVALID_ARGUMENT", "InvalidTransactionType", id="a type that nobody knows",
        ),
        pytest.param(
            "POST", "/files/%2Fa/upload", {}, 400, "INVALID_ARGUMENT", "InvalidFilePath",
            id="a slash first",
        ),
        pytest.param(
            "GET", A_FILE, {}, 404, "NOT_FOUND", "FileNotFoundOnBranch", id="no such file"
        ),
        pytest.param(
            "DELETE", A_FILE, {}, 404, "NOT_FOUND", "FileNotFoundOnBranch", id="none to delete"
        ),
    ],
)  # fmt: skip
async def test_what_foundry_refuses_is_refused_by_the_same_name(
    stack, method, path, query, status, code, name
):
    answer = await stack.ask(method, path, ROWS if method == "POST" else None, **query)

    assert answer.status == status
    assert (answer.json["errorCode"], answer.json["errorName"]) == (code, name)
    assert await stack.list_paths() == []
    assert await stack.begin()  # nothing was left open


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        pytest.param("/api/v2/nothing", None, id="no such endpoint"),
        pytest.param("/files/a/b/c", None, id="a path in more than one segment"),
        pytest.param("/files", {"status": 429}, id="429"),
        pytest.param("/files", {"status": 503, "retry_after": 7}, id="503"),
    ],
)
async def test_some_refusals_have_no_body_at_all(stack, path, fault):
    if fault is not None:
        await stack.fault(call="list", kind="status", **fault)
    answer = await stack.ask("GET", path)

    assert answer.status == (fault["status"] if fault else 404)
    assert answer.body == b""


async def test_a_path_is_taken_as_it_stands_on_the_wire(stack):
    rid = await stack.commit("100%25%2Fa%257Cb%2520c%2F%7Bd%7D")

    assert await stack.list_paths(startTransactionRid=rid, endTransactionRid=rid) == [
        "100%/a%7Cb%20c/{d}"
    ]


async def test_the_head_of_a_branch_is_what_is_open_or_was_committed_last(stack):
    assert (await stack.ask("GET", "/branches/master")).json == {"name": "master"}
    first = await stack.commit("a")
    rid = await stack.begin()
    assert (await stack.ask("GET", "/branches/master")).json["transactionRid"] == rid

    await stack.end(rid, "abort")
    assert (await stack.ask("GET", "/branches/master")).json["transactionRid"] == first


async def test_appending_a_path_that_is_there_fails_at_the_commit_and_stays_open(stack):
    await stack.commit("a")
    rid = await stack.begin()
    assert (await stack.put(rid, "/files/a", b"other")).status == 200
    answer = await stack.end(rid)

    assert answer.status == 400
    assert answer.json["errorCode"] == "INVALID_ARGUMENT"
    assert await stack.fetch_status(rid) == "OPEN"
    assert (await stack.ask("GET", "/files/a/content")).body == ROWS
    assert (await stack.end(rid, "abort")).status == 200


@pytest.mark.parametrize(
    ("kind", "left"),
    [("APPEND", ["a", "b", "c"]), ("UPDATE", ["a", "b", "c"]), ("SNAPSHOT", ["c"])],
)
async def test_what_is_left_depends_on_the_type_of_a_transaction(stack, tmp_path, kind, left):
    await stack.commit("a", "b")
    await stack.commit("c", kind=kind)

    assert await stack.list_paths() == left
    assert sorted(file.name for file in (tmp_path / DATASET / "master").iterdir()) == left


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        pytest.param("application/octet-stream", 200, id="octets"),
        pytest.param("application/x-ndjson", 415, id="NDJSON"),
        pytest.param("application/json", 415, id="JSON"),
        pytest.param(None, 415, id="nothing"),
    ],
)
async def test_when_it_is_strict_a_file_is_octets(stack, kind, status):
    rid = await stack.begin()
    query = {"transactionRid": rid}
    headers = {} if kind is None else {"Content-Type": kind}
    lenient = await stack.ask("POST", "/files/lenient/upload", ROWS, headers, **query)
    await stack.switch(is_strict_about_types=True)
    strict = await stack.ask("POST", "/files/strict/upload", ROWS, headers, **query)

    assert (lenient.status, strict.status) == (200, status)


async def test_an_upload_says_how_long_it_is(stack):
    async def chunks():
        yield ROWS

    rid = await stack.begin()
    assert (await stack.put(rid, content=chunks())).status == 400
    assert (await stack.put(rid, content=b"")).json["sizeBytes"] == "0"


# Authentication


async def request_token(stack, status=200, headers=None, **form):
    stack.token = None
    body = urlencode({"grant_type": "client_credentials"} | form).encode()
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = await stack.ask("POST", "/multipass/api/oauth2/token", body, kind | (headers or {}))
    assert answer.status == status
    return answer.json


def basic(name="local", secret="local-secret"):
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode()}


@pytest.mark.parametrize(
    ("headers", "form"),
    [
        pytest.param({}, {"client_id": "local", "client_secret": "local-secret"}, id="in the body"),
        pytest.param(basic(), {}, id="Basic"),
    ],
)
@pytest.mark.parametrize("scope", [None, f"{READ} {WRITE}", f"{READ} {WRITE} offline_access"])
async def test_a_client_gets_a_token_that_is_good(stack, headers, form, scope):
    asked = form if scope is None else form | {"scope": scope}
    found = await request_token(stack, headers=headers, **asked)
    assert found == {
        "access_token": found["access_token"],
        "token_type": "Bearer",
        "expires_in": 3600,
    }

    stack.token = found["access_token"]
    assert await stack.begin()


@pytest.mark.parametrize(
    ("status", "headers", "form"),
    [
        pytest.param(401, {}, {"client_id": "local", "client_secret": "wrong"}, id="wrong secret"),
        pytest.param(401, {}, {"client_id": "eve", "client_secret": "local-secret"}, id="who?"),
        pytest.param(401, {}, {}, id="no credentials"),
        pytest.param(401, basic(secret="wrong"), {}, id="Basic, wrong secret"),
        pytest.param(401, {"Authorization": "Basic !"}, {}, id="Basic, no base64"),
        pytest.param(400, basic(), {"grant_type": "password"}, id="another grant"),
    ],
)
async def test_a_stranger_gets_no_token(stack, status, headers, form):
    assert "access_token" not in await request_token(stack, status, headers, **form)


@pytest.mark.parametrize(
    ("headers", "name"),
    [
        pytest.param({}, "MissingCredentials", id="no token"),
        pytest.param(basic(), "MissingCredentials", id="Basic"),
        pytest.param({"Authorization": "Bearer "}, "MissingCredentials", id="an empty one"),
        pytest.param({"Authorization": "Bearer x"}, "Default:Unauthorized", id="a made-up one"),
    ],
)
async def test_whoever_has_no_good_token_is_turned_away(stack, headers, name):
    stack.token = None
    answer = await stack.ask("GET", "/files", headers=headers)

    assert answer.status == 401
    assert (answer.json["errorCode"], answer.json["errorName"]) == ("UNAUTHORIZED", name)


@pytest.mark.parametrize("how", ["expires", "is revoked"])
async def test_a_token_that_expires_or_is_revoked_is_good_no_more(stack, how):
    if how == "expires":
        await stack.switch(token_seconds=0)
        stack.token = (await request_token(stack, headers=basic()))["access_token"]
    else:
        await stack.ask("POST", "/stand-in/tokens/revoke")
    answer = await stack.ask("GET", "/files")

    assert answer.status == 401
    assert answer.json["errorName"] == "Default:Unauthorized"


@pytest.mark.parametrize(
    ("has", "method", "path", "lacks"),
    [
        pytest.param(READ, "POST", "/transactions", WRITE, id="reads, and would write"),
        pytest.param(READ, "POST", A_FILE + "/upload", WRITE, id="reads, and would upload"),
        pytest.param(WRITE, "GET", "/files", READ, id="writes, and would read"),
    ],
)
async def test_a_token_is_good_for_its_scopes_only(stack, has, method, path, lacks):
    stack.token = (await request_token(stack, headers=basic(), scope=has))["access_token"]
    answer = await stack.ask(method, path)

    assert answer.status == 403
    assert answer.json["errorCode"] == "PERMISSION_DENIED"
    assert answer.json["errorName"] == "ApiUsageDenied"
    assert answer.json["parameters"] == {"missingScope": lacks}


@pytest.mark.parametrize(
    ("method", "path", "status", "name"),
    [
        ("GET", "", 404, "DatasetNotFound"),
        ("GET", "/branches/master", 404, "DatasetNotFound"),
        ("POST", "/transactions", 403, "CreateTransactionPermissionDenied"),
        ("POST", "/transactions/{rid}/commit", 403, "CommitTransactionPermissionDenied"),
        ("POST", "/transactions/{rid}/abort", 403, "AbortTransactionPermissionDenied"),
        ("POST", A_FILE + "/upload", 403, "UploadFilePermissionDenied"),
    ],
)
async def test_without_a_role_the_dataset_is_not_there_and_cannot_be_written_to(
    stack, method, path, status, name
):
    rid = await stack.begin()
    await stack.switch(is_role_revoked=True)
    answer = await stack.ask(method, path.format(rid=rid))

    assert (answer.status, answer.json["errorName"]) == (status, name)


async def test_a_role_to_read_is_no_role_to_write(stack):
    rid = await stack.begin()
    await stack.switch(is_reader=True)

    answer = await stack.ask("POST", f"/transactions/{rid}/commit")
    assert answer.json["errorName"] == "CommitTransactionPermissionDenied"
    assert (await stack.ask("GET", f"/transactions/{rid}")).status == 200


@pytest.mark.parametrize(
    ("minute", "status"),
    [
        pytest.param({"requests": REQUESTS_PER_MINUTE - 1}, 200, id="the last of this minute"),
        pytest.param({"requests": REQUESTS_PER_MINUTE}, 429, id="one more"),
        pytest.param({"at_once": CONCURRENT_REQUESTS_MAX - 1}, 200, id="the last at once"),
        pytest.param({"at_once": CONCURRENT_REQUESTS_MAX}, 429, id="one more at once"),
    ],
)
async def test_so_many_requests_are_allowed_when_there_are_limits(stack, minute, status):
    stack.foundry.minute.began = anyio.current_time()
    for name, value in minute.items():
        setattr(stack.foundry.minute, name, value)
    assert (await stack.ask("GET", "/files")).status == 200

    await stack.switch(has_limits=True)
    answer = await stack.ask("GET", "/files")
    assert answer.status == status
    assert answer.body == b"" or status == 200


# Injected faults


@pytest.mark.parametrize("how", ["cut", "504", "silence"])
@pytest.mark.parametrize(("kind", "happens"), [("lost", True), ("refused", False)])
@pytest.mark.parametrize("call", ["create", "upload", "commit"])
async def test_a_call_can_happen_or_not_and_nobody_hears_of_it(stack, call, kind, happens, how):
    rid = await stack.begin() if call != "create" else None
    if call == "commit":
        await stack.put(rid)
    await stack.fault(call=call, kind=kind, how=how, seconds=0.01)
    ask = {
        "create": lambda: stack.ask("POST", "/transactions", {"transactionType": "APPEND"}),
        "upload": lambda: stack.put(rid),
        "commit": lambda: stack.end(rid),
    }[call]

    if how == "504":
        assert (await ask()).status == 504
    else:
        with pytest.raises(aiohttp.ClientConnectionError):
            await ask()

    found = list(stack.foundry.branches.transactions.values())
    if call == "create":
        assert len(found) == happens
    elif call == "upload":
        assert list(found[0].files) == ["a/b.ndjson"] * happens
    else:
        assert found[0].status == ("COMMITTED" if happens else "OPEN")
    again = await ask()
    assert again.status == (200 if not happens else {"create": 409, "upload": 404}.get(call, 400))


@pytest.mark.parametrize(
    ("fault", "headers"),
    [
        pytest.param({"status": 429}, {}, id="429"),
        pytest.param({"status": 429, "retry_after": 7}, {"Retry-After": "7"}, id="429 and when"),
        pytest.param({"status": 503, "retry_after": 0}, {"Retry-After": "0"}, id="503 and when"),
        pytest.param(
            {"status": 503, "do_not_retry": True},
            {"QoS-Retry-Hint": "do-not-retry"},
            id="503 and never",
        ),
        pytest.param({"status": 401}, {}, id="401 in mid flight"),
        pytest.param({"status": 500}, {}, id="500"),
    ],
)
async def test_a_call_can_be_answered_with_a_status(stack, fault, headers):
    await stack.fault(call="list", kind="status", **fault)
    answer = await stack.ask("GET", "/files")

    assert answer.status == fault["status"]
    retry_headers = {name: answer.headers.get(name) for name in ("Retry-After", "QoS-Retry-Hint")}
    assert retry_headers == {"Retry-After": None, "QoS-Retry-Hint": None} | headers
    assert (await stack.ask("GET", "/files")).status == 200


async def test_a_status_comes_in_the_envelope_and_under_the_name_that_is_asked_for(stack):
    await stack.fault(call="list", kind="status", status=409, name="BranchIsLocked")
    named = await stack.ask("GET", "/files")
    await stack.fault(call="list", kind="status", status=500)
    unnamed = await stack.ask("GET", "/files")

    assert error(named) == (409, "BranchIsLocked")
    assert error(unnamed) == (500, "Default:Internal")
    codes = [each.json["errorCode"] for each in (named, unnamed)]
    assert codes == ["CONFLICT", "INTERNAL"]
    instances = {each.json["errorInstanceId"] for each in (named, unnamed)}
    assert len({str(uuid.UUID(each)) for each in instances}) == 2


async def test_a_call_can_happen_and_its_answer_be_empty(stack):
    rid = await stack.begin()
    await stack.fault(call="commit", kind="empty")
    answer = await stack.end(rid)

    assert (answer.status, answer.body) == (200, b"")
    assert await stack.fetch_status(rid) == "COMMITTED"


async def test_a_call_can_happen_and_its_answer_have_wrong_types(stack):
    await stack.fault(call="create", kind="wrong_types")
    answer = await stack.ask("POST", "/transactions", {"transactionType": "APPEND"})
    (rid,) = stack.foundry.branches.transactions
    assert answer.status == 200
    assert answer.json["rid"] == [rid]
    assert answer.json["status"] == ["OPEN"]

    for path, wrong in (("/files", {"data": {}}), ("", {"name": ["healthkit"]})):
        await stack.fault(call="any", kind="wrong_types")
        answer = await stack.ask("GET", path)
        assert answer.status == 200
        assert answer.json.items() >= wrong.items()

    await stack.put(rid)
    await stack.end(rid)
    await stack.fault(call="content", kind="wrong_types")
    assert (await stack.ask("GET", A_FILE + "/content")).json == {"data": [""]}


async def test_an_answer_can_be_html_or_rubbish_or_torn_or_late(stack):
    await stack.fault(call="list", kind="html")
    html = await stack.ask("GET", "/files")
    await stack.fault(call="list", kind="rubbish")
    rubbish = await stack.ask("GET", "/files")
    assert (html.status, html.body[:6]) == (502, b"<html>")
    assert (rubbish.status, rubbish.body) == (200, b"It works!")

    await stack.fault(call="list", kind="torn")
    with pytest.raises(aiohttp.ClientPayloadError):
        await stack.ask("GET", "/files")

    await stack.fault(call="list", kind="latency", seconds=0.05)
    before = anyio.current_time()
    assert (await stack.ask("GET", "/files")).json == {"data": []}
    assert anyio.current_time() - before >= 0.05


@pytest.mark.parametrize(
    ("fault", "statuses"),
    [
        pytest.param({}, [503, 200, 200, 200], id="once"),
        pytest.param({"count": 2}, [503, 503, 200, 200], id="so often"),
        pytest.param({"after": 1}, [200, 503, 200, 200], id="not at first"),
        pytest.param({"count": 0, "after": 2}, [200, 200, 503, 503], id="for ever"),
        pytest.param({"call": "any"}, [503, 200, 200, 200], id="whatever is asked"),
        pytest.param({"call": "commit"}, [200, 200, 200, 200], id="another call"),
    ],
)
async def test_a_fault_befalls_the_calls_that_it_is_meant_for(stack, fault, statuses):
    await stack.fault(**{"call": "list", "kind": "status"} | fault)
    assert [(await stack.ask("GET", "/files")).status for _ in statuses] == statuses

    await stack.ask("DELETE", "/stand-in/faults")
    assert (await stack.ask("GET", "/stand-in/faults")).json == []
    assert (await stack.ask("GET", "/files")).status == 200


async def test_chance_takes_the_same_course_every_time(stack):
    async def course(seed):
        await stack.fault(call="list", kind="status", rate=0.5, seed=seed, count=0)
        found = [(await stack.ask("GET", "/files")).status for _ in range(20)]
        await stack.ask("DELETE", "/stand-in/faults")
        return found

    first = await course(1)
    assert set(first) == {200, 503}
    assert await course(1) == first
    assert await course(2) != first


@pytest.mark.parametrize(
    ("path", "wish"),
    [
        ("faults", {"call": "list", "kind": "explode"}),
        ("faults", {"call": "nothing", "kind": "html"}),
        ("faults", {"call": "list", "kind": "html", "often": 3}),
        ("settings", {"is_strict": True}),
        ("settings", {"is_strict_about_types": "perhaps"}),
        ("foreign", {"branch": 7}),
    ],
)
async def test_a_wish_that_nobody_understands_is_refused(stack, path, wish):
    assert (await stack.ask("POST", f"/stand-in/{path}", wish)).status == 400


async def test_somebody_else_keeps_the_branch_busy_for_a_while(stack):
    theirs = (await stack.ask("POST", "/stand-in/foreign", {"seconds": 0.05})).json
    statuses = set()
    with anyio.fail_after(10):
        while 200 not in statuses:
            answer = await stack.ask("POST", "/transactions", {"transactionType": "APPEND"})
            statuses.add(answer.status)

    assert statuses == {409, 200}
    assert await stack.fetch_status(theirs["rid"]) == "ABORTED"


async def test_somebody_else_writes_and_ends_what_is_open_even_ours(stack):
    wish = {"kind": "UPDATE", "files": {"theirs": "text"}}
    theirs = (await stack.ask("POST", "/stand-in/foreign", wish)).json
    assert (await stack.ask("POST", "/stand-in/foreign", wish)).status == 409
    await stack.ask("POST", f"/stand-in/transactions/{theirs['rid']}/commit")
    assert (await stack.ask("GET", "/files/theirs/content")).body == b"text"

    ours = await stack.begin()
    await stack.ask("POST", f"/stand-in/transactions/{ours}/abort")
    assert await stack.fetch_status(ours) == "ABORTED"
    assert (await stack.ask("POST", f"/stand-in/transactions/{ours}/commit")).status == 409


@pytest.mark.parametrize(
    ("touch", "done"),
    [
        pytest.param(lambda stack, rid: stack.put(rid), "written to", id="upload"),
        pytest.param(lambda stack, rid: stack.end(rid), "committed", id="commit"),
        pytest.param(lambda stack, rid: stack.end(rid, "abort"), "aborted", id="abort"),
    ],
)
async def test_whoever_touches_what_is_not_his_is_complained_of(stack, touch, done):
    theirs = (await stack.ask("POST", "/stand-in/foreign", {})).json
    assert (await touch(stack, theirs["rid"])).status == 200

    state = (await stack.ask("GET", "/stand-in/state")).json
    assert state["complaints"] == [f"A foreign transaction was {done}."]


async def test_it_tells_what_it_was_asked_and_what_there_is(stack):
    rid = await stack.begin()
    await stack.put(rid)
    await stack.ask("POST", "/transactions", {"transactionType": "APPEND"})
    await stack.end(rid)
    state = (await stack.ask("GET", "/stand-in/state")).json

    assert state["calls"] == {"create 200": 1, "upload 200": 1, "create 409": 1, "commit 200": 1}
    assert [(each["rid"], each["status"], each["owner"]) for each in state["transactions"]] == [
        (rid, "COMMITTED", "client")
    ]
    assert state["transactions"][0]["files"] == {"a/b.ndjson": len(ROWS)}
    assert state["complaints"] == []


async def test_it_tells_the_last_errors_as_the_client_was_told_of_them(stack):
    answers = [await stack.ask("GET", f"/files/{number}") for number in range(24)]
    await stack.fault(call="list", kind="status", status=403, name="ApiUsageDenied")
    answers.append(await stack.ask("GET", "/files"))
    state = (await stack.ask("GET", "/stand-in/state")).json

    assert state["errors"] == [
        {
            "name": answer.json["errorName"],
            "status": answer.status,
            "errorInstanceId": answer.json["errorInstanceId"],
        }
        for answer in answers[-20:]
    ]
    assert len({each["errorInstanceId"] for each in state["errors"]}) == 20


async def test_it_tells_by_which_headers_the_last_call_can_be_found(stack):
    headers = {"User-Agent": "atlas/1", "X-B3-TraceId": "463ac35c9f6413ad"}
    await stack.ask("GET", "/files", headers=headers)
    state = (await stack.ask("GET", "/stand-in/state")).json
    assert state["last_headers"] == headers

    await stack.ask("GET", "/files", headers={"User-Agent": "atlas/2"})
    state = (await stack.ask("GET", "/stand-in/state")).json
    assert state["last_headers"] == {"User-Agent": "atlas/2", "X-B3-TraceId": None}


# State on disk


async def test_committed_files_lie_there_as_plain_files_and_nothing_else_does(stack, tmp_path):
    place = tmp_path / DATASET / "master" / "healthkit" / "raw" / "auth0|64f0" / "a.ndjson"
    rid = await stack.begin()
    await stack.put(rid, "/files/healthkit%2Fraw%2Fauth0%7C64f0%2Fa.ndjson")
    assert not (tmp_path / DATASET).exists()
    await stack.end(rid)
    assert place.read_bytes() == ROWS
    assert stat.S_ISREG(place.lstat().st_mode)

    aborted = await stack.begin()
    await stack.put(aborted)
    await stack.end(aborted, "abort")
    await stack.commit("healthkit%2Fraw%2Fauth0%7C64f0%2Fa.ndjson", kind="UPDATE", content=b"new")
    files = [file for file in tmp_path.rglob("*") if file.is_file() and file.name != ".log"]
    assert files == [place]
    assert place.read_bytes() == b"new"

    await stack.ask("DELETE", "/files/healthkit%2Fraw%2Fauth0%7C64f0%2Fa.ndjson")
    assert not place.exists()


async def dump_state(stack):
    """Return everything that a reader can see, including the open transaction."""
    await stack.switch(open_listing="listed")
    transactions = (await stack.ask("GET", "/transactions", preview="true")).json["data"]
    files = (await stack.ask("GET", "/files")).json["data"]
    contents = [(await stack.ask("GET", f"/files/{each['path']}/content")).body for each in files]
    branch = (await stack.ask("GET", "/branches/master")).json
    in_open = await stack.list_paths(
        startTransactionRid=branch["transactionRid"], endTransactionRid=branch["transactionRid"]
    )
    return transactions, files, contents, branch, in_open


async def make_history(stack):
    """Make one transaction of every kind and leave the last one open."""
    await stack.commit("a", "b")
    await stack.commit("b", kind="UPDATE", content=b"new")
    await stack.end(await stack.begin(), "abort")
    await stack.ask("DELETE", "/files/a")
    rid = await stack.begin()
    await stack.put(rid, "/files/open")
    return rid


@pytest.mark.parametrize(
    "torn",
    [
        pytest.param(b"", id="whole"),
        pytest.param(b'{"do":"comm', id="torn"),
        pytest.param(b'{"do":"abort","rid":"ri.foundry.main.transaction.1"}', id="no line end"),
    ],
)
async def test_after_a_restart_everything_is_as_it_was(tmp_path, torn):
    async with open_caller(tmp_path) as stack:
        rid = await make_history(stack)
        before = await dump_state(stack)
    with (tmp_path / ".log").open("ab") as log:
        log.write(torn)

    async with open_caller(tmp_path) as stack:
        assert await dump_state(stack) == before
        assert (await stack.put(rid, "/files/later")).status == 200
        assert (await stack.end(rid)).status == 200
        after = await dump_state(stack)
    assert [file["path"] for file in after[1]] == ["b", "later", "open"]

    async with open_caller(tmp_path) as stack:
        assert await dump_state(stack) == after


async def test_an_update_replaces_a_file_at_its_commit_and_not_before(tmp_path):
    old, new = b"old", b"a new one"
    async with open_caller(tmp_path) as stack:
        first = await stack.commit("a", "b", content=old)
        rid = await stack.begin("UPDATE")
        await stack.put(rid, "/files/a", new)
        assert await read_view(stack) == {"a": (first, old), "b": (first, old)}
    async with open_caller(tmp_path) as stack:
        assert await read_view(stack) == {"a": (first, old), "b": (first, old)}
        await stack.end(rid)
        assert await read_view(stack) == {"a": (rid, new), "b": (first, old)}
    async with open_caller(tmp_path) as stack:
        assert await read_view(stack) == {"a": (rid, new), "b": (first, old)}
        assert await stack.list_paths(startTransactionRid=rid, endTransactionRid=rid) == ["a"]
    assert (tmp_path / DATASET / "master" / "a").read_bytes() == new


async def test_an_update_that_is_aborted_replaces_nothing(tmp_path):
    async with open_caller(tmp_path) as stack:
        first = await stack.commit("a")
        rid = await stack.begin("UPDATE")
        await stack.put(rid, "/files/a", b"new")
        await stack.end(rid, "abort")
        assert await read_view(stack) == {"a": (first, ROWS)}
    async with open_caller(tmp_path) as stack:
        assert await read_view(stack) == {"a": (first, ROWS)}


async def read_view(stack):
    """Return path -> (transaction, content), and check the listed sizes."""
    found = {}
    for file in await stack.list_files():
        content = (await stack.ask("GET", f"/files/{file['path']}/content")).body
        assert file["sizeBytes"] == str(len(content))
        found[file["path"]] = (file["transactionRid"], content)
    return found


async def test_a_kill_behind_a_commit_is_made_up_for_at_the_next_start(tmp_path):
    async with open_caller(tmp_path) as stack:
        rid = await stack.begin()
        await stack.put(rid, "/files/a")
    line = {"do": "commit", "rid": rid, "at": "2026-01-02T12:00:00.000Z"}
    with (tmp_path / ".log").open("ab") as log:
        log.write(msgspec.json.encode(line) + b"\n")
    assert not (tmp_path / DATASET).exists()

    async with open_caller(tmp_path) as stack:
        assert await stack.fetch_status(rid) == "COMMITTED"
        assert (await stack.ask("GET", "/files/a/content")).body == ROWS
    assert (tmp_path / DATASET / "master" / "a").read_bytes() == ROWS
