"""Paths that the Foundry emulator is configured to reject."""

import pytest

from tests.local.caller import A_FILE, HOME, ROWS, error

ADAS = "/files/healthkit%2Fraw%2Fauth0%7Cada%2F1.ndjson"


async def test_by_default_no_path_is_refused(stack):
    assert (await stack.switch()).json["refusals"] == []


@pytest.mark.parametrize(
    "text", ["auth0|ada", "healthkit/raw/", "1.ndjson", "healthkit/raw/auth0|ada/1.ndjson"]
)
async def test_an_upload_is_refused_by_a_path_a_folder_or_a_user(stack, text):
    await stack.switch(refusals=[{"contains": text}])
    rid = await stack.begin()
    answer = await stack.put(rid, ADAS)

    assert error(answer) == (400, "InvalidFilePath")
    assert answer.json["parameters"] == {"filePath": "healthkit/raw/auth0|ada/1.ndjson"}
    assert (await stack.put(rid)).status == 200


async def test_a_refused_upload_leaves_the_transaction_as_it_was(stack):
    await stack.switch(refusals=[{"contains": "ada"}])
    rid = await stack.begin()
    await stack.put(rid)
    await stack.put(rid, ADAS)

    assert await stack.fetch_status(rid) == "OPEN"
    assert (await stack.end(rid)).status == 200
    assert await stack.list_paths() == ["a/b.ndjson"]


async def test_a_refused_commit_leaves_the_transaction_open(stack):
    refusal = {"contains": "ada", "at": "commit", "status": 403, "name": "Denied"}
    await stack.switch(refusals=[refusal])
    rid = await stack.begin()
    assert (await stack.put(rid, ADAS)).status == 200

    assert error(await stack.end(rid)) == (403, "Denied")
    assert await stack.fetch_status(rid) == "OPEN"
    assert await stack.list_paths() == []
    assert (await stack.end(rid, "abort")).status == 200
    await stack.commit("others")


@pytest.mark.parametrize("at", ["upload", "commit"])
@pytest.mark.parametrize("status", [429, 503, 500])
async def test_a_refusal_can_have_any_status_with_the_body_that_foundry_gives_it(stack, at, status):
    await stack.switch(refusals=[{"contains": "", "at": at, "status": status, "name": "Busy"}])
    rid = await stack.begin()
    answers = {"upload": await stack.put(rid), "commit": await stack.end(rid)}

    assert answers[at].status == status
    assert (answers[at].body == b"") == (status != 500)


@pytest.mark.parametrize("at", ["upload", "commit"])
async def test_an_upload_in_one_call_that_is_refused_leaves_nothing_open(stack, at):
    await stack.switch(refusals=[{"contains": "a", "at": at}])

    assert error(await stack.ask("POST", A_FILE + "/upload", ROWS)) == (400, "InvalidFilePath")
    assert await stack.list_paths() == []
    assert await stack.begin()


async def test_a_refusal_that_is_lifted_refuses_no_more(stack):
    await stack.switch(refusals=[{"contains": "ada"}, {"contains": "bob"}])
    rid = await stack.begin()
    assert (await stack.put(rid, ADAS)).status == 400
    await stack.switch(refusals=[])

    assert (await stack.put(rid, ADAS)).status == 200
    assert (await stack.put(rid, "/files/bob")).status == 200


async def test_somebody_else_is_not_refused(stack):
    await stack.switch(refusals=[{"contains": "a"}, {"contains": "a", "at": "commit"}])
    wish = {"files": {"a": "text"}}
    theirs = (await stack.ask("POST", "/stand-in/foreign", wish)).json

    assert (await stack.ask("POST", f"/stand-in/transactions/{theirs['rid']}/commit")).status == 200
    assert (await stack.ask("GET", f"{HOME}/files/a/content")).body == b"text"


@pytest.mark.parametrize(
    ("refusal", "named"),
    [
        pytest.param({"contains": "a", "at": "download"}, "download", id="no such moment"),
        pytest.param(
            {"contains": "a", "status": 200}, "status", id="a status that refuses nothing"
        ),
        pytest.param({"contains": "a", "why": "so"}, "why", id="no such field"),
        pytest.param({"at": "upload"}, "contains", id="of no path"),
    ],
)
async def test_a_wrong_refusal_is_named_and_refuses_nothing(stack, refusal, named):
    answer = await stack.switch(refusals=[refusal])

    assert answer.status == 400
    assert named in answer.body.decode()
    assert stack.foundry.options.refusals == ()
