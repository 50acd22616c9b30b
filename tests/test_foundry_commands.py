"""`atlas diagnose --fix-schema` and `atlas foundry make-view`, against the emulator of Foundry."""

import msgspec
import pytest

from atlas.cli import diagnose
from atlas.core.dataset_schema import build_ndjson_schema
from atlas.core.rows import Header, RowForm, flatten
from atlas.local.foundry.behaviour import Behaviour
from atlas.local.foundry.state import DATASET
from atlas.local.foundry.tables import READER_CLASSES, StoredSchema
from atlas.local.foundry.views import FOLDER, OTHER_FOLDER
from atlas.outside import foundry, parquet
from atlas.outside.foundry.views import VIEW_ERRORS
from tests.support.foundry_thread import foundry_thread

__all__ = ["foundry_thread"]

LINES = [
    b'{"uuid":"a","type":"HeartRate","start":"2026-01-01T08:00:00Z","value":60}',
    b'{"uuid":"b","type":"HeartRate","start":"2026-01-01T08:01:00Z","value":72.5}',
]
PATH = "healthkit/raw/ada/2026-01-02T12-00-00-000Z.ndjson"
LATER_PATH = "healthkit/raw/ada/2026-01-03T12-00-00-000Z.ndjson"
KEY = (DATASET, "master")
TOO_SLOW = 0.3


def make_rows(columns=21):
    return flatten(LINES, Header("ada", "", "", ""), form=RowForm(columns)).ndjson


@pytest.fixture
def run(atlas, foundry_thread):
    """Return the function that runs a command with the settings of the emulator."""

    def run_command(*arguments, **environ):
        return atlas(*arguments, **(foundry_thread.environ | environ))

    return run_command


@pytest.fixture
def schemas(foundry_thread):
    return foundry_thread.foundry.tables.schemas


def build_schema(columns=21, **kinds):
    """Build our schema, with other types for some columns."""
    schema = build_ndjson_schema(columns)
    for each in schema["fieldSchemaList"]:
        each["type"] = kinds.get(each["name"], each["type"])
    return schema


# the schema


@pytest.mark.parametrize("columns", [21, 23])
def test_a_dataset_of_ndjson_gets_a_schema_with_the_types_given(
    run, foundry_thread, schemas, columns
):
    foundry_thread.commit(PATH, make_rows(columns))
    fixed = run("diagnose", "--fix-schema", "--yes", ATLAS_COLUMNS=str(columns))

    assert (fixed.code, fixed.err) == (0, "")
    assert fixed.out == f"The dataset has the schema of {columns} columns, for NDJSON.\n"
    assert schemas[KEY].content == build_ndjson_schema(columns)
    _, rows = foundry_thread.foundry.tables.get_table(*KEY)
    assert [row["value_double"] for row in rows] == [60.0, 72.5]


def test_a_schema_that_is_there_already_is_left_alone(run, foundry_thread, schemas):
    foundry_thread.commit(PATH, make_rows())
    run("diagnose", "--fix-schema", "--yes")
    version = schemas[KEY].version
    again = run("diagnose", "--fix-schema")

    assert (again.code, again.out) == (
        0,
        "The dataset already has the schema of 21 columns, for NDJSON.\n",
    )
    assert schemas[KEY].version == version


def test_a_schema_is_put_after_it_was_asked(run, foundry_thread, schemas):
    foundry_thread.commit(PATH, make_rows())
    not_sure = run("diagnose", "--fix-schema", stdin=b"n\n")

    assert not_sure.code == 130
    assert "Give the dataset the schema of 21 columns, for NDJSON?" in not_sure.err
    assert schemas == {}
    assert run("diagnose", "--fix-schema", stdin=b"y\n").code == 0


