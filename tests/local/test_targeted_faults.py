"""Faults of the Foundry emulator for one path, one user or a number of times, and their end."""

import pytest

from atlas.local.foundry import Behaviour
from tests.local.caller import ROWS, error

ADAS_ROW = b'{"uuid":"a","auth0_user_id":"auth0|ada","device":"iPhone"}\n'
BENS_ROW = b'{"uuid":"b","auth0_user_id":"auth0|ben","device":"iPhone"}\n'


async def put(stack, path="/files/a", content=ROWS):
    """Upload a file in a transaction of its own, and return the status."""
    rid = await stack.begin()
    answer = await stack.put(rid, path, content)
    await stack.end(rid, "abort")
    return answer.status


async def test_of_all_paths_only_the_one_named_fails(stack):
    await stack.fault(call="upload", kind="status", status=400, path="raw/2026", count=0)

    assert await put(stack, "/files/healthkit%2Fraw%2F2026-01-01.ndjson") == 400
    assert await put(stack, "/files/healthkit%2Fraw%2F2025-12-31.ndjson") == 200


@pytest.mark.parametrize(
    ("content", "status"),
    [
        pytest.param(ADAS_ROW, 403, id="a file of hers"),
        pytest.param(BENS_ROW + ADAS_ROW, 403, id="a file that she shares"),
        pytest.param(BENS_ROW, 200, id="a file of another"),
        pytest.param(b'{"x":"auth0|ada"}\n', 200, id="another column"),
        pytest.param(b'{"auth0_user_id":"auth0|ada2"}\n', 200, id="a longer name"),
    ],
)
async def test_of_all_users_only_the_one_named_fails(stack, content, status):
    await stack.fault(call="upload", kind="status", status=403, user="auth0|ada", count=0)

    assert await put(stack, content=content) == status


async def test_calls_without_a_path_are_not_among_those_with_one(stack):
    await stack.fault(call="any", kind="status", status=500, path="a", count=0)

    assert (await stack.ask("GET", "/files")).status == 200
    assert await put(stack) == 500


async def test_a_fault_for_others_is_not_used_up(stack):
    await stack.fault(call="upload", kind="status", status=400, path="b", count=1)

    assert [await put(stack), await put(stack, "/files/b"), await put(stack, "/files/b")] == [
        200,
        400,
        200,
    ]


async def test_a_fault_can_be_put_before_the_others(stack):
    await stack.fault(call="list", kind="status", status=500, count=0)
    first = {"call": "list", "kind": "status", "status": 418, "count": 1}
    await stack.ask("POST", "/stand-in/faults", first, first="1")

    assert [(await stack.ask("GET", "/files")).status for _ in range(3)] == [418, 500, 500]


async def test_a_status_can_be_late(stack):
    await stack.fault(call="list", kind="status", status=500, seconds=30, count=0)

    with pytest.raises(TimeoutError):
        await stack.ask("GET", "/files", timeout_seconds=0.2)


async def test_the_settings_are_as_at_the_start_again(stack):
    await stack.switch(busy="unnamed", latency_seconds=0.01, refusals=[{"contains": "a"}])
    changed = (await stack.ask("GET", "/stand-in/settings")).json
    restored = (await stack.ask("DELETE", "/stand-in/settings")).json

    assert (changed["busy"], changed["latency_seconds"]) == ("unnamed", 0.01)
    assert (restored["busy"], restored["latency_seconds"], restored["refusals"]) == ("named", 0, [])
    assert stack.foundry.behaviour == Behaviour()
    assert error(await stack.put(await stack.begin(), "/files/..")) == (400, "InvalidFilePath")
