"""Modes of the Foundry emulator: implications, configuration, random draws, documentation."""

import re
from pathlib import Path
from random import Random

import pytest
from msgspec.structs import asdict

from atlas.local import foundry
from atlas.local.foundry import Behaviour
from tests.local.caller import A_FILE, ROWS, error, open_caller

PAIRS = Behaviour.list_pairs()

# Implications of a value


async def test_without_a_mode_everything_is_as_it_is_most_likely(stack):
    assert stack.foundry.behaviour == Behaviour()
    settings = (await stack.switch()).json
    firsts = {mode: values[0] for mode, values in Behaviour.list_values().items()}

    assert {mode: settings[mode] for mode in firsts} == firsts


async def test_a_second_upload_that_replaces_the_first_is_what_a_reader_sees(tmp_path):
    async with open_caller(tmp_path) as stack:
        await stack.switch(file_exists="overwrites")
        rid = await stack.begin()
        for path, content in (("a", b"1"), ("b", b"2"), ("a", b"three"), ("c", b"4"), ("a", b"55")):
            await stack.put(rid, f"/files/{path}", content)
    async with open_caller(tmp_path) as stack:
        await stack.end(rid)

        sizes = {file["path"]: file["sizeBytes"] for file in (await stack.list_files())}
        assert sizes == {"a": "2", "b": "1", "c": "1"}
        for path, content in (("a", b"55"), ("b", b"2"), ("c", b"4")):
            assert (await stack.ask("GET", f"/files/{path}/content")).body == content


@pytest.mark.parametrize(("file_exists", "status"), [(409, 409), (400, 400), ("overwrites", 404)])
async def test_a_taken_path_that_is_refused_at_upload_has_the_status_of_a_file_that_exists(
    stack, file_exists, status
):
    await stack.switch(path_taken="upload", file_exists=file_exists)
    await stack.commit("a")
    rid = await stack.begin()

    assert error(await stack.put(rid, "/files/a")) == (status, "FileAlreadyExists")
    assert (await stack.put(rid, "/files/b")).status == 200
    assert (await stack.end(rid)).status == 200


@pytest.mark.parametrize("path_taken", ["commit", "upload", "never"])
async def test_an_update_of_a_taken_path_is_never_refused(stack, path_taken):
    await stack.switch(path_taken=path_taken)
    await stack.commit("a")
    await stack.commit("a", kind="UPDATE", content=b"new")

    assert (await stack.ask("GET", "/files/a/content")).body == b"new"


@pytest.mark.parametrize("mode", ["none", "aborted"])
async def test_the_head_after_an_abort_lasts_until_the_next_transaction_begins(tmp_path, mode):
    async with open_caller(tmp_path) as stack:
        await stack.end(await stack.begin(), "abort")
    async with open_caller(tmp_path) as stack:
        await stack.switch(head_after_abort=mode)
        before = (await stack.ask("GET", "/branches/master")).json
        rid = await stack.begin()
        assert (await stack.ask("GET", "/branches/master")).json["transactionRid"] == rid
        await stack.end(rid)
        assert (await stack.ask("GET", "/branches/master")).json["transactionRid"] == rid

    assert ("transactionRid" in before) == (mode == "aborted")


async def test_an_open_file_cannot_be_read_where_open_files_are_not_listed(stack):
    rid = await stack.begin()
    await stack.put(rid)
    query = {"startTransactionRid": rid, "endTransactionRid": rid}

    assert error(await stack.ask("GET", A_FILE, **query)) == (404, "FileNotFoundOnBranch")
    await stack.switch(open_listing="listed")
    assert (await stack.ask("GET", A_FILE + "/content", **query)).body == ROWS


async def test_what_is_not_the_api_is_not_redirected(stack):
    await stack.switch(redirect=True)

    assert (await stack.ask_token()).status == 200
    assert (await stack.switch(redirect=False)).status == 200
    assert (await stack.ask("GET", "/files")).status == 200


# Configuration of a mode


@pytest.mark.parametrize(
    ("wish", "named"),
    [
        pytest.param({"colour": "red"}, "colour", id="no such mode"),
        pytest.param({"busy": "very"}, "very", id="no such value"),
        pytest.param({"file_exists": "404"}, "overwrites", id="text for a number"),
        pytest.param({"redirect": "yes"}, "redirect", id="text for a truth"),
        pytest.param({"clock_skew_seconds": 1e9}, "clock_skew_seconds", id="another epoch"),
        pytest.param({"content_bytes_max": -1}, "content_bytes_max", id="less than nothing"),
        pytest.param({"latency_seconds": "long"}, "latency_seconds", id="no number of a switch"),
    ],
)
async def test_a_wrong_mode_or_value_is_named_and_nothing_changes(stack, wish, named):
    answer = await stack.switch(sizes="number", has_limits=True, **wish)

    assert answer.status == 400
    assert named in answer.body.decode()
    assert stack.foundry.behaviour == Behaviour()
    assert not stack.foundry.options.has_limits


async def test_a_behaviour_can_be_given_as_a_whole(stack):
    stack.foundry.behaviour = Behaviour(expires_in="text")

    assert (await stack.ask_token()).json["expires_in"] == "3600"


async def test_a_mode_stays_when_another_is_set(stack):
    await stack.switch(busy="unnamed")
    await stack.switch(sizes="number", latency_seconds=0)

    assert stack.foundry.behaviour == Behaviour(busy="unnamed", sizes="number")


def test_modes_are_drawn_by_a_seed_and_all_values_are_drawn():
    drawn = [Behaviour.draw(Random(seed)) for seed in range(100)]

    assert drawn == [Behaviour.draw(Random(seed)) for seed in range(100)]
    assert all((mode, value) in PAIRS for each in drawn for mode, value in pairs(each))
    assert {pair for each in drawn for pair in pairs(each)} == set(PAIRS)


def test_a_mode_that_is_fixed_is_not_drawn():
    drawn = [Behaviour.draw(Random(seed), redirect=False, busy="named") for seed in range(30)]

    assert {(each.redirect, each.busy) for each in drawn} == {(False, "named")}


def pairs(behaviour):
    return asdict(behaviour).items()


def test_the_readme_has_every_mode_every_value_and_no_other():
    text = (Path(foundry.__file__).parent / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"(?m)^\| `(\w+)` \| (.+?) \| `(\S+)` \|", text)
    found = [(mode, re.findall(r"`([^`]+)`", values), default) for mode, values, default in rows]
    known = Behaviour.list_values().items()
    words = [(mode, [str(value).lower() for value in values]) for mode, values in known]

    assert found == [(mode, values, values[0]) for mode, values in words]
