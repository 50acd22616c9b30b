"""Step 12: the stream beside the dataset, while it is used and while it cannot be."""

from datetime import timedelta

import anyio
import msgspec
import pytest

from atlas.core.rows import KEYED_COLUMNS
from atlas.local.foundry.faults import Fault
from atlas.outside.journal.capacity import CapacityLimits
from atlas.outside.sqlite.journal import open_journal
from tests.conftest import an_export
from tests.diagnose.faults import assert_first_failure
from tests.support.emulated_stream import STREAM, emulate_stream
from tests.support.exports import NOON, export
from tests.support.postgres import open_schema
from tests.support.running_system import first_failing, step
from tests.support.schemas import TEXT_KEY

SECONDS = 2.0  # from the acceptance to the stream


@pytest.fixture
def stream(system):
    system.stream = STREAM
    return emulate_stream(system.foundry)


async def wait_for(stream, records):
    with anyio.fail_after(SECONDS):
        while len(stream.records) < records:
            await anyio.sleep(0.01)


@pytest.mark.parametrize("engine", ["file", "database"])
async def test_what_is_sent_is_in_the_stream_within_two_seconds_and_in_the_dataset_once(
    system, stream, engine, request
):
    if engine == "file":
        found = await send_two(system, stream)
    else:
        servers = request.getfixturevalue("postgres_servers")
        async with open_schema(servers.get_any()) as url:
            system.journal_url, system.journal_keys = url, (TEXT_KEY,)
            found = await send_two(system, stream)
    assert first_failing(found) == 0, found
    assert step(found, 12).verdict == "pass"
    assert step(found, 12).reason == "The stream has our columns, and no row waits for it."
    records = [msgspec.json.decode(each) for each in stream.records]
    assert [each["uuid"] for each in records] == ["a", "b"]
    assert all(tuple(each) == KEYED_COLUMNS for each in records)


async def test_of_two_replicas_one_publishes_and_after_it_the_other(
    system, stream, postgres_servers
):
    async with open_schema(postgres_servers.get_any()) as url:
        system.journal_url, system.journal_keys = url, (TEXT_KEY,)
        async with system.serving() as other:
            async with system.serving() as first:
                for number, replica in enumerate([first, other] * 5):
                    ndjson = b'{"uuid":"%d"}\n' % number
                    sent = await replica.send(an_export(ndjson), system.token(sub="auth0|ada"))
                    assert sent.status == 200
                await wait_for(stream, 10)
                await anyio.sleep(0.5)  # nobody publishes it again
                assert len(stream.records) == 10
            sent = await other.send(an_export(b'{"uuid":"x"}\n'), system.token(sub="auth0|ada"))
            assert sent.status in {200, 202}
            with anyio.fail_after(30):
                while msgspec.json.decode(stream.records[-1])["uuid"] != "x":
                    await anyio.sleep(0.05)
        assert len(stream.records) <= 12  # the last one may be published by both


async def send_two(system, stream):
    async with system.serving() as serving:
        sent = await serving.send(an_export(), system.token(sub="auth0|ada"))
        await wait_for(stream, 1)
        again = await serving.send(an_export(b'{"uuid":"b"}\n'), system.token(sub="auth0|ada"))
        await wait_for(stream, 2)
        assert (sent.status, again.status) == (200, 200)
        await anyio.sleep(0.3)  # the journal has recorded it
        return await serving.diagnosed()


async def test_commits_go_on_while_nothing_can_be_published(system, stream):
    stream.is_trashed = True
    async with system.serving() as serving:
        for name in "abc":
            ndjson = b'{"uuid":"%s"}\n' % name.encode()
            sent = await serving.send(an_export(ndjson), system.token(sub="auth0|ada"))
            assert sent.status == 200
        assert stream.records == []
        stream.is_trashed = False
        with anyio.fail_after(10):
            while len(stream.records) < 3:
                await anyio.sleep(0.05)


async def send_in_vain(system, stream):
    """Leave an export that is committed and not published."""
    stream.is_trashed = True
    async with system.serving() as serving:
        sent = await serving.send(an_export(), system.token(sub="auth0|ada"))
        assert sent.status == 200
    stream.is_trashed = False


async def test_what_a_process_could_not_publish_is_published_by_the_next_one(system, stream):
    await send_in_vain(system, stream)
    async with system.serving():
        await wait_for(stream, 1)


