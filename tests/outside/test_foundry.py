"""The Foundry client against the emulator over real HTTP: answers, errors and timeouts.

The contract of every Branch is tested in tests/test_ports.py; this covers the client alone.
"""

import re
import time
from contextlib import asynccontextmanager, suppress
from functools import partial

import anyio
import msgspec
import pytest

from atlas import __version__
from atlas.core.errors import (
    BranchBusy,
    CommitRefused,
    ContentTooLarge,
    FileInvalid,
    FileRefused,
    FileSpoiled,
    FoundryError,
    PathTaken,
    TransactionEnded,
    Unavailable,
)
from atlas.core.events import FoundryCalled, FoundryTokenFetched, FoundryTokenRefused
from atlas.core.messages import BranchSnapshot
from atlas.local.foundry import FoundryEmulator, build_application
from atlas.local.foundry.state import DATASET
from atlas.outside.foundry import (
    CallLimits,
    Credentials,
    FoundryTarget,
    open_dataset,
)
from atlas.outside.foundry.client import InternalError, TransientError, retry_delay
from tests.conftest import EventRecorder
from tests.support.exports import NOON
from tests.support.fakes import at_once
from tests.support.foundry_client import (
    A_BRANCH,
    INSTANCE,
    OUR_TIME,
    Stack,
    answered,
    error,
    hours,
    serving,
)

PATH, OTHER = "healthkit/raw/ada/a.ndjson", "healthkit/raw/ada/b.ndjson"
ROWS = b'{"uuid":"a"}\n'
SECRET = "local-secret"


@asynccontextmanager
async def open_stack(
    folder,
    seconds=30.0,
    secret=SECRET,
    elsewhere="",
    branches=("master",),
    sleep=at_once,
    **place,
):
    foundry, seen, heard = FoundryEmulator(folder, branches=branches), EventRecorder(), []
    async with serving(build_application(foundry), heard) as host:
        there = {"host": host + elsewhere, "dataset_rid": DATASET, "branch": "master"} | place
        client = Credentials(f"{host}/multipass/api/oauth2/token", "local", secret)
        async with open_dataset(
            FoundryTarget(**there),
            client,
            CallLimits(8, 10_000, seconds),
            seen.watch,
            lambda: OUR_TIME,
            hours(),
            lambda: 0.0,
            sleep,
        ) as dataset:
            yield Stack(dataset, foundry, seen, heard)


def call_deadline(fault) -> float:
    """Return the timeout of a call in seconds: short only for faults that run into it."""
    return 0.5 if fault.get("how") == "silence" else 30.0


async def call_concurrently(call, times=20):
    async with anyio.create_task_group() as many:
        for _ in range(times):
            many.start_soon(call)


# The token


async def test_a_token_is_fetched_once_for_all_who_ask_at_once(tmp_path):
    async with open_stack(tmp_path) as stack:
        await call_concurrently(stack.dataset.take_snapshot)
        await stack.dataset.take_snapshot()

        assert stack.asked("/token") == 1
        assert stack.asked("/branches/master") == 21
        assert stack.seen.of(FoundryTokenFetched) == [FoundryTokenFetched(3600)]


async def test_a_token_is_asked_for_as_multipass_wants_it(tmp_path):
    async with open_stack(tmp_path) as stack:
        await stack.dataset.take_snapshot()
        (request,) = stack.requests("/token")

    assert request.content_type == "application/x-www-form-urlencoded"
    assert dict(await request.post()) == {
        "grant_type": "client_credentials",
        "client_id": "local",
        "client_secret": SECRET,
        "scope": "api:datasets-read api:datasets-write",
    }


@pytest.mark.parametrize(
    ("lasts", "left", "fetches"),
    [
        pytest.param(3600, 70, 1, id="more than a minute left"),
        pytest.param(3600, 50, 2, id="less than a minute left"),
        pytest.param(20, 15, 1, id="more than half of a short life left"),
        pytest.param(20, 5, 2, id="less than half of a short life left"),
    ],
)
async def test_a_token_is_fetched_again_a_while_before_it_expires(lasts, left, fetches):
    def issue_aged_token(_request):
        """Issue a token that seems old already: authlib trusts `expires_at` if it is present."""
        at = int(time.time()) + left
        return {"body": b'{"access_token":"t","expires_in":%d,"expires_at":%d}' % (lasts, at)}

    async with answered(token=issue_aged_token) as stack:
        await stack.dataset.take_snapshot()
        await stack.dataset.take_snapshot()

        assert stack.asked("/token") == fetches


@pytest.mark.parametrize(
    ("expires_in", "seconds"),
    [
        pytest.param(b'"3600"', 3600, id="as in the documentation"),
        pytest.param(b"3600", 3600, id="as in the SDK"),
        pytest.param(b"3599.5", 3599, id="a fraction"),
        pytest.param(b"null", 0, id="not told"),
        pytest.param(b'"soon"', 0, id="rubbish"),
        pytest.param(b"[1]", 0, id="another type"),
        pytest.param(b"-1", 0, id="negative"),
        pytest.param(b"true", 0, id="a truth"),
        pytest.param(b"1e300", 0, id="absurd"),
    ],
)
async def test_how_long_a_token_lasts_may_be_told_as_text(expires_in, seconds):
    token = {"body": b'{"access_token":"t","expires_in":%s}' % expires_in}
    async with answered(token=token) as stack:
        await call_concurrently(stack.dataset.take_snapshot)

        assert stack.asked("/token") == 1
        assert stack.seen.of(FoundryTokenFetched) == [FoundryTokenFetched(seconds)]


async def test_a_token_that_is_revoked_is_fetched_once_more_for_all(tmp_path):
    async with open_stack(tmp_path) as stack:
        await stack.dataset.take_snapshot()
        stack.foundry.revoke_tokens()
        await call_concurrently(stack.dataset.take_snapshot)

        assert stack.asked("/token") == 2
        assert stack.asked("/branches/master") <= 1 + 20 + 20