@pytest.mark.parametrize(
    ("schema", "difference"),
    [
        (build_schema(value_double="LONG"), "and value_double is LONG"),
        (build_schema(23), "with sample_key, is_deleted"),
        (
            build_schema() | {"dataFrameReaderClass": READER_CLASSES["PARQUET"]},
            "it is not for ndjson, but for parquet",
        ),
        (
            build_schema() | {"customMetadata": {"format": "csv"}},
            "it is not for ndjson, but for other",
        ),
    ],
)
def test_a_schema_of_somebody_else_is_not_overwritten_unless_that_is_wanted(
    run, foundry_thread, schemas, schema, difference
):
    foundry_thread.commit(PATH, make_rows())
    schemas[KEY] = StoredSchema(schema)
    told = run("diagnose", "--fix-schema", "--yes").in_one_line(1)
    assert f"another schema: {difference}." in told
    assert "--replace-schema" in told
    assert schemas[KEY].content == schema

    not_sure = run("diagnose", "--replace-schema", stdin=b"n\n")
    assert not_sure.code == 130
    assert f"in place of another one: {difference}?" in not_sure.err
    assert schemas[KEY].content == schema

    assert run("diagnose", "--replace-schema", "--yes").code == 0
    assert schemas[KEY].content == build_ndjson_schema(21)


def test_our_columns_for_parquet_are_seen_even_if_the_service_does_not_show_the_reader(
    run, foundry_thread, schemas
):
    foundry_thread.commit(PATH, make_rows())
    schemas[KEY] = StoredSchema(
        build_schema() | {"dataFrameReaderClass": READER_CLASSES["PARQUET"]}
    )
    foundry_thread.foundry.behaviour = Behaviour(schema_service="absent")

    told = run("diagnose", "--fix-schema", "--yes").in_one_line(1)
    assert "it has our columns, but is not for ndjson" in told


@pytest.mark.parametrize("fault", [{"status": 403}, {"status": 404}, {"status": 503}])
def test_our_columns_are_not_called_another_schema_because_we_may_not_read_the_files(
    run, foundry_thread, schemas, fault
):
    foundry_thread.commit(PATH, make_rows())
    schemas[KEY] = StoredSchema(build_schema())
    foundry_thread.foundry.behaviour = Behaviour(schema_service="absent")
    foundry_thread.fault("table", "status", count=0, **fault)

    assert run("diagnose", "--fix-schema").out.startswith("The dataset already has the schema")


def test_a_schema_that_is_put_during_the_question_is_not_overwritten(
    run, foundry_thread, schemas, monkeypatch
):
    foundry_thread.commit(PATH, make_rows())
    theirs = StoredSchema(build_schema(value_double="LONG"))
    monkeypatch.setattr(diagnose, "confirm", lambda *_: schemas.update({KEY: theirs}))

    assert "meanwhile" in run("diagnose", "--fix-schema").in_one_line(1)
    assert schemas[KEY] == theirs


@pytest.mark.parametrize(
    ("path", "format", "other"),
    [("healthkit/groups/a.parquet", "ndjson", ".parquet"), (PATH, "parquet", ".ndjson")],
)
def test_no_schema_is_put_for_files_of_another_format(
    run, foundry_thread, schemas, path, format, other
):
    foundry_thread.commit(path, b"")
    told = run("diagnose", "--fix-schema", "--yes", ATLAS_FILE_FORMAT=format).in_one_line(1)

    assert f"The newest files of the dataset are {other}, and ATLAS_FILE_FORMAT is {format}" in told
    assert schemas == {}


def test_files_that_cannot_be_listed_are_no_obstacle_for_a_schema(run, foundry_thread, schemas):
    foundry_thread.commit(PATH, make_rows())
    foundry_thread.fault("list", "status", count=0, status=403)

    assert run("diagnose", "--fix-schema", "--yes").code == 0
    assert KEY in schemas


def test_a_dataset_without_files_has_no_schema_yet(run):
    told = run("diagnose", "--fix-schema", "--yes").in_one_line(1)

    assert "no files yet" in told


def test_an_open_transaction_is_passed_over(run, foundry_thread, schemas):
    foundry_thread.commit(PATH, make_rows())
    foundry_thread.foundry.branches.begin(*KEY, "APPEND")

    assert run("diagnose", "--fix-schema", "--yes").code == 0
    assert KEY in schemas


def with_mode(mode):
    return lambda stack: setattr(stack.foundry, "behaviour", Behaviour(schema_service=mode))


def with_fault(call, kind, **more):
    return lambda stack: stack.fault(call, kind, count=0, **more)


