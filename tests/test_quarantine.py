"""An export that crashes a stage is stored unchanged, blocks nothing, and can be replayed."""

import anyio
import pytest

from atlas.core.errors import NotNdjson
from atlas.core.events import ExportQuarantined, ExportSetAside, StageCrashed
from tests.conftest import ServiceHarness, an_export, asgi
from tests.support.fakes import Barrier
from tests.support.poison import GOOD, POISON, STAGES, Bug

HOST = {"host": "127.0.0.1:9464"}


@pytest.fixture(params=STAGES)
def bug(request):
    return Bug(request.param)


@pytest.fixture
def life(tmp_path, bug):
    return ServiceHarness(tmp_path / "journal", compute=bug.compute)


async def ordered(flow, path, **headers):
    return await asgi(flow.service.operator, "POST", path, HOST | headers)


async def list_exports(flow, status="set_aside"):
    answer = await asgi(flow.service.operator, "GET", f"/exports?status={status}", HOST)
    return answer.body["entries"]


async def test_it_is_set_aside_at_its_first_crash_and_no_twin_reaches_the_stage(life, bug):
    async with life.running() as flow:
        first = await flow.post(POISON)
        twin = await flow.post(POISON)
        other = await flow.post(GOOD)
        (told,) = flow.seen.of(ExportQuarantined)
        (crash,) = flow.seen.of(StageCrashed)
        (entry,) = await list_exports(flow)

    assert (first.status, first.body["status"], first.body["success"]) == (202, "set_aside", True)
    assert (first.body["records_received"], first.body["file_path"]) == (0, None)
    assert first.body["warnings"] != []
    assert (twin.status, twin.body["receipt_id"]) == (202, first.body["receipt_id"])
    assert (first.body["replayed"], twin.body["replayed"]) == (False, True)
    assert other.status == 200
    assert (told.id, crash.stage) == (first.body["receipt_id"], bug.stage)
    assert entry["reason"] == "it crashes a stage"
    assert "Ada" not in str(first.body) + str(crash)
    assert life.dataset.uuids() == ["good"]

    before = len(bug.reached)
    async with life.running() as flow:
        again = await flow.post(POISON)
        found = await flow.receipt(first.body["receipt_id"])
    assert again.body["receipt_id"] == found.body["receipt_id"] == first.body["receipt_id"]
    assert len(bug.reached) == before


async def test_a_batch_of_which_every_chunk_crashes_a_stage_ends_no_service(life, bug):
    chunks = [an_export(b'{"uuid":"poison %d"}\n' % number) for number in range(20)]
    async with life.running() as flow:
        answer = await flow.post({"chunks": chunks}, path="/export/batch")
        assert (await flow.post(GOOD)).status == 200
        assert len(await list_exports(flow)) == 20
    assert answer.status == 202
    assert {each["status"] for each in answer.body["upload_results"]} == {"set_aside"}


async def test_when_the_stage_is_mended_it_goes_the_way_of_all_others_and_once(life, bug):
    async with life.running() as flow:
        id = (await flow.post(POISON)).body["receipt_id"]
        failed = await ordered(flow, f"/exports/{id}/replay")
        assert failed.body == {"again": 0, "failed": 1}
        assert len(await list_exports(flow)) == 1

        bug.is_mended = True
        done = await ordered(flow, f"/exports/{id[:12]}/replay")
        assert done.body == {"again": 1, "failed": 0}
        await flow.is_empty()
        twin = await flow.post(POISON)
        assert (twin.status, twin.body["replayed"]) == (200, True)
        assert await list_exports(flow) == []
        nothing = await ordered(flow, "/exports/replay")
        assert nothing.body == {"again": 0, "failed": 0}
    assert life.dataset.uuids() == ["poison"]


async def test_all_can_be_replayed_at_once_and_what_foundry_refused_with_them(life, bug):
    refused = "healthkit/raw/ada/2026-01-02T12-00-00-000Z.ndjson"
    life.dataset.refuses.add(refused)
    async with life.running() as flow:
        await flow.post(GOOD)
        assert flow.seen.count_of(ExportSetAside) == 1
        await flow.post(POISON)
        assert len(await list_exports(flow)) == 2

        life.dataset.refuses.clear()
        bug.is_mended = True
        assert (await ordered(flow, "/exports/replay")).body == {"again": 2, "failed": 0}
        await flow.is_empty()
        assert await list_exports(flow) == []
    assert life.dataset.uuids() == ["good", "poison"]


async def test_what_turns_out_to_be_no_export_is_said_and_stays(life, bug):
    async with life.running() as flow:
        id = (await flow.post(POISON)).body["receipt_id"]
        bug.error = NotNdjson()
        answer = await ordered(flow, f"/exports/{id}/replay")
        assert (answer.status, len(await list_exports(flow))) == (400, 1)
        twin = await flow.post(POISON)
        assert twin.body["receipt_id"] == id


async def test_a_replay_that_is_cancelled_lets_no_twin_reach_the_stage(life, bug):
    async with life.running() as flow:
        id = (await flow.post(POISON)).body["receipt_id"]
        bug.hold = Barrier()
        async with anyio.create_task_group() as operator:
            operator.start_soon(ordered, flow, f"/exports/{id}/replay")
            await bug.hold.reached.wait()
            operator.cancel_scope.cancel()
        before = len(bug.reached)
        with anyio.fail_after(5):
            twin = await flow.post(POISON)
        assert (twin.body["receipt_id"], twin.body["status"]) == (id, "set_aside")
        assert len(bug.reached) == before
        bug.hold.opened.set()


async def test_it_can_be_given_up_and_its_entry_stays(life, bug):
    async with life.running() as flow:
        id = (await flow.post(POISON)).body["receipt_id"]
        given_up = await ordered(flow, f"/exports/{id}/discard")
        assert given_up.body == {"abandoned": 1}
        (entry,) = await list_exports(flow, "abandoned")
        assert entry["receipt"]["id"] == id
        for order in ("replay", "discard"):
            refused = await ordered(flow, f"/exports/{id}/{order}")
            assert (refused.status, "was discarded" in refused.body["error"]) == (409, True)
        assert (await flow.post(POISON)).body["status"] == "set_aside", "it is sent again"


async def test_a_page_in_a_browser_changes_nothing(life):
    async with life.running() as flow:
        id = (await flow.post(POISON)).body["receipt_id"]
        for order in ("replay", "discard"):
            page = {"origin": "https://evil.example"}
            answer = await ordered(flow, f"/exports/{id}/{order}", **page)
            assert answer.status == 403
        assert (await ordered(flow, "/exports/unknown/replay")).status == 404
        assert len(await list_exports(flow)) == 1