async def test_whoever_hears_late_that_his_token_was_revoked_takes_the_new_one(tmp_path):
    async with open_stack(tmp_path) as stack, anyio.create_task_group() as late:
        await stack.dataset.take_snapshot()
        stack.fault("list", "latency", seconds=0.05)
        late.start_soon(
            stack.dataset.list_transaction_files,
            stack.foundry.branches.begin(DATASET, "master", "APPEND").rid,
        )
        while not stack.asked("/files"):
            await anyio.sleep(0.001)
        stack.foundry.revoke_tokens()
        await stack.dataset.take_snapshot()

    assert stack.asked("/files") == 2
    assert stack.asked("/token") == 2


async def test_a_call_with_a_revoked_token_is_repeated_once_whatever_it_is(tmp_path):
    async with open_stack(tmp_path) as stack:
        await stack.dataset.take_snapshot()
        stack.foundry.revoke_tokens()
        rid = await stack.dataset.begin()
        stack.foundry.revoke_tokens()
        await stack.dataset.put(rid, PATH, ROWS)
        stack.foundry.revoke_tokens()
        await stack.dataset.commit(rid)

        assert stack.states() == ["COMMITTED"]
        assert stack.files() == {PATH: ROWS}
        assert stack.asked("/token") == 4
        assert stack.asked("/transactions") == stack.asked("/upload") == stack.asked("/commit") == 2


async def test_a_token_that_is_never_taken_is_trouble_and_no_endless_loop(tmp_path):
    async with open_stack(tmp_path) as stack:
        stack.foundry.options.token_seconds = 0
        with pytest.raises(FoundryError, match="rejects the token"):
            await stack.dataset.take_snapshot()

        assert stack.asked("/branches/master") == 2


async def test_a_wrong_secret_says_which_settings_to_look_at(tmp_path):
    async with open_stack(tmp_path, secret="WRONG-SECRET") as stack:
        with pytest.raises(
            FoundryError, match="FOUNDRY_CLIENT_ID and FOUNDRY_CLIENT_SECRET"
        ) as caught:
            await stack.dataset.take_snapshot()

    assert "WRONG-SECRET" not in str(caught.value)
    assert stack.asked("/token") == 1


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        pytest.param({"kind": "refused", "how": "cut"}, "FOUNDRY_OAUTH_TOKEN_URL", id="cut"),
        pytest.param({"kind": "torn"}, "FOUNDRY_OAUTH_TOKEN_URL", id="torn"),
        pytest.param(
            {"kind": "refused", "how": "silence", "seconds": 60},
            "down or busy, or FOUNDRY_OAUTH_TOKEN_URL",
            id="silence",
        ),
        pytest.param({"kind": "html"}, "answers 502: .*down or busy", id="HTML"),
        pytest.param({"kind": "status", "status": 503}, "answers 503: .*down or busy", id="503"),
        pytest.param({"kind": "status", "status": 429}, "answers 429: .*down or busy", id="429"),
        pytest.param({"kind": "status", "status": 404}, "FOUNDRY_OAUTH_TOKEN_URL", id="404"),
        pytest.param({"kind": "rubbish"}, "200 without a token", id="rubbish"),
    ],
)
async def test_a_token_endpoint_in_trouble_is_named(tmp_path, fault, words):
    async with open_stack(tmp_path, seconds=call_deadline(fault)) as stack:
        stack.fault("token", **fault)
        with anyio.fail_after(10), pytest.raises(FoundryError, match="token endpoint.*" + words):
            await stack.dataset.take_snapshot()

        assert (await stack.dataset.take_snapshot()).head == ""


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b"{}",
        b'{"access_token": 7}',
        b'{"access_token": null, "expires_in": 3600}',
        b'{"access_token": "\xff"}',
        b'{"access_token": "two\\nlines"}',
        b'{"access_token": ' + b"[" * 5_000 + b"]" * 5_000 + b"}",
    ],
    ids=lambda body: body[:30].decode(errors="replace"),
)
async def test_what_is_no_token_is_trouble_and_no_crash(body):
    async with answered(token={"body": body}) as stack:
        with pytest.raises(FoundryError, match="200 without a token"):
            await stack.dataset.take_snapshot()


# Requests


async def test_a_large_file_is_sent_with_its_length_and_arrives_whole(tmp_path):
    large = ROWS * 30_000
    async with open_stack(tmp_path) as stack:
        rid = await stack.dataset.begin()
        is_confirmed = await stack.dataset.put(rid, PATH, large)
        await stack.dataset.commit(rid)
        content = await stack.dataset.read_file(PATH, len(large))
        headers = stack.requests("/upload")[0].headers

    assert is_confirmed
    assert content == large
    assert headers["Content-Length"] == str(len(large))


async def test_every_call_has_the_headers_that_foundry_wants(tmp_path):
    async with open_stack(tmp_path) as stack:
        rid = await stack.dataset.begin()
        await stack.dataset.put(rid, PATH, ROWS)
        await stack.dataset.commit(rid)
        create, upload, commit = (
            stack.requests(ending)[0].headers for ending in ("/transactions", "/upload", "/commit")
        )

    assert create["Content-Type"] == "application/json"
    assert upload["Content-Type"] == "application/x-ndjson"
    assert upload["Content-Length"] == str(len(ROWS))
    assert "Content-Type" not in commit
    traces = set()
    for headers in (create, upload, commit):
        assert headers["Authorization"].startswith("Bearer ")
        assert headers["User-Agent"] == f"atlas/{__version__}"
        assert headers["X-B3-Sampled"] == "1"
        assert re.fullmatch("[0-9a-f]{16}", headers["X-B3-SpanId"])
        assert re.fullmatch("[0-9a-f]{32}", headers["X-B3-TraceId"])
        traces.add(headers["X-B3-TraceId"])
    assert len(traces) == 3


async def test_ndjson_goes_as_octets_when_foundry_wants_that_and_that_is_remembered(tmp_path):
    async with open_stack(tmp_path) as stack:
        stack.foundry.options.is_strict_about_types = True
        rid = await stack.dataset.begin()
        await stack.dataset.put(rid, PATH, ROWS)
        await stack.dataset.put(rid, OTHER, ROWS)
        kinds = [request.headers["Content-Type"] for request in stack.requests("/upload")]

    assert kinds == ["application/x-ndjson"] + ["application/octet-stream"] * 2


