"""Step 11: the schema, and the rows that a reader of the dataset sees."""

import pytest

from atlas.core.dataset_schema import build_ndjson_schema
from atlas.local.foundry import Behaviour
from atlas.local.foundry.state import DATASET
from atlas.local.foundry.tables import READER_CLASSES, StoredSchema
from atlas.outside.foundry import queries
from tests.conftest import an_export
from tests.diagnose.faults import ROW, with_parquet
from tests.support.running_system import step

LINES = b'{"uuid":"a"}\n{"uuid":"b"}\n{"uuid":"c"}'
SQL_SCOPE = "api:sql-queries-execute"


@pytest.fixture
async def committed(system):
    """A dataset with a schema, to which a service has committed three rows; it has ended."""
    async with system.serving() as serving:
        await commit_rows(serving)
    return system


async def commit_rows(serving):
    answer = await serving.send(an_export(LINES), serving.system.token())
    assert answer.status == 200
    put_schema(serving.system)


def put_schema(system, **changes):
    schema = build_ndjson_schema(21) | changes
    system.foundry.tables.schemas[DATASET, "master"] = StoredSchema(schema)


async def diagnose_schema(system):
    found = step(await system.diagnosed(), 11)
    return found, dict(found.evidence)


async def test_every_committed_row_is_counted_by_sql(committed):
    found, evidence = await diagnose_schema(committed)

    assert (found.verdict, found.to_do) == ("pass", "")
    assert found.reason.endswith("Readers see every row that was committed.")
    assert evidence["committed"] == "3 rows of 1 exports"
    assert evidence["rows"] == "3, by SQL"
    assert evidence["for"] == "ndjson"


async def test_a_running_service_counts_as_a_command_does(system):
    async with system.serving() as serving:
        await commit_rows(serving)
        found = step(await serving.diagnosed(), 11)

    assert (found.verdict, dict(found.evidence)["rows"]) == ("pass", "3, by SQL")


async def test_rows_of_other_writers_are_evidence_and_no_fault(committed):
    committed.committed("healthkit/raw/ada/old.ndjson", ROW * 4)
    found, evidence = await diagnose_schema(committed)

    assert found.verdict == "pass"
    assert evidence["rows"] == "7, by SQL"


@pytest.mark.parametrize("scope", queries.SQL_SCOPE.split()[1:])
async def test_without_the_scopes_of_sql_the_rows_are_read(committed, scope):
    committed.foundry.options.withheld_scope = scope
    found, evidence = await diagnose_schema(committed)

    assert found.verdict == "pass"
    assert evidence["rows"] == "at least 3, by readTable"


async def test_rows_that_can_be_neither_counted_nor_read_are_unknown(committed, monkeypatch):
    monkeypatch.setattr(queries, "TABLE_ROWS_MAX", 2)
    committed.foundry.options.withheld_scope = SQL_SCOPE
    found, evidence = await diagnose_schema(committed)

    assert found.verdict == "unknown"
    assert "403 ApiUsageDenied" in evidence["rows"]
    assert f"lacks a scope ({SQL_SCOPE})" in evidence["rows"]
    assert "More than 2 rows are expected" in evidence["rows"]
    assert SQL_SCOPE in found.to_do