REFUSALS = [
    pytest.param(with_mode("absent"), "Foundry answers 404", id="no service"),
    pytest.param(with_mode("forbidden"), "403 Default:PermissionDenied", id="forbidden"),
    pytest.param(with_mode("not_allowed"), "Foundry answers 405", id="not allowed"),
    pytest.param(
        with_mode("login"), "redirects (302) to login.invalid", id="redirect to a login page"
    ),
    pytest.param(with_mode("page"), "accepted the schema, but the dataset has none", id="a page"),
    pytest.param(with_fault("schema_service", "status", status=401), "(401)", id="401"),
    pytest.param(with_fault("schema_service", "status", status=500), "answers 500", id="500"),
    pytest.param(with_fault("schema_service", "status", status=503), "(503)", id="503"),
    pytest.param(with_fault("schema_service", "status", status=429), "(429)", id="429"),
    pytest.param(with_fault("schema_service", "html"), "answers 502", id="HTML"),
    pytest.param(with_fault("schema_service", "refused"), "does not answer", id="cut"),
    pytest.param(
        with_fault("schema_service", "refused", how="silence", seconds=4 * TOO_SLOW),
        "does not answer (TimeoutError)",
        id="silence",
    ),
    pytest.param(with_fault("schema", "status", status=403), "answers 403", id="no reading"),
    pytest.param(with_fault("table", "status", status=500), "cannot read the files", id="no table"),
    pytest.param(with_fault("table", "html"), "does not say if it can read", id="HTML for a table"),
    pytest.param(
        with_fault("table", "status", status=403, name="ApiUsageDenied"),
        "does not say if it can read the files. Foundry answers 403",
        id="no scope for a table",
    ),
]


@pytest.mark.parametrize(("change", "reason"), REFUSALS)
def test_whatever_is_refused_the_schema_is_printed_to_be_pasted(
    run, foundry_thread, monkeypatch, change, reason
):
    monkeypatch.setattr(foundry, "INSPECTION_SECONDS", TOO_SLOW)
    foundry_thread.commit(PATH, make_rows())
    change(foundry_thread)
    ended = run("diagnose", "--fix-schema", "--yes")

    assert ended.code == 1
    assert msgspec.json.decode(ended.out) == build_ndjson_schema(21)
    assert reason in ended.err
    assert ended.err.endswith(
        "paste the JSON above in Foundry: the dataset, Details, Schema, Edit.\n"
    )
    assert ended.err.count("\n") == 1
    assert "  " not in ended.err
    assert "Sign in" not in ended.err


def test_an_answer_of_success_is_not_believed_without_the_schema(run, foundry_thread, schemas):
    foundry_thread.commit(PATH, make_rows())
    schemas[KEY] = StoredSchema(build_schema(value_double="LONG"))
    foundry_thread.fault("schema_service", "rubbish", count=0)  # 200, and nothing is done
    ended = run("diagnose", "--replace-schema", "--yes")

    assert ended.code == 1
    assert "accepted the schema, but has another one: and value_double is LONG." in ended.err
    assert msgspec.json.decode(ended.out) == build_ndjson_schema(21)


def test_a_schema_that_is_in_force_a_moment_later_is_waited_for(run, foundry_thread, schemas):
    foundry_thread.commit(PATH, make_rows())
    # before the question, before the schema is put, and once after it
    foundry_thread.fault("schema", "status", status=404, name="SchemaNotFound", count=3)

    assert run("diagnose", "--fix-schema", "--yes").code == 0
    assert KEY in schemas


def test_a_dataset_of_parquet_gets_its_schema_by_the_public_api(run, foundry_thread, schemas):
    foundry_thread.foundry.behaviour = Behaviour(schema_service="absent")
    foundry_thread.commit("healthkit/groups/a.parquet", bytes(parquet.to_parquet(make_rows(23))))
    as_parquet = {"ATLAS_FILE_FORMAT": "parquet", "ATLAS_COLUMNS": "23"}
    fixed = run("diagnose", "--fix-schema", "--yes", **as_parquet)

    assert (fixed.code, fixed.out) == (
        0,
        "The dataset has the schema of 23 columns, for Parquet.\n",
    )
    assert schemas[KEY].is_for_parquet
    assert len(schemas[KEY].fields) == 23
    again = run("diagnose", "--fix-schema", **as_parquet)
    assert "already" in again.out