@pytest.mark.parametrize(
    "name",
    [
        "auth0|64f0/2026-01-02T12-00-00-000Z.ndjson",
        "100%/a.ndjson",
        "%C3%A9%2F..%2F/a.ndjson",
        "with space/and more.ndjson",
        "é/ü/⌚.ndjson",
        "a+b&c=d?e#f;g/a.ndjson",
        "~0123/{curly}/a.ndjson",
        "...",
    ],
)
async def test_a_path_arrives_as_one_segment_and_as_it_is(tmp_path, name):
    path = f"healthkit/raw/{name}"
    async with open_stack(tmp_path) as stack:
        rid = await stack.dataset.begin()
        await stack.dataset.put(rid, path + "2", b"longer than the other")
        stack.fault("upload", "lost")  # so the file is also looked up by its path
        await stack.dataset.put(rid, path, ROWS)
        await stack.dataset.commit(rid)

        assert stack.files()[path] == ROWS
        assert await stack.dataset.list_transaction_files(rid) == {path: len(ROWS), path + "2": 21}
        assert (await stack.dataset.find_file(path)).transaction == rid
        assert await stack.dataset.read_file(path, len(ROWS)) == ROWS
        uploads = stack.requests("/upload")
        home = f"/api/v2/datasets/{DATASET}/files/"
        assert {request.raw_path.removeprefix(home).count("/") for request in uploads} == {1}


async def test_a_branch_with_a_slash_is_one_segment_too(tmp_path):
    name = "feature/a b"
    async with open_stack(tmp_path, branch=name, branches=(name,)) as stack:
        rid = await stack.dataset.begin()

        assert (await stack.dataset.take_snapshot()).head == rid


async def test_the_files_of_a_transaction_come_page_by_page_of_whatever_length():
    def page(request):
        token = int(request.query.get("pageToken", "0"))
        files = [{"path": f"{n}", "transactionRid": "t", "sizeBytes": f"{n}"} for n in range(token)]
        more = {"nextPageToken": str(token + 1)} if token < 3 else {}
        return {"body": msgspec.json.encode({"data": files} | more)}

    async with answered(page) as stack:
        assert await stack.dataset.list_transaction_files("t") == {"0": 0, "1": 1, "2": 2}
        assert stack.asked("/files") == 4


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_neither_a_token_nor_a_secret_follows_a_redirect(status):
    elsewhere = {"status": status, "headers": {"Location": "/elsewhere"}}
    async with answered(elsewhere) as stack:
        with pytest.raises(FoundryError, match=r"FOUNDRY_HOST redirects \(\d+\),") as caught:
            await stack.dataset.take_snapshot()
        assert stack.asked("/elsewhere") == 0
        assert stack.asked("/master") == 1
        assert "Set FOUNDRY_HOST to" in caught.value.remedy
    async with answered(token=elsewhere) as stack:
        with pytest.raises(FoundryError, match="FOUNDRY_OAUTH_TOKEN_URL redirects"):
            await stack.dataset.take_snapshot()
        assert stack.asked("/elsewhere") == 0


@pytest.mark.parametrize(
    ("location", "host"),
    [
        ("https://login.example.com/OWN-WORDS?OWN-WORDS", " to login.example.com,"),
        ("https://user:OWN-WORDS@login.example.com:8443/", " to login.example.com,"),
        ("https://OWN_WORDS!/", ","),
        ("https://[bad", ","),
        ("OWN-WORDS", ","),
        ("", ","),
    ],
)
async def test_a_redirect_tells_the_host_that_it_leads_to_and_nothing_else(location, host):
    async with answered({"status": 302, "headers": {"Location": location}}) as stack:
        with pytest.raises(FoundryError) as caught:
            await stack.dataset.take_snapshot()

    assert f"redirects (302){host}" in str(caught.value)
    assert "OWN" not in f"{caught.value} {caught.value.remedy}"


@pytest.mark.parametrize("host", ["http://no..host", "http://127.0.0.1:1", "http://a b"])
async def test_a_host_that_cannot_be_reached_is_trouble_and_no_crash(tmp_path, host):
    async with open_stack(tmp_path, host=host) as stack:
        for call in CALLS.values():
            with pytest.raises(FoundryError):
                await call(stack.dataset)


# Faults and retries


@pytest.mark.parametrize(
    ("call", "ending", "ask"),
    [
        pytest.param("branch", "/master", lambda of, rid: of.take_snapshot(), id="branch_snapshot"),
        pytest.param("upload", "/upload", lambda of, rid: of.put(rid, OTHER, ROWS), id="put"),
        pytest.param("commit", "/commit", lambda of, rid: of.commit(rid), id="commit"),
        pytest.param("abort", "/abort", lambda of, rid: of.abort(rid), id="abort"),
        pytest.param(
            "list", "/files", lambda of, rid: of.list_transaction_files(rid), id="files_of"
        ),
        pytest.param("file", "/a.ndjson", lambda of, rid: of.find_file(PATH), id="file_at"),
        pytest.param("content", "/content", lambda of, rid: of.read_file(PATH, 0), id="content"),
    ],
)
async def test_what_is_harmless_to_ask_twice_is_asked_until_it_is_answered(
    tmp_path, call, ending, ask
):
    async with open_stack(tmp_path) as stack:
        first = await stack.dataset.begin()
        await stack.dataset.put(first, PATH, ROWS)
        await stack.dataset.commit(first)
        rid = await stack.dataset.begin()
        stack.heard.clear()

        stack.fault(call, "status", status=503, count=3)
        await ask(stack.dataset, rid)
        assert stack.asked(ending) == 4

        stack.fault(call, "status", status=503, count=0)
        with pytest.raises(FoundryError, match="overloaded"):
            await ask(stack.dataset, rid)
        assert stack.asked(ending) == 8


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param({"kind": "refused", "how": "cut"}, id="cut before it happens"),
        pytest.param({"kind": "refused", "how": "504"}, id="504 before it happens"),
        pytest.param({"kind": "lost", "how": "cut"}, id="cut after it has happened"),
        pytest.param({"kind": "lost", "how": "504"}, id="504 after it has happened"),
        pytest.param({"kind": "torn"}, id="torn"),
        pytest.param({"kind": "html"}, id="HTML"),
        pytest.param({"kind": "status", "status": 429}, id="429"),
        pytest.param({"kind": "status", "status": 503}, id="503"),
        pytest.param({"kind": "status", "status": 500}, id="500"),
    ],
)
async def test_a_file_is_there_once_and_committed_whatever_befalls_the_calls(tmp_path, fault):
    async with open_stack(tmp_path) as stack:
        rid = await stack.dataset.begin()
        for call in ("upload", "commit", "branch", "get", "list"):
            stack.fault(call, **fault)
        await stack.dataset.put(rid, PATH, ROWS)
        seen = await stack.dataset.commit(rid)

        assert seen.head == rid
        assert (await stack.dataset.take_snapshot()).head == rid
        assert await stack.dataset.transaction_status(rid) == "COMMITTED"
        assert await stack.dataset.list_transaction_files(rid) == {PATH: len(ROWS)}
        assert stack.files() == {PATH: ROWS}


