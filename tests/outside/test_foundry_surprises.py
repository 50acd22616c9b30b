"""Answers that Foundry does not document, and which a stack, or something before it, may give."""

import pytest

from atlas.core.errors import FoundryError
from atlas.core.inspection import ViewRequest
from atlas.outside.foundry import queries
from tests.support.scripted_foundry import RID, serve_scripted_foundry

PAGE = b"\n<!doctype html><title>Sign in</title>"


@pytest.mark.parametrize("status", [200, 202, 204, 207])
async def test_any_success_without_a_page_is_believed(status):
    async with (
        serve_scripted_foundry(publishRecords=(status, b"")) as scripted,
        scripted.open_stream() as stream,
    ):
        await stream.publish([b"{}"])


async def test_a_page_is_no_success_of_a_stream():
    async with (
        serve_scripted_foundry(publishRecords=(200, PAGE)) as scripted,
        scripted.open_stream() as stream,
    ):
        with pytest.raises(FoundryError, match=r"A page answers instead of Foundry \(200\)"):
            await stream.publish([b"{}"])


FIELD = {"name": "unit", "type": "string", "nullable": None, "arraySubtype": None}


@pytest.mark.parametrize(
    ("answer", "columns"),
    [
        ((200, {"schema": {"fieldSchemaList": [FIELD], "primaryKey": None}}), [("unit", "STRING")]),
        ((200, {"schema": {"fieldSchemaList": [FIELD | {"more": {}}]}}), [("unit", "STRING")]),
        ((200, {"schema": None}), None),
        ((204, b""), None),
        ((404, {"errorName": "Datasets:SchemaNotFound"}), None),
    ],
)
async def test_a_schema_is_read_in_whatever_form_it_comes(answer, columns):
    async with (
        serve_scripted_foundry(getSchema=answer) as scripted,
        scripted.open_inspection() as inspection,
    ):
        found = await inspection.schemas.get_columns()
    assert columns == (found and [(each.name, each.kind) for each in found])


@pytest.mark.parametrize(
    "body",
    [b"", b"null", b"[]", b"{}", PAGE, {"schema": [FIELD]}, {"schema": {"fieldSchemaList": 1}}],
)
async def test_a_schema_that_cannot_be_read_is_an_error(body):
    async with (
        serve_scripted_foundry(getSchema=(200, body)) as scripted,
        scripted.open_inspection() as inspection,
    ):
        with pytest.raises(FoundryError):
            await inspection.schemas.get_columns()


@pytest.mark.parametrize(
    ("answer", "is_problem"),
    [
        ((200, b"ARROW1\x00\x00"), False),
        ((200, b""), False),
        ((204, b""), False),
        ((500, {"errorName": "ReadTableError"}), True),
        ((500, b""), True),
        ((422, {"errorName": "Tables:CannotParse"}), True),
        ((400, b"<html>"), None),
        ((400, {"message": "no"}), None),
        ((400, {"errorName": "InvalidParameterCombination"}), None),
        ((200, PAGE), None),
        ((401, b""), None),
        ((415, b""), None),
        ((504, b"<html>"), None),
    ],
)
async def test_only_what_foundry_says_about_the_files_is_a_problem_of_theirs(answer, is_problem):
    async with (
        serve_scripted_foundry(readTable=answer) as scripted,
        scripted.open_inspection() as inspection,
    ):
        if is_problem is None:
            with pytest.raises(FoundryError):
                await inspection.schemas.find_read_problem()
        else:
            assert bool(await inspection.schemas.find_read_problem()) is is_problem


@pytest.mark.parametrize(
    "body",
    [
        {"error": "invalid_scope", "error_description": "secret"},
        {"errorCode": "INVALID_ARGUMENT", "errorName": "OAuth:InvalidScope"},
    ],
)
async def test_a_scope_that_the_token_endpoint_refuses_is_named_and_no_secret_is_blamed(body):
    async with (
        serve_scripted_foundry(token=(400, body)) as scripted,
        scripted.open_stream() as stream,
    ):
        told = await describe_refusal(stream.publish([b"{}"]))
    assert "does not grant our client the scopes api:streams-read api:streams-write (400)" in told
    assert "secret" not in told.lower()