async def test_a_query_that_takes_too_long_is_unknown_and_canceled(committed, monkeypatch):
    monkeypatch.setattr(queries, "SQL_SECONDS", 0.2)
    monkeypatch.setattr(queries, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(queries, "TABLE_ROWS_MAX", 2)
    committed.foundry.options.sql_seconds = 60
    found, evidence = await diagnose_schema(committed)

    assert found.verdict == "unknown"
    assert "takes more than" in evidence["rows"]
    assert committed.foundry.log.calls["sql 204"] == 1


async def test_a_query_that_runs_a_while_is_awaited(committed, monkeypatch):
    monkeypatch.setattr(queries, "POLL_SECONDS", 0.05)
    committed.foundry.options.sql_seconds = 0.2
    _, evidence = await diagnose_schema(committed)

    assert evidence["rows"] == "3, by SQL"


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 403, "name": "ExecuteSqlQueryPermissionDenied"},
        {"kind": "status", "status": 400, "name": "QueryParseError"},
        {"kind": "status", "status": 500, "name": "QueryFailed"},
        {"kind": "status", "status": 403, "name": "ReadQueryInputsPermissionDenied"},
        {"kind": "status", "status": 404},
        {"kind": "html"},
        {"kind": "rubbish"},
        {"kind": "torn"},
        {"kind": "refused"},
        {"kind": "empty"},
        {"kind": "wrong_types"},
        {"kind": "rubbish", "after": 1},
        {"kind": "empty", "after": 1},
        {"kind": "status", "status": 400, "name": "QueryCanceled", "after": 1},
    ],
    ids=lambda fault: " ".join(map(str, fault.values())),
)
async def test_whatever_sql_answers_the_rows_are_read_instead(committed, fault):
    committed.fault("sql", count=0, **fault)
    found, evidence = await diagnose_schema(committed)

    assert found.verdict == "pass"
    assert evidence["rows"] == "at least 3, by readTable"


async def test_fewer_rows_than_committed_are_a_failure(committed):
    (path,) = committed.foundry.branches.get_branch(DATASET, "master").view
    committed.committed(path, ROW * 2, kind="UPDATE")
    found, evidence = await diagnose_schema(committed)

    assert found.verdict == "fail"
    assert found.reason == "Readers see 2 rows, and 3 were committed."
    assert "History" in found.to_do
    assert evidence["rows"] == "2, by SQL"


async def test_fewer_rows_are_read_without_sql_too(committed):
    committed.foundry.options.withheld_scope = SQL_SCOPE
    (path,) = committed.foundry.branches.get_branch(DATASET, "master").view
    committed.committed(path, ROW * 2, kind="UPDATE")
    found, evidence = await diagnose_schema(committed)

    assert (found.verdict, evidence["rows"]) == ("fail", "2, by readTable")


@pytest.mark.parametrize("kind", ["SNAPSHOT", "DELETE"])
async def test_rows_that_a_transaction_removed_are_unknown(committed, kind):
    branches = committed.foundry.branches
    (path,) = branches.get_branch(DATASET, "master").view
    transaction = branches.begin(DATASET, "master", kind, owner="foreign")
    if kind == "DELETE":
        branches.remove(transaction, path)
    branches.commit(transaction)
    found, _ = await diagnose_schema(committed)

    assert found.verdict == "unknown"
    assert f"a {kind} transaction has removed files since" in found.reason


async def test_rows_of_another_dataset_are_unknown(committed):
    branches = committed.foundry.branches
    (path,) = branches.get_branch(DATASET, "master").view
    committed.committed(path, ROW, kind="UPDATE")
    for rid, each in list(branches.transactions.items()):
        if each.owner == "client" and each.status == "COMMITTED":
            del branches.transactions[rid]
    found, _ = await diagnose_schema(committed)

    assert found.verdict == "unknown"
    assert "perhaps to another dataset" in found.reason


async def test_nothing_is_counted_before_the_first_commit(system):
    system.committed("healthkit/raw/ada/a.ndjson", ROW)
    put_schema(system)
    found = step(await system.diagnosed(), 11)

    assert (found.verdict, found.reason) == ("pass", "The schema matches our rows.")
    assert system.foundry.log.calls["sql 200"] == 0


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 403, "name": "ApiUsageDenied"},
        {"kind": "status", "status": 403, "name": "ReadTablePermissionDenied"},
        {"kind": "status", "status": 404},
        {"kind": "status", "status": 400, "name": "ApiFeaturePreviewUsageOnly"},
        {"kind": "status", "status": 500, "name": "ReadTableTimeout"},
        {"kind": "status", "status": 503},
        {"kind": "html"},
        {"kind": "refused"},
    ],
    ids=lambda fault: " ".join(map(str, fault.values())),
)
async def test_files_that_we_may_not_read_are_not_called_unreadable(committed, fault):
    committed.fault("table", count=0, **fault)
    found, evidence = await diagnose_schema(committed)
    assert (found.verdict, evidence["rows"]) == ("pass", "3, by SQL")
    assert evidence["readTable"].startswith("not known: ")

    committed.foundry.options.withheld_scope = SQL_SCOPE
    found, _ = await diagnose_schema(committed)
    assert found.verdict == "unknown"