async def test_silence_is_not_waited_for_longer_than_a_call_may_take(tmp_path):
    async with open_stack(tmp_path, seconds=1.0) as stack:
        rid = await stack.dataset.begin()
        for call in ("upload", "commit"):
            stack.fault(call, "lost", how="silence", seconds=60)
        with anyio.fail_after(10):
            await stack.dataset.put(rid, PATH, ROWS)
            await stack.dataset.commit(rid)

        assert stack.asked("/upload") == stack.asked("/commit") == 2
        assert stack.files() == {PATH: ROWS}


async def test_a_large_file_may_take_longer_than_a_small_one(tmp_path):
    async with open_stack(tmp_path, seconds=0.1) as stack:
        rid = stack.foundry.branches.begin(DATASET, "master", "APPEND").rid
        stack.fault("upload", "latency", seconds=0.2, count=0)
        with pytest.raises(FoundryError, match="does not answer"):
            await stack.dataset.put(rid, PATH, ROWS)
        await stack.dataset.put(rid, OTHER, b"x" * 1024 * 1024)  # its timeout is a second longer


@pytest.mark.parametrize(
    ("fault", "has_happened"),
    [
        pytest.param({"kind": "refused", "how": "cut"}, False, id="cut"),
        pytest.param({"kind": "lost", "how": "cut"}, True, id="cut, and it happened"),
        pytest.param({"kind": "lost", "how": "504"}, True, id="504, and it happened"),
        pytest.param(
            {"kind": "lost", "how": "silence", "seconds": 60}, True, id="silence, and it happened"
        ),
        pytest.param({"kind": "torn"}, True, id="torn"),
        pytest.param({"kind": "html"}, False, id="HTML"),
        pytest.param({"kind": "rubbish"}, False, id="rubbish"),
        pytest.param({"kind": "status", "status": 429}, False, id="429"),
        pytest.param({"kind": "status", "status": 503}, False, id="503"),
        pytest.param({"kind": "status", "status": 500}, False, id="500"),
    ],
)
async def test_a_transaction_is_never_begun_twice_by_itself(tmp_path, fault, has_happened):
    async with open_stack(tmp_path, seconds=call_deadline(fault)) as stack:
        stack.fault("create", **fault)
        with anyio.fail_after(10), pytest.raises(FoundryError) as caught:
            await stack.dataset.begin()

        assert not isinstance(caught.value, BranchBusy)
        assert stack.asked("/transactions") == 1
        assert stack.states() == ["OPEN"] * has_happened


async def test_a_busy_branch_is_asked_once_and_left_as_it_is(tmp_path):
    async with open_stack(tmp_path) as stack:
        stack.foundry.branches.begin(DATASET, "master", "APPEND", owner="foreign")
        with pytest.raises(BranchBusy):
            await stack.dataset.begin()

        assert stack.asked("/transactions") == 1
        assert stack.states() == ["OPEN"]


async def test_an_answer_that_is_not_of_its_api_is_taken_for_one_and_not_asked_for_again(tmp_path):
    async with open_stack(tmp_path) as stack:
        stack.fault("branch", "rubbish")
        with pytest.raises(FoundryError, match="does not match its documented API") as caught:
            await stack.dataset.take_snapshot()

        assert stack.asked("/branches/master") == 1
        assert retry_delay(caught.value, 0.0) is None


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("retry_after", "least", "most"),
    [
        pytest.param(None, 0.2, 1.2, id="not told"),
        pytest.param(0, 0, 0, id="at once"),
        pytest.param(7, 7, 7, id="in seven seconds"),
        pytest.param(10, 10, 10, id="in ten seconds"),
    ],
)
async def test_foundry_is_asked_again_when_it_wants_to_be(
    tmp_path, status, retry_after, least, most
):
    waits = []

    async def note(seconds):
        waits.append(seconds)

    async with open_stack(tmp_path, sleep=note) as stack:
        stack.fault("branch", "status", status=status, retry_after=retry_after)
        await stack.dataset.take_snapshot()

    assert len(waits) == 1
    assert least <= waits[0] <= most


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("fault", "seconds"),
    [
        pytest.param({"retry_after": 11}, 11, id="longer than a call waits"),
        pytest.param({"do_not_retry": True}, 10, id="do-not-retry"),
        pytest.param({"retry_after": 86_400}, 900, id="a day is too long"),
        pytest.param({"do_not_retry": True, "retry_after": 3}, 3, id="do-not-retry, and when"),
    ],
)
async def test_what_is_not_to_be_asked_again_soon_is_the_uploaders_to_wait_for(
    tmp_path, status, fault, seconds
):
    async with open_stack(tmp_path) as stack:
        stack.fault("branch", "status", status=status, **fault)
        with pytest.raises(FoundryError, match=f"overloaded \\({status}\\)") as caught:
            await stack.dataset.take_snapshot()

        assert caught.value.retry_seconds == seconds
        assert stack.asked("/branches/master") == 1


# Interpretation of responses


async def test_a_file_that_another_has_put_there_is_not_taken_for_ours(tmp_path):
    async with open_stack(tmp_path) as stack:
        rid = await stack.dataset.begin()
        found = stack.foundry.branches.transactions[rid]
        stack.foundry.branches.put(found, PATH, ROWS)

        with pytest.raises(PathTaken):
            await stack.dataset.put(rid, PATH, ROWS)
        assert stack.asked("/files") == 0