VIEW = ViewRequest("v", "ri.compass.main.folder.1", "master", RID, "master")


async def describe_refusal(call):
    """Return the error of a call with its remedy, as an operator sees them."""
    with pytest.raises(FoundryError) as caught:
        await call
    return f"{caught.value} {caught.value.remedy}"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((404, b""), "404: the stack does not offer Views to our client. Ask the administrator"),
        ((404, PAGE), "404: the stack does not offer Views"),
        ((403, b""), "403: our client lacks a role or a scope. In Foundry, give"),
        ((403, {"errorName": "Conjure:NoWay"}), "403 Conjure:NoWay: our client lacks a role"),
        ((200, b"{}"), "The View may exist. Look into the folder"),
    ],
)
async def test_a_refusal_without_a_known_name_still_has_a_remedy(answer, said):
    async with (
        serve_scripted_foundry(views=answer) as scripted,
        scripted.open_inspection() as inspection,
    ):
        assert said in await describe_refusal(inspection.create_view(VIEW))


RUNNING, SUCCEEDED = {"type": "running", "queryId": "q"}, {"type": "succeeded", "queryId": "q"}
TABLE = (200, b'"ingested_at"\r\n"2026-01-01"\r\n"2026-01-01"\r\n')


@pytest.mark.parametrize(
    ("execute", "result", "counted"),
    [
        (SUCCEEDED, b"row_count\n3\n", (3, "SQL")),
        (SUCCEEDED, b'"count(1)"\r\n"12345678901234567"\r\n', (12345678901234567, "SQL")),
        (SUCCEEDED, b"\xef\xbb\xbfrow_count\n3", (3, "SQL")),
        (SUCCEEDED | {"more": [1]}, b"3", (3, "SQL")),
        (RUNNING, b"row_count\n3\n", (3, "SQL")),
        (SUCCEEDED, b"ARROW1\x00\x00\xff\xff\xff\xff3 ARROW1", (2, "readTable")),
        (SUCCEEDED, b'{"rows":[[3]]}', (2, "readTable")),
        (SUCCEEDED, b"row_count\n1e3\n", (2, "readTable")),
        (SUCCEEDED, b"row_count\n-3\n", (2, "readTable")),
        (SUCCEEDED, b"", (2, "readTable")),
        (SUCCEEDED, PAGE, (2, "readTable")),
        ({"type": "queued"}, b"3", (2, "readTable")),
        ({"status": SUCCEEDED}, b"3", (2, "readTable")),
    ],
)
async def test_rows_are_counted_whatever_form_the_answers_of_sql_have(
    execute, result, counted, monkeypatch
):
    monkeypatch.setattr(queries, "POLL_SECONDS", 0.01)
    async with (
        serve_scripted_foundry(
            execute=(200, execute),
            getStatus=[(200, RUNNING), (200, RUNNING), (200, SUCCEEDED)],
            getResults=(200, result),
            readTable=TABLE,
        ) as scripted,
        scripted.open_inspection() as inspection,
    ):
        count = await inspection.rows.count(5)
    assert (count.rows, count.way) == counted


@pytest.mark.parametrize("body", [b"", b"ARROW1\x00", PAGE, b"[]", b"unit\nm\n", b"null"])
async def test_what_is_not_a_table_of_ours_counts_nothing(body):
    async with (
        serve_scripted_foundry(execute=(403, b""), readTable=(200, body)) as scripted,
        scripted.open_inspection() as inspection,
    ):
        with pytest.raises(FoundryError, match=r"By SQL: .* By readTable: "):
            await inspection.rows.count(5)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((403, PAGE), "403: our client lacks a role or a scope. In Foundry, give"),
        ((404, b""), "404: the stack does not offer streams to our client."),
    ],
)
async def test_a_stream_that_is_refused_without_a_name_has_a_remedy(answer, said):
    async with (
        serve_scripted_foundry(publishRecords=answer) as scripted,
        scripted.open_stream() as stream,
    ):
        assert said in await describe_refusal(stream.publish([b"{}"]))