@pytest.mark.parametrize(("status", "name"), [(500, "ReadTableError"), (400, "FileHasNoRows")])
async def test_files_that_foundry_cannot_read_are_a_failure(committed, status, name):
    committed.fault("table", "status", count=0, status=status, name=name)
    found, evidence = await diagnose_schema(committed)

    assert found.verdict == "fail"
    assert evidence["readTable"].startswith(f"Foundry answers {status} {name} ")


@pytest.mark.parametrize(
    ("status", "name"),
    [(403, "GetDatasetSchemaPermissionDenied"), (403, "ApiUsageDenied"), (404, None), (503, None)],
)
async def test_a_schema_that_we_may_not_see_is_unknown(committed, status, name):
    committed.fault("schema", "status", count=0, status=status, name=name)
    found, _ = await diagnose_schema(committed)

    assert found.verdict == "unknown"
    assert "The schema is not known. Foundry" in found.reason
    assert found.to_do


# the schema


async def test_a_schema_of_integers_is_named(system):
    system.committed("healthkit/raw/ada/a.ndjson", ROW)
    fields = build_ndjson_schema(21)["fieldSchemaList"]
    kinds = {"value_double": "LONG"}
    put_schema(
        system,
        fieldSchemaList=[each | {"type": kinds.get(each["name"], each["type"])} for each in fields],
    )
    found = step(await system.diagnosed(), 11)

    assert found.verdict == "fail"
    assert "72.5 reads as null" in found.reason
    assert "--replace-schema" in found.to_do


async def test_a_schema_of_23_columns_fits_rows_of_21(system):
    system.committed("healthkit/raw/ada/a.ndjson", ROW)
    put_schema(system, **build_ndjson_schema(23))

    assert step(await system.diagnosed(), 11).verdict == "pass"


@pytest.mark.parametrize("mode", ["open", "absent"])
async def test_a_schema_for_parquet_over_ndjson_is_bad_with_the_service_and_without(system, mode):
    system.foundry.behaviour = Behaviour(schema_service=mode)
    system.committed("healthkit/raw/ada/a.ndjson", ROW)
    put_schema(system, dataFrameReaderClass=READER_CLASSES["PARQUET"])
    found = step(await system.diagnosed(), 11)

    assert found.verdict == "fail"
    assert "Expected Parquet magic number" in found.reason
    assert "--replace-schema" in found.to_do
    assert dict(found.evidence)["for"] == ("parquet" if mode == "open" else "unknown")


async def test_a_schema_for_ndjson_over_parquet_is_bad(system):
    await with_parquet(system)
    put_schema(system)
    found = step(await system.diagnosed(), 11)

    assert found.verdict == "fail"
    assert "Parquet files and a schema for NDJSON" in found.reason


async def test_no_schema_is_for_both_kinds_of_files(system):
    await with_parquet(system)
    system.committed("healthkit/raw/ada/a.ndjson", ROW)
    put_schema(system)
    found = step(await system.diagnosed(), 11)

    assert found.verdict == "fail"
    assert "NDJSON and Parquet files" in found.reason


async def test_without_a_schema_the_rows_can_be_made_visible(system):
    system.committed("healthkit/raw/ada/a.ndjson", ROW)
    found = step(await system.diagnosed(), 11)

    assert found.verdict == "pass"
    assert "atlas diagnose --fix-schema" in found.to_do