def test_a_refusal_of_the_public_api_is_one_line(run, foundry_thread):
    foundry_thread.commit("healthkit/groups/a.parquet", bytes(parquet.to_parquet(make_rows())))
    foundry_thread.fault(
        "schema", "status", status=403, name="PutDatasetSchemaPermissionDenied", after=2
    )
    told = run("diagnose", "--fix-schema", "--yes", ATLAS_FILE_FORMAT="parquet").in_one_line(1)

    assert "403 PutDatasetSchemaPermissionDenied" in told


# the View


@pytest.fixture
def keyed(foundry_thread, schemas):
    """A dataset of rows with keys, and its schema."""
    foundry_thread.commit(PATH, make_rows(23))
    schemas[KEY] = StoredSchema(build_ndjson_schema(23))
    return foundry_thread


def make_view(run, *options, folder=FOLDER, **environ):
    environ = {"ATLAS_COLUMNS": "23"} | environ
    return run("foundry", "make-view", "--folder", folder, *options, **environ)


def test_a_view_is_made_and_its_rid_and_address_are_printed(run, keyed):
    ended = make_view(run)
    ((rid, view),) = keyed.foundry.tables.views.items()

    assert (ended.code, ended.err) == (0, "")
    page = "/workspace/data-integration/dataset/preview"
    url = f"{keyed.environ['FOUNDRY_HOST']}{page}/{rid}/master"
    assert ended.out.splitlines() == [rid, f"In Foundry: {url}"]
    assert (view.name, view.folder, view.branch) == ("healthkit_samples", FOLDER, "master")
    assert view.key["columns"] == ["auth0_user_id", "sample_key"]


def test_the_view_that_was_made_has_one_row_a_sample(run, keyed):
    make_view(run)
    ((rid, _),) = keyed.foundry.tables.views.items()
    deletion = flatten([b'{"uuid":"a"}'], Header("ada", "", "2026-01-04", ""), form=RowForm(23))
    keyed.commit(LATER_PATH, make_rows(23) + deletion.ndjson)

    _, rows = keyed.foundry.tables.get_table(rid, "master")
    assert [row["uuid"] for row in rows] == ["b"]
    assert len(keyed.foundry.tables.get_table(*KEY)[1]) == 5


def test_a_view_is_described_for_programs(run, keyed):
    ended = make_view(run, "--name", "latest", "--branch", "master", "--json")
    ((rid, view),) = keyed.foundry.tables.views.items()
    found = msgspec.json.decode(ended.out)

    assert found["rid"] == rid
    assert found["url"].endswith(f"/{rid}/master")
    assert view.name == "latest"


def test_a_dry_run_prints_the_request_and_creates_nothing(run, keyed):
    ended = make_view(run, "--dry-run")
    request = msgspec.json.decode(ended.out)

    assert (ended.code, keyed.foundry.tables.views) == (0, {})
    assert request["primaryKey"]["resolution"] == {
        "type": "duplicate",
        "deletionColumn": "is_deleted",
        "resolutionStrategy": {"type": "latestWins", "columns": ["ingested_at"]},
    }
    assert request["backingDatasets"][0]["datasetRid"] == DATASET


def test_rows_without_keys_make_no_view(run, keyed):
    told = make_view(run, ATLAS_COLUMNS="21").in_one_line(78)

    assert "set ATLAS_COLUMNS=23" in told


def test_a_dataset_without_schema_makes_no_view(run, foundry_thread):
    foundry_thread.commit(PATH, make_rows(23))
    told = make_view(run).in_one_line(1)

    assert "has no schema" in told
    assert "atlas diagnose --fix-schema" in told


def test_a_schema_that_lacks_the_keys_makes_no_view(run, foundry_thread, schemas):
    foundry_thread.commit(PATH, make_rows(23))
    schemas[KEY] = StoredSchema(build_ndjson_schema(21))
    told = make_view(run).in_one_line(1)

    assert "without sample_key, is_deleted" in told
    assert "--replace-schema" in told