@pytest.mark.parametrize("how", ["cut", "504"])
async def test_a_file_whose_answer_was_lost_is_not_confirmed(tmp_path, how):
    async with open_stack(tmp_path) as stack:
        rid = await stack.dataset.begin()
        assert await stack.dataset.put(rid, OTHER, ROWS)
        stack.fault("upload", "lost", how=how)

        assert not await stack.dataset.put(rid, PATH, ROWS)
        assert stack.asked("/files") == 0


def answer_in_sequence(*answers):
    """Return each answer once, in order, then the last one forever."""
    left = list(answers)
    return lambda _request: left.pop(0) if len(left) > 1 else left[0]


@pytest.mark.parametrize("status", [400, 404, 409])
@pytest.mark.parametrize("unanswered", [0, 1, 3])
async def test_a_path_is_taken_unless_an_earlier_attempt_may_have_put_the_file(status, unanswered):
    answers = [{"status": 504}] * unanswered + [error(status, "FileAlreadyExists")]
    async with answered(answer_in_sequence(*answers)) as stack:
        if unanswered:
            assert not await stack.dataset.put("t", "p", ROWS)
        else:
            with pytest.raises(PathTaken, match="FileAlreadyExists") as caught:
                await stack.dataset.put("t", "p", ROWS)
            assert (caught.value.error_name, caught.value.instance_id) == (
                "FileAlreadyExists",
                INSTANCE,
            )


async def test_an_unanswered_attempt_is_remembered_over_another_content_type():
    answers = {"status": 504}, {"status": 415}, error(404, "FileAlreadyExists")
    async with answered(answer_in_sequence(*answers)) as stack:
        assert not await stack.dataset.put("t", "p.ndjson", ROWS)


@pytest.mark.parametrize(
    ("body", "is_confirmed"),
    [
        pytest.param(b'{"path":"p","transactionRid":"t","sizeBytes":"1"}', True, id="text"),
        pytest.param(b'{"path":"p","transactionRid":"t","sizeBytes":1}', True, id="number"),
        pytest.param(b'{"path":"p","transactionRid":"t"}', False, id="no size"),
        pytest.param(b'{"path":"p","transactionRid":"t","sizeBytes":null}', False, id="null"),
        pytest.param(b'{"path":"q","transactionRid":"t","sizeBytes":"1"}', False, id="path"),
        pytest.param(b'{"path":"p","transactionRid":"u","sizeBytes":"1"}', False, id="transaction"),
        pytest.param(b'{"path":"p","transactionRid":"t","sizeBytes":[1]}', False, id="type"),
        pytest.param(b'{"path":"p","transactionRid":"t","sizeBytes":-1}', False, id="negative"),
        pytest.param(b'{"path":"p","transactionRid":"t","sizeBy', False, id="truncated"),
        pytest.param(b"<html>", False, id="HTML"),
        pytest.param(b"", False, id="empty"),
    ],
)
@pytest.mark.parametrize("status", [200, 201, 202])
async def test_a_file_is_confirmed_by_its_path_and_its_size(body, is_confirmed, status):
    async with answered({"status": status, "body": body}) as stack:
        assert await stack.dataset.put("t", "p", b"1") == is_confirmed


@pytest.mark.parametrize("size", [b'"1"', b"1"])
async def test_a_file_that_is_kept_in_another_size_spoils_the_transaction(size):
    kept = {"body": b'{"path":"p","transactionRid":"t","sizeBytes":%s}' % size}
    async with answered(kept) as stack:
        assert await stack.dataset.put("t", "p", b"1")
        with pytest.raises(FileSpoiled, match="a size other than was sent"):
            await stack.dataset.put("t", "p", b"22")


@pytest.mark.parametrize(
    "answer", [error(413), error(413, "TooLarge"), error(400, "InvalidFilePath")]
)
async def test_a_file_that_is_to_blame_alone_is_invalid(answer):
    async with answered(answer) as stack:
        with pytest.raises(FileInvalid, match=str(answer["status"])):
            await stack.dataset.put("t", "p", ROWS)


@pytest.mark.parametrize(
    "answer",
    [
        *(error(status) for status in (400, 405, 406, 409, 410, 411, 414, 415, 422, 431)),
        error(400, "FileContentRefused"),
        error(404, "FileRejected"),
        error(409, "Conflict"),
        error(422, "InvalidParameterCombination"),
    ],
    ids=lambda answer: f"{answer['status']} {bool(answer['body'])}",
)
async def test_a_file_that_foundry_does_not_take_is_refused(answer):
    async with answered(answer) as stack:
        with pytest.raises(FileRefused, match=str(answer["status"])) as caught:
            await stack.dataset.put("t", "p", ROWS)

    assert not isinstance(caught.value, FileInvalid | FileSpoiled)


@pytest.mark.parametrize(
    "answer",
    [
        *(error(status) for status in (302, 401, 403, 404, 407, 408, 429, 500, 503)),
        error(404, "DatasetNotFound"),
        error(400, "DatasetNotFound"),
        error(404, "BranchNotFound"),
        error(404, "Catalog:BranchesNotFound"),
        error(400, "UploadFilePermissionDenied"),
        error(400, "ApiUsageDenied"),
        error(400, "InvalidTransactionType"),
        error(400, "Default:Unauthorized"),
    ],
    ids=lambda answer: f"{answer['status']} {answer['body'][:40].decode()}",
)
async def test_what_is_not_about_the_file_is_no_fault_of_it(answer):
    async with answered(answer) as stack:
        with pytest.raises(FoundryError) as caught:
            await stack.dataset.put("t", "p", ROWS)

    assert type(caught.value).__mro__[:2] in [
        (FoundryError, Unavailable),
        (TransientError, FoundryError),
        (InternalError, TransientError),
    ]


