"""Behaviours that Foundry's documentation leaves open, each as a client observes it over HTTP."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import pytest

from atlas.local.foundry import Behaviour
from atlas.local.foundry.state import DATASET
from tests.local.caller import A_FILE, HOME, ROWS, error, open_caller

PAIRS = Behaviour.list_pairs()


async def see_open_listing(stack):
    rid = await stack.begin()
    await stack.put(rid)
    answer = await stack.ask("GET", "/files", startTransactionRid=rid, endTransactionRid=rid)
    if answer.status != 200:
        return error(answer)
    return 200, [file["path"] for file in answer.json["data"]]


async def see_file_exists(stack):
    rid = await stack.begin()
    await stack.put(rid)
    answer = await stack.put(rid, content=b"again")
    return error(answer) if answer.status != 200 else (200, answer.json["sizeBytes"])


async def see_path_taken(stack):
    """Return the statuses of put and commit of an existing path, and its content afterwards."""
    await stack.commit("a")
    rid = await stack.begin()
    put = await stack.put(rid, "/files/a", b"other")
    end = await stack.end(rid)
    return put.status, end.status, (await stack.ask("GET", "/files/a/content")).body


async def see_end_answer(stack):
    ends = [await stack.end(await stack.begin(), how) for how in ("commit", "abort")]
    assert [each.status for each in ends] == [ends[0].status] * 2
    return ends[0].status, *(each.body and each.json["status"] for each in ends)


async def see_head_after_abort(stack):
    names = {await stack.commit("a"): "previous"}
    aborted = await stack.begin()
    await stack.end(aborted, "abort")
    names[aborted] = "aborted"
    branch = (await stack.ask("GET", "/branches/master")).json
    return names[branch["transactionRid"]] if "transactionRid" in branch else "absent"


async def see_clock_skew(stack):
    answer = await stack.ask("POST", "/transactions", {"transactionType": "APPEND"})
    created = datetime.fromisoformat(answer.json["createdTime"])
    ahead = created - parsedate_to_datetime(answer.headers["Date"])
    return round(ahead.total_seconds() / 5) * 5  # the Date header has whole seconds


async def see_date_header(stack):
    answers = [
        await stack.ask("GET", "/files"),
        await stack.ask("GET", "/files/none"),
        await stack.ask("GET", "/api/v2/nothing"),
        await stack.ask("POST", "/stand-in/settings", {"colour": "red"}),
    ]
    assert [each.status for each in answers] == [200, 404, 404, 400]
    return {"Date" in each.headers for each in answers}


async def see_expires_in(stack):
    return (await stack.ask_token()).json["expires_in"]


async def see_sizes(stack):
    file = (await stack.put(rid := await stack.begin())).json
    await stack.end(rid)
    (listed,) = (await stack.ask("GET", "/files")).json["data"]
    assert (await stack.ask("GET", A_FILE)).json == listed == file
    return file["sizeBytes"]


async def see_content_bytes_max(stack):
    rid = await stack.begin()
    await stack.put(rid, "/files/at", b"x" * 1_000)
    await stack.put(rid, "/files/above", b"x" * 1_001)
    await stack.end(rid)
    assert (await stack.ask("GET", "/files/at/content")).body == b"x" * 1_000
    answer = await stack.ask("GET", "/files/above/content")
    if answer.status == 200:
        return 200, len(answer.body)
    sizes = {
        name: answer.json["parameters"][name] for name in ("fileSizeBytes", "maxFileSizeBytes")
    }
    return error(answer), sizes


async def see_redirect(stack):
    answer = await stack.ask("GET", "/files/a%2Fb", allow_redirects=False, pageSize="1")
    return answer.status, answer.headers.get("Location")


async def see_repeated_end(stack):
    seen = set()
    for first in ("commit", "abort"):
        await stack.end(rid := await stack.begin(), first)
        for second in ("commit", "abort"):
            answer = await stack.end(rid, second)
            seen.add((*error(answer), "transactionStatus" in answer.json["parameters"]))
    (answer,) = seen
    return answer


async def see_busy(stack):
    await stack.begin()
    return error(await stack.ask("POST", "/transactions", {"transactionType": "APPEND"}))


async def see_schema_service(stack):
    path = f"/foundry-metadata/api/schemas/datasets/{DATASET}/branches/master"
    answer = await stack.ask("GET", path, allow_redirects=False)
    if answer.status == 403:
        return error(answer)
    return answer.status, answer.body, answer.headers.get("Location")


SIGHTS = {
    "open_listing": (
        see_open_listing,
        {
            "empty": (200, []),
            "listed": (200, ["a/b.ndjson"]),
            "not_found": (404, "TransactionNotFound"),
            "not_committed": (400, "TransactionNotCommitted"),
        },
    ),
    "file_exists": (
        see_file_exists,
        {
            404: (404, "FileAlreadyExists"),
            409: (409, "FileAlreadyExists"),
            400: (400, "FileAlreadyExists"),
            "overwrites": (200, "5"),
        },
    ),
    "path_taken": (
        see_path_taken,
        {
            "commit": (200, 400, ROWS),
            "upload": (404, 200, ROWS),
            "never": (200, 200, b"other"),
        },
    ),
    "end_answer": (
        see_end_answer,
        {
            "transaction": (200, "COMMITTED", "ABORTED"),
            "no_content": (204, b"", b""),
            "empty": (200, b"", b""),
        },
    ),
    "head_after_abort": (
        see_head_after_abort,
        {"previous": "previous", "none": "absent", "aborted": "aborted"},
    ),
    "clock_skew_seconds": (see_clock_skew, {0.0: 0, -5.0: -5, 5.0: 5}),
    "date_header": (see_date_header, {True: {True}, False: {False}}),
    "expires_in": (see_expires_in, {"number": 3600, "text": "3600"}),
    "sizes": (see_sizes, {"text": str(len(ROWS)), "number": len(ROWS)}),
    "content_bytes_max": (
        see_content_bytes_max,
        {
            0: (200, 1_001),
            1_000: (
                (400, "FileSizeLimitExceeded"),
                {"fileSizeBytes": "1001", "maxFileSizeBytes": "1000"},
            ),
        },
    ),
    "redirect": (
        see_redirect,
        {
            False: (404, None),
            True: (307, f"https://elsewhere.invalid{HOME}/files/a%2Fb?pageSize=1"),
        },
    ),
    "repeated_end": (
        see_repeated_end,
        {
            "not_open": (400, "TransactionNotOpen", True),
            "not_open_without_status": (400, "TransactionNotOpen", False),
            "not_found": (404, "TransactionNotFound", False),
            "conflict": (409, "TransactionClosed", False),
        },
    ),
    "busy": (
        see_busy,
        {
            "named": (409, "OpenTransactionAlreadyExists"),
            "unnamed": (409, "TransactionInProgress"),
            "bad_request": (400, "OpenTransactionAlreadyExists"),
        },
    ),
    "schema_service": (
        see_schema_service,
        {
            "open": (204, b"", None),
            "absent": (404, b"", None),
            "forbidden": (403, "Default:PermissionDenied"),
            "not_allowed": (405, b"", None),
            "login": (302, b"", "https://login.invalid/"),
            "page": (200, b"<html>Sign in</html>", None),
        },
    ),
}


@pytest.mark.parametrize(("mode", "value"), PAIRS)
async def test_a_client_sees_each_value_of_each_mode(tmp_path, mode, value):
    see, sights = SIGHTS[mode]
    async with open_caller(tmp_path, clock=whole_seconds) as stack:
        await stack.switch(**{mode: value})

        assert await see(stack) == sights[value]


def whole_seconds():
    return datetime.now(UTC).replace(microsecond=0)


def test_no_other_value_can_be_seen():
    assert [(mode, value) for mode, (_, values) in SIGHTS.items() for value in values] == PAIRS
