"""Streams of Foundry: our client against the emulator, and that against the official SDK."""

from contextlib import contextmanager

import msgspec
import pytest
from aiohttp.test_utils import TestServer
from anyio.from_thread import start_blocking_portal
from foundry_sdk import (
    BadRequestError,
    ConfidentialClientAuth,
    Config,
    FoundryClient,
    NotFoundError,
    PalantirRPCException,
    RequestEntityTooLargeError,
)
from foundry_sdk.v2.streams import errors as stream_errors

from atlas.core.errors import FoundryError, RecordsRefused, RequestTooLarge
from atlas.core.events import FoundryCalled
from atlas.core.rows import KEYED_COLUMNS, Header, RowForm, flatten
from atlas.local import foundry as local_foundry
from atlas.local.foundry.faults import Fault
from atlas.outside.foundry.stream import build_create_request
from tests.support.emulated_stream import FOLDER, STREAM
from tests.support.streams import open_emulated_stream

HEADER = Header("auth0|ada", "phone", "2026-01-02T12:00:00.000Z", "")


def records(*uuids, **changes):
    lines = [b'{"uuid":"%s","type":"HeartRate","value":60}' % uuid.encode() for uuid in uuids]
    rows = flatten(lines, HEADER, form=RowForm(23)).ndjson.splitlines()
    return [
        msgspec.json.encode(msgspec.json.decode(row) | changes) if changes else row for row in rows
    ]


@pytest.fixture
async def far(tmp_path):
    async with open_emulated_stream(tmp_path) as far:
        yield far


async def test_records_are_appended_in_order(far):
    emulator, stream = far
    await stream.publish(records("a", "b"))
    await stream.publish(records("c"))
    assert emulator.streams[STREAM].records == records("a", "b", "c")
    assert emulator.log.calls["publish 204"] == 2
    assert emulator.log.calls["token 200"] == 1


BAD = {
    "an unknown column": {"colour": "red"},
    "a text for a number": {"value_double": "60"},
    "a number for a text": {"unit": 1},
    "a text for a boolean": {"is_deleted": "false"},
    "no key": {"sample_key": None},
    "more than a MB": {"raw_healthkit_record": "x" * 1_000_001},
}


@pytest.mark.parametrize("change", BAD.values(), ids=BAD.keys())
async def test_a_bad_record_is_refused_with_its_whole_request_and_blamed(far, change):
    emulator, stream = far
    with pytest.raises(RecordsRefused) as caught:
        await stream.publish([*records("a"), *records("b", **change)])
    assert not isinstance(caught.value, RequestTooLarge)
    assert emulator.streams[STREAM].records == []
    assert "auth0" not in str(caught.value)


async def test_a_request_that_is_too_large_is_told_from_a_record_that_is(far):
    emulator, stream = far
    emulator.options.publish_bytes_max = 1_000
    with pytest.raises(RequestTooLarge):
        await stream.publish(records("a", "b", "c"))


def trash(emulator):
    emulator.streams[STREAM].is_trashed = True


def forget(emulator):
    emulator.streams.clear()


def revoke(emulator):
    emulator.options.is_role_revoked = True


def withhold(emulator):
    emulator.options.withheld_scope = "api:streams-write"


def play(**fault):
    return lambda emulator: emulator.faults.add(Fault("publish", count=0, **fault))


ABOUT_THE_STREAM = {
    trash: "is in the trash",
    forget: "does not know the stream",
    revoke: "may not write to the stream",
    withhold: "lacks a scope of the API (api:streams-write)",
    play(kind="status", status=404, name="ViewNotFound"): "was reset or deleted",
    play(kind="status", status=400, name="InvalidStreamNoSchema"): "has no schema",
    play(kind="status", status=404, name="BranchNotFound"): "has no such branch",
    play(kind="status", status=403, name="SomethingPermissionDenied"): "lacks a role",
    play(kind="status", status=401, name="Default:Unauthorized"): "rejects the token",
    play(kind="status", status=500): "Foundry answers 500",
    play(kind="status", status=503): "overloaded (503)",
    play(kind="status", status=429): "overloaded (429)",
    play(kind="html"): "Foundry answers 502",
    play(kind="refused"): "does not answer",
}


@pytest.mark.parametrize(("happen", "said"), ABOUT_THE_STREAM.items())
async def test_what_is_about_the_stream_blames_no_record(far, happen, said):
    emulator, stream = far
    happen(emulator)
    with pytest.raises(FoundryError) as caught:
        await stream.publish(records("a"))
    assert not isinstance(caught.value, RecordsRefused)
    assert said in str(caught.value)
    assert caught.value.remedy


async def test_a_retry_after_is_handed_on_if_it_is_long(far):
    emulator, stream = far
    emulator.faults.add(Fault("publish", "status", status=429, retry_after=120))
    with pytest.raises(FoundryError) as caught:
        await stream.publish(records("a"))
    assert caught.value.retry_seconds == 120
    await stream.publish(records("a"))


