"""`atlas foundry make-stream`, against the emulator of Foundry."""

import msgspec
import pytest

from atlas.core.rows import KEYED_COLUMNS
from atlas.local.foundry.faults import Fault
from atlas.outside.foundry.stream import STREAM_ERRORS
from tests.support.emulated_stream import FOLDER
from tests.support.foundry_thread import foundry_thread

__all__ = ["foundry_thread"]

USER_FOLDER = "ri.compass.main.folder.user-1"
OF_CREATION = {
    "ApiFeaturePreviewUsageOnly",
    "ApiUsageDenied",
    "CannotCreateStreamingDatasetInUserFolder",
    "CreateStreamingDatasetPermissionDenied",
    "FolderNotFound",
    "InvalidFieldSchema",
    "InvalidSchema",
    "InvalidStreamType",
    "ResourceNameAlreadyExists",
}


@pytest.fixture
def run(atlas, foundry_thread):
    def run_command(*arguments, **environ):
        command = "foundry", "make-stream", *arguments
        return atlas(*command, **(foundry_thread.environ | environ))

    return run_command


@pytest.fixture
def streams(foundry_thread):
    return foundry_thread.foundry.streams


def test_a_stream_has_our_columns_and_replaces_rows_of_the_same_key(run, streams):
    ended = run("--folder", FOLDER, "--name", "live")
    ((rid, stream),) = streams.items()
    assert (ended.code, ended.out) == (0, f"{rid}\n")
    assert "FOUNDRY_STREAM_RID" in ended.err
    assert (stream.name, stream.folder, stream.kind) == ("live", FOLDER, "LOW_LATENCY")
    types = {name: schema["dataType"]["type"] for name, schema in stream.columns.items()}
    assert tuple(types) == KEYED_COLUMNS
    assert {name: kind for name, kind in types.items() if kind != "string"} == {
        "value_double": "double",
        "is_deleted": "boolean",
    }
    assert [name for name, each in stream.columns.items() if each["nullable"]] == ["value_double"]
    assert stream.schema["keyFieldNames"] == ["auth0_user_id", "sample_key"]
    assert stream.schema["changeDataCapture"] == {
        "type": "fullRow",
        "deletionFieldName": "is_deleted",
        "orderingFieldName": "ingested_at",
    }


def test_its_rid_is_printed_for_programs(run, streams):
    ended = run("--folder", FOLDER, "--json", "--type", "HIGH_THROUGHPUT")
    assert ended.code == 0
    assert msgspec.json.decode(ended.out)["rid"] in streams
    assert next(iter(streams.values())).kind == "HIGH_THROUGHPUT"


def test_a_dry_run_prints_the_request_and_needs_no_foundry(run, streams):
    ended = run("--folder", FOLDER, "--dry-run", FOUNDRY_HOST="")
    request = msgspec.json.decode(ended.out)
    assert (ended.code, streams) == (0, {})
    assert [each["name"] for each in request["schema"]["fields"]] == list(KEYED_COLUMNS)
    assert request["parentFolderRid"] == FOLDER


def test_what_the_emulator_refuses_is_told_in_a_line(run):
    assert run("--folder", FOLDER).code == 0
    said = run("--folder", FOLDER).in_one_line(1)
    assert "the folder has something of this name already" in said
    assert "Choose another --name" in said
    said = run("--folder", USER_FOLDER).in_one_line(1)
    assert "a stream cannot be in the home folder of a user" in said
    assert "Check --folder" in run("--folder", "ri.compass.main.other.1").in_one_line(1)


@pytest.mark.parametrize("name", sorted(OF_CREATION))
def test_each_documented_error_has_its_sentence(run, foundry_thread, streams, name):
    status = 403 if name.endswith("Denied") else 400
    foundry_thread.foundry.faults.add(Fault("stream", "status", status=status, name=name))
    said = run("--folder", FOLDER).in_one_line(1)
    reason, remedy = STREAM_ERRORS[name]
    assert f"{name}: {reason}" in said
    assert remedy in said
    assert streams == {}


@pytest.mark.parametrize("kind", ["lost", "html", "torn"])
def test_a_stream_that_may_have_been_created_is_not_created_twice(
    run, foundry_thread, streams, kind
):
    foundry_thread.foundry.faults.add(Fault("stream", kind))
    said = run("--folder", FOLDER).in_one_line(1)
    assert len(streams) == (0 if kind == "html" else 1)
    assert "may have been created all the same" in said
    assert "Look into the folder" in said


@pytest.mark.parametrize("folder", ["", "healthkit", "ri.compass"])
def test_a_folder_that_is_no_rid_is_wrong(run, folder):
    assert "--folder must be a RID" in run("--folder", folder).in_one_line(78)


def test_a_client_without_the_scope_is_told_which(run, foundry_thread):
    foundry_thread.foundry.options.withheld_scope = "api:streams-write"
    said = run("--folder", FOLDER).in_one_line(1)
    assert "api:streams-write" in said


def test_what_is_missing_is_named(run):
    said = run("--folder", FOLDER, FOUNDRY_CLIENT_SECRET="").in_one_line(78)
    assert "FOUNDRY_CLIENT_SECRET" in said
