"""Readiness reports whether exports can be accepted, under every fault; liveness stays up."""

from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial

import anyio
import pytest
from aiohttp.test_utils import TestServer

from atlas.core.errors import FoundryError
from atlas.core.events import ExportAccepted, ExportSetAside, JournalDamaged, UploadPaused
from atlas.local import auth0 as local_auth0
from atlas.outside import auth0
from tests.conftest import ServiceHarness, an_export, no_file_may_grow
from tests.support.fakes import Barrier

PAGE = 4096


@pytest.fixture
def life(tmp_path):
    return ServiceHarness(tmp_path / "journal", drain_seconds=0.0)


async def check_readiness(flow):
    """Return the status and the failing checks with their reasons; check that liveness is up."""
    assert (await flow.send("GET", "/health/live", None)).status == 200
    answer = await flow.send("GET", "/health/ready", None)
    failed = {
        name: each["reason"] for name, each in answer.body["checks"].items() if "reason" in each
    }
    assert (answer.status == 200) == (not failed)
    return failed


async def check_acceptance(flow):
    """Check that a service which is ready accepts an export."""
    answer = await flow.post(an_export(b'{"uuid":"f"}\n'), Prefer="respond-async")
    assert answer.status in {200, 202}


# Foundry outages do not stop acceptance


async def goes_down(life):
    life.dataset.down = True


async def hangs(life):
    life.dataset.mishaps["before begin"] = Barrier()


async def takes_our_role(life):
    async def revoked():
        life.dataset.mishaps["before look"] = revoked
        raise FoundryError("Foundry answers 404 DatasetNotFound: our client has no role on it.")

    life.dataset.mishaps["before look"] = revoked


async def somebody_holds_the_branch(life):
    life.dataset.opened(is_ours=False)


async def holds_us_off(life):
    async def later():
        raise FoundryError("Foundry is overloaded (429).", 7.0)

    life.dataset.mishaps["before begin"] = later


async def loses_the_answer_to_a_commit(life):
    async def lost():
        raise FoundryError("No answer.")

    life.dataset.mishaps["after commit"] = lost


@pytest.mark.parametrize(
    "trouble",
    [
        goes_down,
        hangs,
        takes_our_role,
        somebody_holds_the_branch,
        holds_us_off,
        loses_the_answer_to_a_commit,
    ],
    ids=lambda trouble: trouble.__name__,
)
async def test_what_befalls_foundry_makes_nobody_unready(life, trouble):
    await trouble(life)
    async with life.running() as flow:
        await flow.post(an_export(), Prefer="respond-async")
        await anyio.wait_all_tasks_blocked()

        assert await check_readiness(flow) == {}
        await check_acceptance(flow)


async def test_an_export_that_is_set_aside_is_in_nobodys_way(life):
    life.dataset.refuses.add("healthkit/raw/ada/2026-01-02T12-00-00-000Z.ndjson")
    async with life.running() as flow:
        await flow.post(an_export(), Prefer="respond-async")
        await flow.seen.wait_for(ExportSetAside)

        assert await check_readiness(flow) == {}
        await check_acceptance(flow)


# Journal failures do


@pytest.mark.parametrize("bound", ["bytes", "exports"])
async def test_a_full_journal_is_not_ready_and_is_again_when_it_drains(life, bound):
    life.dataset.down = True
    async with life.running() as flow:
        await flow.post(an_export(), Prefer="respond-async")
        (accepted,) = flow.seen.of(ExportAccepted)
    if bound == "bytes":
        life.journal_bytes_max = accepted.bytes
    else:
        life.journal_exports_max = 1
    async with life.running() as flow:
        assert set(await check_readiness(flow)) == {"journal"}
        assert (await flow.post(an_export(b'{"uuid":"b"}\n'))).status == 503

        life.dataset.down = False
        await flow.is_empty()
        assert await check_readiness(flow) == {}
        await check_acceptance(flow)


async def test_a_disk_without_room_is_not_ready(life):
    life.free_bytes_min = 2**62
    async with life.running() as flow:
        failed = await check_readiness(flow)
        assert (await flow.post(an_export())).body["error"]["code"] == "JOURNAL_FULL"

    assert failed == {"journal": "The disk of the journal has too little free space."}


async def test_a_disk_that_cannot_be_written_is_not_ready_and_is_again_when_it_can(life):
    async with life.running() as flow:
        await flow.post(an_export())
        with no_file_may_grow():
            failed = await check_readiness(flow)
            refused = await flow.post(an_export(b'{"uuid":"b"}\n'))
        assert await check_readiness(flow) == {}
        await check_acceptance(flow)

    assert set(failed) == {"journal"}
    assert refused.status == 503


async def test_a_damaged_journal_is_mended_and_then_ready(life):
    life.dataset.down = True
    async with life.running() as flow:
        for number in range(40):
            await flow.post(an_export(b'{"uuid":"%d"}\n' % number), Prefer="respond-async")
    with life.journal.open("r+b") as file:
        file.seek(2 * PAGE)
        file.write(bytes(PAGE))
    async with life.running() as flow:
        assert flow.seen.count_of(JournalDamaged) == 1
        assert await check_readiness(flow) == {}
        await check_acceptance(flow)


# Auth0 outages do while there is no key


async def test_without_any_key_nobody_can_be_let_in(life):
    life.identities.down = True
    async with life.running() as flow:
        failed = await check_readiness(flow)
        assert (await flow.post(an_export())).body["error"]["code"] == "AUTH_UNAVAILABLE"
        life.identities.down = False
        assert await check_readiness(flow) == {}

    assert set(failed) == {"keys"}


@asynccontextmanager
async def a_tenant():
    """Return an emulated Auth0 tenant and the adapter configured for it."""
    tenant = local_auth0.Auth0Emulator("")
    async with TestServer(local_auth0.build_application(tenant)) as server:
        tenant.issuer = str(server.make_url("/"))
        watch, now = [].append, partial(datetime.now, UTC)
        about = (
            auth0.TokenPolicy((tenant.issuer,), (tenant.audience,)),
            now,
            anyio.current_time,
            watch,
        )
        async with auth0.open_identities(*about) as identities:
            yield tenant, identities


async def test_keys_that_are_at_hand_are_enough_while_auth0_is_away(life):
    async with a_tenant() as (tenant, life.identities), life.running() as flow:
        assert await check_readiness(flow) == {}
        tenant.outage = local_auth0.Outage()
        assert await check_readiness(flow) == {}


async def test_readiness_waits_for_no_foundry_and_no_commit(life):
    """Readiness answers at once while a commit hangs."""
    life.dataset.mishaps["before commit"] = Barrier()
    async with life.running() as flow:
        await flow.post(an_export(), Prefer="respond-async")
        await flow.seen.wait_for(ExportAccepted)
        with anyio.fail_after(5):
            assert await check_readiness(flow) == {}


async def test_a_pause_of_the_uploader_is_told_and_is_no_unreadiness(life):
    life.dataset.down = True
    async with life.running() as flow:
        await flow.post(an_export(), Prefer="respond-async")
        await flow.seen.wait_for(UploadPaused)
        assert await check_readiness(flow) == {}