def test_a_schema_with_columns_of_somebody_else_makes_a_view(run, keyed, schemas):
    schema = build_ndjson_schema(23)
    schema["fieldSchemaList"].append({"type": "STRING", "name": "note", "nullable": True})
    schemas[KEY] = StoredSchema(schema)

    assert make_view(run).code == 0
    assert len(keyed.foundry.tables.views) == 1


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("healthkit/raw/ada/2026-01-01T12-00-00-000Z.ndjson", make_rows(21)),
        (
            "healthkit/groups/2026-01-01T12-00-00-000Z.parquet",
            bytes(parquet.to_parquet(make_rows())),
        ),
        ("healthkit/raw/old.json", b'[{"uuid":"a"}]'),
    ],
)
def test_older_rows_without_keys_are_a_warning(run, keyed, path, content):
    keyed.commit(path, content)
    ended = make_view(run, "--dry-run")

    assert ended.code == 0
    assert "rows without sample_key" in ended.err
    assert msgspec.json.decode(ended.out)["viewName"] == "healthkit_samples"


def test_newer_rows_without_keys_are_not_looked_for(run, keyed):
    keyed.commit(LATER_PATH, make_rows(21))

    assert make_view(run, "--dry-run").err == ""


@pytest.mark.parametrize("folder", ["", "HealthKit", "https://x/ri.compass.main.folder.1"])
def test_a_folder_is_named_by_its_rid(run, keyed, folder):
    assert "--folder must be a RID" in make_view(run, folder=folder).in_one_line(78)


@pytest.mark.parametrize("name", VIEW_ERRORS)
@pytest.mark.parametrize("status", [400, 500])
def test_each_documented_refusal_has_a_sentence_and_a_remedy(run, keyed, name, status):
    keyed.fault("view", "status", status=status, name=name)
    told = make_view(run).in_one_line(1)
    reason, remedy = VIEW_ERRORS[name]

    assert f"{status} {name}" in told
    assert reason in told
    assert told.endswith(f"{remedy}\n")
    assert keyed.foundry.tables.views == {}


@pytest.mark.parametrize(
    ("options", "folder", "name"),
    [
        ((), "ri.compass.main.folder.0", "FolderNotFound"),
        ((), OTHER_FOLDER, "InputBackingDatasetNotInOutputViewProject"),
        (("--name", "a/b"), FOLDER, "InvalidDisplayName"),
    ],
)
def test_the_emulator_refuses_by_itself(run, keyed, options, folder, name):
    assert name in make_view(run, *options, folder=folder).in_one_line(1)


def test_a_second_view_of_the_name_is_refused(run, keyed):
    make_view(run)
    told = make_view(run).in_one_line(1)

    assert "409 ResourceNameAlreadyExists" in told
    assert len(keyed.foundry.tables.views) == 1


def test_a_client_that_may_only_read_makes_no_view(run, keyed):
    keyed.foundry.options.is_reader = True

    assert "403 CreateViewPermissionDenied" in make_view(run).in_one_line(1)


def test_a_lost_answer_is_not_tried_again(run, keyed):
    keyed.fault("view", "lost")
    told = make_view(run).in_one_line(1)

    assert "The View may exist." in told
    assert "Look into the folder" in told
    assert len(keyed.foundry.tables.views) == 1


@pytest.mark.parametrize("fault", ["rubbish", "html", "torn", "empty", "wrong_types"])
def test_an_answer_that_cannot_be_read_is_one_line(run, keyed, fault):
    keyed.fault("view", fault)

    assert "The View may exist. Look into the folder" in make_view(run).in_one_line(1)


@pytest.mark.parametrize(
    ("call", "fault"),
    [
        ("content", {"kind": "status", "status": 403, "name": "GetFileContentPermissionDenied"}),
        ("content", {"kind": "status", "status": 400, "name": "FileSizeLimitExceeded"}),
        ("content", {"kind": "refused"}),
        ("list", {"kind": "status", "status": 500}),
    ],
    ids=lambda each: str(each.get("name", each["kind"])) if isinstance(each, dict) else each,
)
def test_files_that_cannot_be_looked_at_are_a_warning_and_no_obstacle(run, keyed, call, fault):
    keyed.fault(call, count=0, **fault)
    ended = make_view(run)

    assert (ended.code, len(keyed.foundry.tables.views)) == (0, 1)
    assert "It is not known if all rows have a sample_key" in ended.err