@pytest.mark.parametrize("name", ["TransactionNotOpen", "TransactionNotFound"])
@pytest.mark.parametrize("status", [400, 404, 409])
async def test_nothing_is_put_into_or_taken_out_by_a_transaction_that_has_ended(status, name):
    async with answered(error(status, name)) as stack:
        with pytest.raises(TransactionEnded):
            await stack.dataset.put("t", "p", ROWS)
        with pytest.raises(TransactionEnded):
            await stack.dataset.remove("t", "p")


async def test_a_file_is_not_there_to_delete_unless_an_earlier_attempt_may_have_deleted_it():
    missing = error(404, "FileNotFoundOnBranch")
    async with answered(missing) as stack:
        assert not await stack.dataset.remove("t", "p")
    async with answered(answer_in_sequence({"status": 504}, missing)) as stack:
        assert await stack.dataset.remove("t", "p")


@pytest.mark.parametrize(
    ("status", "name"),
    [
        *((status, "FileSizeLimitExceeded") for status in (400, 404, 413)),
        (413, "RequestEntityTooLarge"),
    ],
)
async def test_content_that_foundry_does_not_serve_is_too_large(status, name):
    async with answered(error(status, name)) as stack:
        with pytest.raises(ContentTooLarge, match=name):
            await stack.dataset.read_file("p", 1)


async def test_a_commit_whose_answer_was_lost_has_happened(tmp_path):
    async with open_stack(tmp_path) as stack:
        rid = await stack.dataset.begin()
        stack.fault("commit", "lost", count=2)

        assert (await stack.dataset.commit(rid)).head == rid
        assert stack.asked("/commit") == 3
        assert stack.states() == ["COMMITTED"]


async def test_a_transaction_that_somebody_aborts_is_not_committed(tmp_path):
    async with open_stack(tmp_path) as stack:
        rid = await stack.dataset.begin()
        stack.foundry.branches.abort(stack.foundry.branches.transactions[rid])

        with pytest.raises(TransactionEnded):
            await stack.dataset.commit(rid)


async def test_a_commit_is_refused_when_a_path_is_taken_and_can_be_aborted(tmp_path):
    async with open_stack(tmp_path) as stack:
        for _ in range(2):
            rid = await stack.dataset.begin()
            await stack.dataset.put(rid, PATH, ROWS)
            with suppress(CommitRefused):
                await stack.dataset.commit(rid)
        assert stack.states() == ["COMMITTED", "OPEN"]

        await stack.dataset.abort(rid)
        assert stack.states() == ["COMMITTED", "ABORTED"]
        assert stack.foundry.log.violations == []


def transaction_body(status="OPEN", created="2022-10-10T12:23:11.152Z"):
    """Return JSON that is valid both as a transaction and as a branch whose head it is."""
    found = {"rid": "t", "transactionType": "APPEND", "status": status, "createdTime": created}
    return msgspec.json.encode(found | {"name": "master", "transactionRid": "t"})


def answer_by_method(close, get=None):
    """Answer POST (commit or abort) with `close` and GET with `get`."""
    found = {"body": transaction_body("OPEN")} if get is None else get
    return lambda request: close if request.method == "POST" else found


@pytest.mark.parametrize("name", ["FileAlreadyExists", "FileAlreadyExistsInView", "Conflict"])
@pytest.mark.parametrize("status", [400, 404, 409])
async def test_a_commit_is_refused_under_whatever_name_foundry_has_for_it(status, name):
    async with answered(answer_by_method(error(status, name))) as stack:
        with pytest.raises(CommitRefused, match=f"{status} {name}"):
            await stack.dataset.commit("t")
        assert stack.asked("/commit") == 1


@pytest.mark.parametrize(
    "answer",
    [
        *(error(status) for status in (401, 403, 404, 407, 408, 429)),
        error(404, "DatasetNotFound"),
        error(400, "CommitTransactionPermissionDenied"),
        error(400, "ApiUsageDenied"),
    ],
)
async def test_a_commit_is_not_refused_by_what_is_not_about_it(answer):
    async with answered(answer_by_method(answer)) as stack:
        with pytest.raises(FoundryError) as caught:
            await stack.dataset.commit("t")

    assert not isinstance(caught.value, CommitRefused | TransactionEnded)


NOT_TELLING = [
    pytest.param({"status": 204}, id="204"),
    pytest.param({"body": b""}, id="empty"),
    pytest.param({"body": b"<html>"}, id="HTML"),
    pytest.param({"body": transaction_body("CLOSED")}, id="an unknown status"),
    pytest.param({"body": b'{"status":7}'}, id="a status of another type"),
    pytest.param(error(400, "TransactionNotOpen"), id="not open"),
    pytest.param(error(404, "TransactionNotOpen", transactionStatus=7), id="not open, rubbish"),
    pytest.param(error(404, "TransactionNotFound"), id="not found"),
    pytest.param(error(409, "TransactionNotOpen", transactionStatus="OPEN"), id="not open, open"),
]
UNKNOWN = [
    pytest.param(error(409), id="409"),
    pytest.param(error(400, "AlreadyCommitted"), id="an unknown name"),
]


@pytest.mark.parametrize("answer", NOT_TELLING + UNKNOWN)
async def test_a_commit_whose_answer_does_not_tell_is_settled_by_asking(answer):
    async with answered(answer_by_method(answer, {"body": transaction_body("COMMITTED")})) as stack:
        assert (await stack.dataset.commit("t")).head == "t"


@pytest.mark.parametrize(
    ("answer", "raised"),
    [
        *(pytest.param(*each.values, TransactionEnded, id=each.id) for each in NOT_TELLING),
        *(pytest.param(*each.values, CommitRefused, id=each.id) for each in UNKNOWN),
    ],
)
async def test_a_commit_after_which_the_transaction_is_aborted_was_refused_or_came_too_late(
    answer, raised
):
    """If Foundry aborts a transaction that it refuses to commit, a retry would be refused too."""
    for ended in ({"body": transaction_body("ABORTED")}, error(404, "TransactionNotFound")):
        async with answered(answer_by_method(answer, ended)) as stack:
            with pytest.raises(raised):
                await stack.dataset.commit("t")


