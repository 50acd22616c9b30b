"""The emulator's schema services, Views and SQL, as Palantir's SDK and raw HTTP see them."""

import time

import msgspec
import pytest
from foundry_sdk import BadRequestError, ConfidentialClientAuth, Config, FoundryClient
from foundry_sdk import PermissionDeniedError as Denied
from foundry_sdk.v2.core import errors as core_errors
from foundry_sdk.v2.datasets import errors
from foundry_sdk.v2.datasets import models as m
from foundry_sdk.v2.filesystem import errors as filesystem_errors
from foundry_sdk.v2.sql_queries import errors as sql_errors

from atlas.core.dataset_schema import build_ndjson_schema
from atlas.core.rows import Header, RowForm, flatten
from atlas.local.foundry.state import DATASET
from atlas.local.foundry.tables import StoredSchema
from atlas.local.foundry.views import FOLDER, OTHER_FOLDER
from tests.local.caller import SQL, error, open_caller
from tests.support.foundry_thread import foundry_thread

__all__ = ["foundry_thread"]

COUNT = f"SELECT COUNT(*) AS row_count FROM `{DATASET}`"
SERVICE = f"/foundry-metadata/api/schemas/datasets/{DATASET}/branches/master"
INFERENCE = f"/foundry-schema-inference/api/datasets/{DATASET}/branches/master/schema"
OTHER_DATASET = "ri.foundry.main.dataset.00000000-0000-0000-0000-000000000000"


def rows(*lines, user="ada", at="2026-01-02T12:00:00Z", columns=23):
    encoded = [msgspec.json.encode(line) for line in lines]
    return flatten(encoded, Header(user, "", at, ""), form=RowForm(columns)).ndjson


def heart_rate(uuid, value):
    return {"uuid": uuid, "type": "HeartRate", "start": "2026-01-01T08:00:00Z", "value": value}


@pytest.fixture
def sdk(foundry_thread):
    auth = ConfidentialClientAuth(
        "local",
        "local-secret",
        should_refresh=False,
        scopes=["api:datasets-read", "api:datasets-write", *SQL],
    )
    close = {"Connection": "close"}  # its global connection pool is never closed
    config = Config(scheme="http", default_headers=close, timeout=30.0, max_retries=1)
    return FoundryClient(auth, f"127.0.0.1:{foundry_thread.port}", config=config)


def put_schema(foundry_thread, columns=23, **kinds):
    """Put our schema, with other types for some of its columns."""
    schema = build_ndjson_schema(columns)
    for each in schema["fieldSchemaList"]:
        each["type"] = kinds.get(each["name"], each["type"])
    schema["fieldSchemaList"] = [each for each in schema["fieldSchemaList"] if each["type"]]
    foundry_thread.foundry.tables.schemas[DATASET, "master"] = StoredSchema(schema)


def run_sql(sdk, query):
    """Run a query to its end, and return its rows of texts, the header first."""
    status = sdk.sql_queries.SqlQuery.execute(
        query=query, fallback_branch_ids=["master"], serialization_format="CSV"
    )
    assert sdk.sql_queries.SqlQuery.get_status(status.query_id) == status
    assert status.type == "succeeded"
    table = sdk.sql_queries.SqlQuery.get_results(status.query_id)
    return [line.split(",") for line in table.decode().splitlines()]


def make_view(sdk, name="samples", folder=FOLDER, dataset=DATASET, **key):
    key = {"columns": ["auth0_user_id", "sample_key"], "deletion_column": "is_deleted"} | key
    strategy = m.PrimaryKeyLatestWinsResolutionStrategy(columns=["ingested_at"])
    resolution = m.PrimaryKeyResolutionDuplicate(
        deletion_column=key["deletion_column"], resolution_strategy=strategy
    )
    markings = key.get("markings", [])
    backing = [
        m.ViewBackingDataset(dataset_rid=rid, stop_propagating_marking_ids=markings)
        for rid in ([dataset] if dataset else [])
    ]
    return sdk.datasets.View.create(
        backing_datasets=backing,
        parent_folder_rid=folder,
        view_name=name,
        primary_key=m.ViewPrimaryKey(columns=key["columns"], resolution=resolution),
    )


# Views


def test_a_view_has_the_latest_row_of_each_sample_and_none_of_deleted_ones(foundry_thread, sdk):
    early, late = "2026-01-02T12:00:00Z", "2026-01-03T12:00:00Z"
    foundry_thread.commit("b.ndjson", rows(heart_rate("a", 60), heart_rate("b", 72.5), at=late))
    foundry_thread.commit("a.ndjson", rows(heart_rate("a", 55), heart_rate("c", 80), at=early))
    foundry_thread.commit("c.ndjson", rows({"uuid": "c"}, at=late))
    foundry_thread.commit("d.ndjson", rows(heart_rate("a", 90), user="bea", at=early))
    put_schema(foundry_thread)
    view = make_view(sdk)

    columns = "auth0_user_id, uuid, value_double"
    found = run_sql(sdk, f"SELECT {columns} FROM `{view.dataset_rid}` ORDER BY 1, 2")
    assert found[1:] == [["ada", "a", "60.0"], ["ada", "b", "72.5"], ["bea", "a", "90.0"]]
    assert run_sql(sdk, COUNT) == [["row_count"], ["6"]]