async def test_a_service_without_the_setting_forgets_what_was_not_published(system, stream):
    await send_in_vain(system, stream)
    system.stream = ""
    async with system.serving():
        pass
    system.stream = STREAM
    async with system.serving() as serving:
        await serving.send(an_export(b'{"uuid":"b"}\n'), system.token(sub="auth0|ada"))
        await wait_for(stream, 1)
        await anyio.sleep(0.3)
    assert [msgspec.json.decode(each)["uuid"] for each in stream.records] == ["b"]


async def test_a_client_that_may_not_use_streams_commits_as_before(system, stream):
    """Its token for the dataset must not depend on scopes that it does not have."""
    system.foundry.options.withheld_scope = "api:streams-write"
    async with system.serving() as serving:
        sent = await serving.send(an_export(), system.token(sub="auth0|ada"))
        found = await serving.diagnosed()
    assert sent.status == 200
    assert first_failing(found) == 12
    assert "api:streams-write" in step(found, 12).reason
    assert "api:streams-write" in step(found, 12).to_do


@pytest.mark.parametrize(
    ("status", "name"), [(403, "ApiUsageDenied"), (403, "GetStreamPermissionDenied"), (404, None)]
)
async def test_a_stream_that_we_may_write_but_not_look_at_is_unknown(system, stream, status, name):
    system.foundry.faults.add(Fault("stream", "status", count=0, status=status, name=name))
    found = step(await system.diagnosed(), 12)
    assert found.verdict == "unknown"
    assert found.reason.startswith("Our client may publish, but")
    assert found.to_do


async def test_without_a_stream_there_is_no_such_step(system):
    found = await system.diagnosed()
    assert len(found.steps) == 11


def without(name):
    def remove(stream):
        fields = stream.schema["fields"]
        stream.schema["fields"] = [each for each in fields if each["name"] != name]

    return remove


def as_text(stream):
    for each in stream.schema["fields"]:
        each["schema"]["dataType"]["type"] = "string"


def without_key(stream):
    stream.schema["keyFieldNames"] = None


SCHEMAS = {
    without("is_deleted"): "it lacks is_deleted",
    as_text: "value_double is string, not double; is_deleted is string, not boolean",
    without_key: "its key is not auth0_user_id, sample_key",
}


@pytest.mark.parametrize(("spoil", "said"), SCHEMAS.items(), ids=lambda each: str(each)[:20])
async def test_a_schema_that_somebody_else_has_put_is_told(system, stream, spoil, said):
    spoil(stream)
    await assert_first_failure(system, 12, said)


async def test_a_column_more_does_no_harm(system, stream):
    more = {"name": "more", "schema": {"nullable": True, "dataType": {"type": "string"}}}
    stream.schema["fields"].append(more)
    found = await system.diagnosed()
    assert step(found, 12).verdict == "pass"


async def test_a_stream_that_nobody_knows_is_told(system):
    system.stream = STREAM
    await assert_first_failure(system, 12, "it does not know the stream")


async def test_a_stream_in_the_trash_is_told(system, stream):
    stream.is_trashed = True
    await assert_first_failure(system, 12, "the stream is in the trash")


@pytest.mark.parametrize("kind", ["rubbish", "html", "torn", "refused", "wrong_types"])
@pytest.mark.parametrize("call", ["stream", "publish"])
async def test_whatever_befalls_a_call_is_a_step_and_no_crash(system, stream, call, kind):
    system.foundry.faults.add(Fault(call, kind, count=0))
    found = await system.diagnosed()
    assert len(found.steps) == 12
    assert step(found, 12).verdict in ({"unknown"} if call == "stream" else {"pass", "fail"})
    assert step(found, 12).to_do or step(found, 12).verdict == "pass"


async def test_a_backlog_that_is_old_is_told(system, stream):
    limits = CapacityLimits(free_bytes=0)
    with open_journal(system.journal, limits, is_streamed=True) as journal:
        await journal.intake.append(export(1))
        backlog = await journal.stream.trim(10**9, NOON - timedelta(days=1))
        assert backlog.oldest == NOON + timedelta(seconds=1)
    found = await system.diagnosed()
    assert step(found, 12).reason.startswith("The stream lacks rows that were accepted")
    assert step(found, 12).to_do


async def test_nothing_is_published_by_the_diagnosis(system, stream):
    await system.diagnosed()
    assert stream.records == []
    assert system.foundry.log.calls["publish 204"] == 1