@pytest.mark.parametrize("answer", NOT_TELLING)
@pytest.mark.parametrize("get", [None, {"body": b"<html>"}, {"status": 503}, error(400, "Odd")])
async def test_a_commit_is_not_taken_for_one_unless_foundry_says_so(answer, get):
    async with answered(answer_by_method(answer, get)) as stack:
        with pytest.raises(FoundryError) as caught:
            await stack.dataset.commit("t")

    assert not isinstance(caught.value, CommitRefused | TransactionEnded)


@pytest.mark.parametrize("answer", NOT_TELLING + UNKNOWN)
async def test_an_abort_whose_answer_does_not_tell_is_settled_by_asking(answer):
    for state in ("ABORTED", "COMMITTED"):
        async with answered(answer_by_method(answer, {"body": transaction_body(state)})) as stack:
            await stack.dataset.abort("t")
    async with answered(answer_by_method(answer, error(404, "TransactionNotFound"))) as stack:
        await stack.dataset.abort("t")
    for get in (None, {"body": b"<html>"}, {"status": 503}, error(403)):
        async with answered(answer_by_method(answer, get)) as stack:
            with pytest.raises(FoundryError):
                await stack.dataset.abort("t")


async def test_what_somebody_has_committed_is_known_by_the_refusal_alone():
    told = error(400, "TransactionNotOpen", transactionStatus="COMMITTED")
    async with answered(
        answer_by_method(told, {"body": b'{"name":"master","transactionRid":"u"}'})
    ) as stack:
        assert (await stack.dataset.commit("t")).head == "u"
        await stack.dataset.abort("t")
        assert stack.asked("/t") == 0


async def test_only_the_first_commit_of_what_we_began_is_the_head_for_certain():
    async with answered({"body": transaction_body("COMMITTED")}) as stack:
        rid = await stack.dataset.begin()
        assert await stack.dataset.commit(rid)
        assert stack.asked("/master") == 0
        assert await stack.dataset.commit(rid)
        assert stack.asked("/master") == 1
    answers = {"body": transaction_body()}, {"status": 504}, {"body": transaction_body("COMMITTED")}
    async with answered(answer_in_sequence(*answers)) as stack:
        assert await stack.dataset.commit(await stack.dataset.begin())
        assert stack.asked("/master") == 1


@pytest.mark.parametrize("status", ["OPEN", "ABORTED"])
async def test_a_commit_that_is_answered_and_has_not_committed_is_trouble(status):
    async with answered({"body": transaction_body(status)}) as stack:
        with pytest.raises(FoundryError, match="not committed") as caught:
            await stack.dataset.commit("t")

    assert isinstance(caught.value, TransactionEnded) == (status == "ABORTED")


async def test_an_abort_that_is_answered_and_has_not_aborted_is_trouble():
    async with answered({"body": transaction_body("OPEN")}) as stack:
        with pytest.raises(FoundryError, match="not aborted"):
            await stack.dataset.abort("t")


CALLS = {
    "branch_snapshot": lambda of: of.take_snapshot(),
    "begin": lambda of: of.begin(),
    "put": lambda of: of.put("t", "p", ROWS),
    "commit": lambda of: of.commit("t"),
    "abort": lambda of: of.abort("t"),
    "transaction_status": lambda of: of.transaction_status("t"),
    "files_of": lambda of: of.list_transaction_files("t"),
    "file_at": lambda of: of.find_file("p"),
    "content": lambda of: of.read_file("p", 0),
    "find_orphan": lambda of: of.find_orphan(BranchSnapshot("another", NOON), []),
}


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param({"text": "It works!"}, id="rubbish"),
        pytest.param({"body": b""}, id="nothing"),
        pytest.param({"body": b"null"}, id="null"),
        pytest.param({"body": b"[]"}, id="no object"),
        pytest.param({"body": b"{}"}, id="nothing in it"),
        pytest.param({"body": b'{"\xff": "\xff"}'}, id="no UTF-8"),
        pytest.param({"body": b'{"x":' + b"[" * 5_000 + b"]" * 5_000 + b"}"}, id="deep"),
        pytest.param(
            {"status": 404, "body": b'{"parameters":{"x":' + b"[" * 5_000 + b"]" * 5_000 + b"}}"},
            id="deep error",
        ),
        pytest.param({"status": 400, "body": b'{"errorName":7}'}, id="error of another kind"),
        pytest.param({"body": transaction_body("PENDING")}, id="a state that nobody knows"),
        pytest.param(
            {"body": transaction_body(created="2022-10-10T12:23:11")},
            id="a time without a zone",
        ),
        pytest.param(
            {"body": b'{"path":"p","transactionRid":"t","sizeBytes":"many"}'}, id="no size"
        ),
        pytest.param(
            {"body": b'{"path":"p","transactionRid":"t","sizeBytes":"' + b"9" * 5_000 + b'"}'},
            id="an absurd size",
        ),
        pytest.param(
            {"body": b'{"data":[{"path":"p","transactionRid":"t","sizeBytes":""}]}'},
            id="no size in a list",
        ),
        pytest.param({"body": b"{}", "headers": {"Date": "yesterday"}}, id="no date"),
        pytest.param(
            {"body": b"{}", "headers": {"Date": "Tue, 24 Nov 99999999999 11:00:00 GMT"}},
            id="an absurd date",
        ),
        pytest.param({"status": 201, "body": b"{}"}, id="201"),
        pytest.param({"status": 204}, id="204"),
        pytest.param({"status": 999}, id="999"),
    ],
)
async def test_an_answer_that_makes_no_sense_is_foundrys_trouble_and_no_crash(answer):
    async with answered(answer) as stack:
        for call in CALLS.values():
            with suppress(FoundryError):
                await call(stack.dataset)


async def test_how_long_to_wait_may_be_told_as_anything(tmp_path):
    now, past = "Wed, 21 Oct 2026 07:28:00 GMT", "Wed, 21 Oct 2026 07:27:59 GMT"
    for told in ("", "soon", "-1", "1.5", "²", now, past, "Wed, 21 Oct 99999 07:28:00 GMT"):
        headers = {"Retry-After": told, "Date": now}
        async with answered({"status": 503, "headers": headers}) as stack:
            with pytest.raises(FoundryError) as caught:
                await stack.dataset.take_snapshot()
            assert caught.value.retry_seconds is None