def test_a_view_follows_its_dataset(foundry_thread, sdk):
    foundry_thread.commit("a.ndjson", rows(heart_rate("a", 55)))
    put_schema(foundry_thread)
    count = f"SELECT COUNT(*) FROM `{make_view(sdk).dataset_rid}`"
    assert run_sql(sdk, count)[1] == ["1"]

    foundry_thread.commit("b.ndjson", rows(heart_rate("b", 60)))
    assert run_sql(sdk, count)[1] == ["2"]


def test_a_view_can_be_looked_up_but_not_read_as_a_table(foundry_thread, sdk):
    foundry_thread.commit("a.ndjson", rows(heart_rate("a", 55)))
    put_schema(foundry_thread)
    view = make_view(sdk)

    assert sdk.datasets.View.get(view.dataset_rid) == view
    assert view.primary_key.columns == ["auth0_user_id", "sample_key"]
    with pytest.raises(errors.DatasetReadNotSupported):
        sdk.datasets.Dataset.read_table(view.dataset_rid, format="CSV")
    with pytest.raises(errors.ViewNotFound):
        sdk.datasets.View.get(OTHER_DATASET)


REFUSED = [
    ({"folder": "ri.compass.main.folder.0"}, filesystem_errors.FolderNotFound),
    ({"folder": OTHER_FOLDER}, errors.InputBackingDatasetNotInOutputViewProject),
    ({"name": "a/b"}, filesystem_errors.InvalidDisplayName),
    ({"name": "there"}, filesystem_errors.ResourceNameAlreadyExists),
    ({"dataset": OTHER_DATASET}, errors.InvalidViewBackingDataset),
    ({"dataset": None}, errors.ViewPrimaryKeyRequiresBackingDatasets),
    (
        {"markings": ["18212f9a-0e63-4b79-96a0-aae04df23336"]},
        core_errors.NotAuthorizedToDeclassifyMarkings,
    ),
    ({"columns": []}, errors.ViewPrimaryKeyMustContainAtLeastOneColumn),
    ({"columns": ["nothing"]}, errors.NotAllColumnsInPrimaryKeyArePresent),
    ({"columns": ["value_double"]}, errors.InvalidViewPrimaryKeyColumnType),
    ({"deletion_column": "nothing"}, errors.ViewPrimaryKeyDeletionColumnNotInDatasetSchema),
    ({"deletion_column": "unit"}, errors.InvalidViewPrimaryKeyDeletionColumn),
]


@pytest.mark.parametrize(("wish", "refusal"), REFUSED)
def test_a_view_that_cannot_be_is_refused_by_name(foundry_thread, sdk, wish, refusal):
    foundry_thread.commit("a.ndjson", rows(heart_rate("a", 55)))
    put_schema(foundry_thread)
    make_view(sdk, "there")

    with pytest.raises(refusal):
        make_view(sdk, **wish)
    assert len(foundry_thread.foundry.tables.views) == 1


def test_a_reader_may_not_create_a_view(foundry_thread, sdk):
    foundry_thread.foundry.options.is_reader = True
    with pytest.raises(errors.CreateViewPermissionDenied):
        make_view(sdk)


# SQL


def test_a_query_that_takes_a_while_is_running_until_then(foundry_thread, sdk):
    foundry_thread.commit("a.ndjson", rows(heart_rate("a", 55)))
    put_schema(foundry_thread)
    foundry_thread.foundry.options.sql_seconds = 0.5
    queries, began = sdk.sql_queries.SqlQuery, time.monotonic()
    status = queries.execute(query=COUNT, serialization_format="CSV")

    assert queries.get_status(status.query_id).type == "running"
    assert queries.get_results(status.query_id).split() == [b"row_count", b"1"]
    assert time.monotonic() - began >= 0.5
    assert queries.get_status(status.query_id).type == "succeeded"


def test_a_query_can_be_canceled(foundry_thread, sdk):
    foundry_thread.commit("a.ndjson", rows(heart_rate("a", 55)))
    put_schema(foundry_thread)
    foundry_thread.foundry.options.sql_seconds = 60
    queries = sdk.sql_queries.SqlQuery
    id = queries.execute(query=COUNT, serialization_format="CSV").query_id
    queries.cancel(id)

    assert queries.get_status(id).type == "canceled"