@pytest.mark.parametrize(
    "fault",
    [
        Fault("publish", "status", status=429, retry_after=1),
        Fault("publish", "status", status=503),
        Fault("publish", "lost"),
        Fault("publish", "status", status=401, name="Default:Unauthorized"),
    ],
    ids=["429", "503", "lost", "401"],
)
async def test_a_request_is_repeated_if_that_may_help(far, fault):
    """If its answer was lost, its records are there twice, under the same keys."""
    emulator, stream = far
    emulator.faults.add(fault)
    await stream.publish(records("a"))
    assert set(emulator.streams[STREAM].records) == set(records("a"))


async def test_after_a_reset_records_go_to_the_new_view(far):
    emulator, stream = far
    await stream.publish(records("a"))
    before = (await stream.inspect()).view
    emulator.streams[STREAM].reset()
    await stream.publish(records("b"))
    assert emulator.streams[STREAM].records == records("b")
    assert (await stream.inspect()).view != before


async def test_calls_are_counted_as_what_they_are(tmp_path):
    seen = []
    async with open_emulated_stream(tmp_path, emit=seen.append) as (_, stream):
        await stream.publish(records("a"))
    assert [(each.operation, each.status) for each in seen] == [("publish", 204)]
    assert all(isinstance(each, FoundryCalled) for each in seen), "no token of the dataset's"


async def test_a_stream_tells_its_columns_and_its_key(far):
    _, stream = far
    info = await stream.inspect()
    assert tuple(info.columns) == KEYED_COLUMNS
    assert info.key == ("auth0_user_id", "sample_key")
    assert (info.columns["value_double"], info.columns["unit"]) == ("double", "string")


# The official SDK


@contextmanager
def open_sdk(folder):
    emulator = local_foundry.FoundryEmulator(folder)
    app = local_foundry.build_application(emulator)
    with (
        start_blocking_portal() as portal,  # the SDK blocks
        portal.wrap_async_context_manager(TestServer(app)) as server,
    ):
        scopes = ["api:streams-read", "api:streams-write"]
        auth = ConfidentialClientAuth("local", "local-secret", should_refresh=False, scopes=scopes)
        close = {"Connection": "close"}  # its global connection pool is never closed
        config = Config(scheme="http", default_headers=close, timeout=30.0, max_retries=1)
        yield (
            emulator,
            FoundryClient(auth, f"127.0.0.1:{server.port}", config=config).streams.Dataset,
        )


def create(streams, name="live", **more):
    request = msgspec.to_builtins(build_create_request(FOLDER, name, "LOW_LATENCY"))
    return streams.create(
        name=name,
        parent_folder_rid=FOLDER,
        schema=request["schema"],
        stream_type=request["streamType"],
        preview=True,
        **more,
    ).rid


def test_the_sdk_creates_fills_reads_and_resets_a_stream(tmp_path):
    with open_sdk(tmp_path) as (_, streams):
        rid = create(streams)
        found = streams.Stream.get(rid, "master")
        assert [each.name for each in found.schema_.fields] == list(KEYED_COLUMNS)
        assert found.schema_.change_data_capture.deletion_field_name == "is_deleted"

        rows = [msgspec.json.decode(each) for each in records("a", "b", "c")]
        streams.Stream.publish_records(rid, "master", records=rows[:2], view_rid=found.view_rid)
        streams.Stream.publish_records(rid, "master", records=rows[2:])
        assert streams.Stream.get_end_offsets(rid, "master", preview=True) == {"0": 3}
        read = streams.Stream.get_records(
            rid, "master", limit=2, partition_id="0", start_offset=1, preview=True
        )
        assert [(each.offset, each.value) for each in read] == [(1, rows[1]), (2, rows[2])]

        after = streams.Stream.reset(rid, "master", preview=True)
        assert after.view_rid != found.view_rid
        with pytest.raises(NotFoundError) as caught:
            streams.Stream.publish_records(rid, "master", records=rows, view_rid=found.view_rid)
        assert caught.value.name == "ViewNotFound"
        assert streams.Stream.get_end_offsets(rid, "master", preview=True) == {"0": 0}


def test_the_sdk_knows_each_error_of_the_emulator(tmp_path):
    with open_sdk(tmp_path) as (emulator, streams):
        rid = create(streams)
        (good,) = (msgspec.json.decode(each) for each in records("a"))

        def publish(*records, branch="master"):
            with pytest.raises(PalantirRPCException) as caught:
                streams.Stream.publish_records(rid, branch, records=list(records))
            return type(caught.value), caught.value.name

        no_match = BadRequestError, "RecordDoesNotMatchStreamSchema"
        assert publish(good, good | {"unit": 1}) == no_match
        too_large = RequestEntityTooLargeError, "RecordTooLarge"
        assert publish(good | {"unit": "x" * 1_000_001}) == too_large
        assert publish(good, branch="other") == (NotFoundError, "StreamNotFound")
        emulator.streams[rid].is_trashed = True
        assert publish(good) == (BadRequestError, "CannotWriteToTrashedStream")
        emulator.options.is_role_revoked = True
        denied = stream_errors.PublishRecordsToStreamPermissionDenied
        assert publish(good) == (denied, denied.__name__)
        emulator.options.is_role_revoked = False
        assert emulator.streams[rid].records == []
        with pytest.raises(stream_errors.CannotCreateStreamingDatasetInUserFolder):
            streams.create(
                name="x",
                parent_folder_rid="ri.compass.main.folder.user-1",
                schema={"fields": []},
                preview=True,
            )