@pytest.mark.parametrize(
    ("until", "seconds"),
    [("Wed, 21 Oct 2026 07:28:20 GMT", 20), ("Wed, 21 Oct 2026 09:28:00 GMT", 900)],
)
async def test_how_long_to_wait_may_be_told_as_a_date(until, seconds):
    headers = {"Retry-After": until, "Date": "Wed, 21 Oct 2026 07:28:00 GMT"}
    async with answered({"status": 429, "headers": headers}) as stack:
        with pytest.raises(FoundryError) as caught:
            await stack.dataset.take_snapshot()
    assert caught.value.retry_seconds == seconds


# Texts for the operator

NO_ROLE = "may not write to the dataset: give it a role"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        pytest.param(
            "branch_snapshot", "404 DatasetNotFound: .* no role on it", id="branch_snapshot"
        ),
        pytest.param("begin", f"403 CreateTransactionPermissionDenied: .* {NO_ROLE}", id="begin"),
        pytest.param("put", f"403 UploadFilePermissionDenied: .* {NO_ROLE}", id="put"),
        pytest.param("commit", f"403 CommitTransactionPermissionDenied: .* {NO_ROLE}", id="commit"),
        pytest.param("abort", f"403 AbortTransactionPermissionDenied: .* {NO_ROLE}", id="abort"),
    ],
)
async def test_a_client_without_a_role_says_that_it_needs_one(tmp_path, call, words):
    async with open_stack(tmp_path) as stack:
        stack.foundry.options.is_role_revoked = True
        with pytest.raises(FoundryError, match=words) as caught:
            await CALLS[call](stack.dataset)

    assert not isinstance(caught.value, CommitRefused | FileRefused | BranchBusy)


@pytest.mark.parametrize(
    ("place", "words"),
    [
        pytest.param({"dataset_rid": DATASET + "0"}, "does not know the dataset", id="dataset"),
        pytest.param({"branch": "main"}, "is FOUNDRY_BRANCH right", id="branch"),
        pytest.param({"elsewhere": "/elsewhere"}, "is FOUNDRY_HOST right", id="host"),
    ],
)
async def test_what_is_not_there_says_which_setting_to_look_at(tmp_path, place, words):
    async with open_stack(tmp_path, **place) as stack:
        for call in ("branch_snapshot", "begin"):
            with pytest.raises(FoundryError, match=words):
                await CALLS[call](stack.dataset)


async def test_a_client_without_a_scope_says_so():
    denied = b'{"errorName":"ApiUsageDenied","parameters":{"missingScope":"api:datasets-write"}}'
    async with answered({"status": 403, "body": denied}) as stack:
        with pytest.raises(FoundryError, match="lacks a scope"):
            await stack.dataset.begin()


@pytest.mark.parametrize(
    "status", [200, 302, 400, 401, 403, 404, 409, 413, 415, 422, 429, 500, 502]
)
@pytest.mark.parametrize("is_json", [True, False], ids=["JSON", "HTML"])
async def test_an_error_never_tells_a_secret_a_token_or_foundrys_own_words(status, is_json):
    words = b'{"errorName":"OWN-WORDS","parameters":{"OWN-WORDS":"OWN-WORDS"}}'
    answer = {"status": status, "body": words if is_json else b"<html>OWN-WORDS</html>"}
    told = []
    for ends in (partial(answered, answer), partial(answered, token=answer)):
        async with ends() as stack:
            for call in CALLS.values():
                try:
                    await call(stack.dataset)
                except FoundryError as error:
                    told.append(f"{error!s} {error!r} {error.args}")

    assert len(told) >= len(CALLS)
    for each in told:
        assert "OWN-WORDS" not in each
        assert "-VALUE" not in each


@pytest.mark.parametrize("kind", ["refused", "torn"])
async def test_nor_does_an_error_tell_them_when_there_is_no_answer(tmp_path, kind):
    async with open_stack(tmp_path) as stack:
        await stack.dataset.take_snapshot()
        stack.fault("any", kind, count=0)
        told = []
        for call in CALLS.values():
            with pytest.raises(FoundryError, match="does not answer") as caught:
                await call(stack.dataset)
            told.append(f"{caught.value!s} {caught.value!r}")

        (token,) = stack.foundry._tokens
    assert not [each for each in told if token in each or SECRET in each]


# Events about calls


async def test_every_call_is_told_by_what_it_was_for(tmp_path):
    async with open_stack(tmp_path) as stack:
        dataset = stack.dataset
        await dataset.take_snapshot()
        rid = await dataset.begin()
        await dataset.put(rid, PATH, b"{}\n")
        await dataset.commit(rid)
        await dataset.transaction_status(rid)
        await dataset.list_transaction_files(rid)
        await dataset.find_file(PATH)
        await dataset.read_file(PATH, 3)
        await dataset.abort(await dataset.begin())
        calls = stack.seen.of(FoundryCalled)

    assert [call.operation for call in calls] == [
        *("token", "look", "begin", "put", "commit", "transaction", "files", "file", "content"),
        *("begin", "abort"),
    ]
    assert {call.status for call in calls} <= {200, 204}
    assert not any(call.is_retry for call in calls)
    assert all(call.seconds > 0 for call in calls)


async def test_a_call_that_is_made_again_says_so():
    answers = iter([{"status": 503}, {"status": 200, "body": A_BRANCH}])
    async with answered(lambda _request: next(answers)) as stack:
        await stack.dataset.take_snapshot()
        calls = [call for call in stack.seen.of(FoundryCalled) if call.operation == "look"]

    assert [(call.status, call.is_retry) for call in calls] == [(503, False), (200, True)]


async def test_a_token_that_is_refused_is_told_with_what_to_do():
    async with answered(token={"status": 401}) as stack:
        with pytest.raises(FoundryError):
            await stack.dataset.take_snapshot()
        (refused,) = stack.seen.of(FoundryTokenRefused)
        (call,) = stack.seen.of(FoundryCalled)

    assert "are FOUNDRY_CLIENT_ID and FOUNDRY_CLIENT_SECRET right?" in refused.reason
    assert "SECRET-VALUE" not in refused.reason
    assert (call.operation, call.status, call.is_retry) == ("token", 401, False)