def test_a_query_of_a_dataset_without_schema_fails(foundry_thread, sdk):
    foundry_thread.commit("a.ndjson", rows(heart_rate("a", 55)))
    status = sdk.sql_queries.SqlQuery.execute(query=COUNT, serialization_format="CSV")

    assert (status.type, status.error_message) == ("failed", "SchemaNotFound")


@pytest.mark.parametrize(
    ("query", "refusal"),
    [("DROP TABLE x", sql_errors.QueryParseError), (COUNT, sql_errors.ColumnTypesNotSupported)],
)
def test_a_query_that_changes_something_or_wants_arrow_is_refused(sdk, query, refusal):
    with pytest.raises(refusal) as caught:
        sdk.sql_queries.SqlQuery.execute(query=query)
    assert isinstance(caught.value, BadRequestError)


def test_a_query_needs_its_scopes_and_a_role(foundry_thread, sdk):
    foundry_thread.foundry.options.is_role_revoked = True
    with pytest.raises(sql_errors.ReadQueryInputsPermissionDenied):
        sdk.sql_queries.SqlQuery.execute(query=COUNT)
    foundry_thread.foundry.revoke_tokens()
    foundry_thread.foundry.options.withheld_scope = SQL[0]
    another = FoundryClient(
        ConfidentialClientAuth("local", "local-secret", should_refresh=False, scopes=[*SQL]),
        f"127.0.0.1:{foundry_thread.port}",
        config=Config(scheme="http", default_headers={"Connection": "close"}),
    )
    with pytest.raises(Denied, match="ApiUsageDenied"):
        another.sql_queries.SqlQuery.execute(query=COUNT)


# Schemas and tables


def test_a_long_column_reads_fractions_as_null(foundry_thread, sdk):
    foundry_thread.commit("a.ndjson", rows(heart_rate("a", 60), heart_rate("b", 72.5)))
    put_schema(foundry_thread, value_double="LONG")
    table = sdk.datasets.Dataset.read_table(DATASET, format="CSV", columns=["uuid", "value_double"])

    assert table.decode().splitlines() == ["uuid,value_double", "a,", "b,"]


def test_rows_of_21_columns_and_lines_that_are_no_json_read_as_null(foundry_thread, sdk):
    foundry_thread.commit("a.ndjson", rows(heart_rate("a", 60), columns=21) + b"{torn\n")
    put_schema(foundry_thread)
    columns = "uuid, sample_key, is_deleted"

    found = run_sql(sdk, f"SELECT {columns} FROM `{DATASET}` ORDER BY 1 DESC")
    assert found[1:] == [["a", "", ""], ["", "", ""]]


def test_a_table_has_as_many_rows_as_wanted(foundry_thread, sdk):
    foundry_thread.commit("a.ndjson", rows(heart_rate("a", 60), heart_rate("b", 61)))
    put_schema(foundry_thread)
    table = sdk.datasets.Dataset.read_table(DATASET, format="CSV", columns=["uuid"], row_limit=1)

    assert table.split() == [b"uuid", b"a"]


async def test_the_service_keeps_a_schema_with_its_reader(tmp_path):
    async with open_caller(tmp_path) as stack:
        assert (await stack.ask("GET", SERVICE)).status == 204
        rid = await stack.commit("a.ndjson", content=rows(heart_rate("a", 60)))
        schema = build_ndjson_schema(23)
        assert (await stack.ask("POST", SERVICE, schema)).status == 404, "of no transaction"
        put = await stack.ask("POST", SERVICE, schema, endTransactionRid=rid)

        assert put.status == 200
        assert (await stack.ask("GET", SERVICE)).json == {"schema": schema}
        public = (await stack.ask("GET", "/getSchema")).json["schema"]
        assert public == {"fieldSchemaList": schema["fieldSchemaList"]}
        assert error(await stack.ask("GET", SERVICE.replace("master", "develop"))) == (
            404,
            "BranchNotFound",
        )


async def test_the_button_infers_long_from_whole_numbers_and_double_from_ours(tmp_path):
    async with open_caller(tmp_path) as stack:
        assert (await stack.ask("POST", INFERENCE, {})).json == {"status": "FAILURE"}
        whole = rows(heart_rate("a", 60)).replace(b"60.0,", b"60,")
        await stack.commit("a.ndjson", content=whole)
        assert await infer_value_type(stack) == "LONG"

    async with open_caller(tmp_path / "ours") as stack:
        await stack.commit("a.ndjson", content=rows(heart_rate("a", 60)))
        assert await infer_value_type(stack) == "DOUBLE"


async def infer_value_type(stack):
    answer = (await stack.ask("POST", INFERENCE, {})).json
    assert answer["status"] == "SUCCESS"
    fields = answer["data"]["foundrySchema"]["fieldSchemaList"]
    (kind,) = [each["type"] for each in fields if each["name"] == "value_double"]
    return kind
