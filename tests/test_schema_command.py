"""`atlas schema`: the columns in the languages of other systems, checked against real rows."""

import re
from datetime import UTC, datetime

import jsonschema
import msgspec
import pyarrow as pa
import pytest

from atlas.core.dataset_schema import get_column_types
from atlas.core.rows import COLUMNS, KEYED_COLUMNS, Header, RowForm, flatten
from atlas.outside import parquet
from atlas.synthetic import generate_lines
from tests.support.pages import ROOT

LINES = [*generate_lines(1, 1, datetime(2026, 1, 8, tzinfo=UTC)), b'{"uuid":"a"}\n', b"{}\n"]


FOLDER = ROOT / "config" / "foundry"
FILES = [
    (21, "foundry", "schema.json"),
    (21, "spark-ddl", "schema.ddl"),
    (21, "json-schema", "row.schema.json"),
    (23, "foundry", "schema-23.json"),
    (23, "spark-ddl", "schema-23.ddl"),
    (23, "json-schema", "row-23.schema.json"),
]

forms = pytest.mark.parametrize("columns", [21, 23])


def make_rows(columns):
    return flatten(LINES, Header("ada", "iPhone", "T1", "T1"), form=RowForm(columns)).ndjson


@pytest.fixture
def printed(atlas):
    """Return the function that prints a schema."""

    def run(*options, **environ):
        ended = atlas("schema", *options, **environ)
        assert (ended.code, ended.err) == (0, "")
        return ended.out

    return run


@forms
def test_the_columns_are_those_of_the_encoded_rows_in_their_order(columns):
    row = msgspec.json.decode(make_rows(columns).splitlines()[0])
    types = get_column_types(columns)

    assert tuple(row) == tuple(types)
    assert len(types) == columns
    assert {21: COLUMNS, 23: KEYED_COLUMNS}[columns] == tuple(types)
    assert [name for name, type in types.items() if type == "double"] == ["value_double"]
    booleans = [name for name, type in types.items() if type == "boolean"]
    assert booleans == (["is_deleted"] if columns == 23 else [])


@pytest.mark.parametrize("options", [(), ("--format", "spark-ddl"), ("--columns", "21")])
def test_spark_ddl_is_a_list_of_names_and_types_of_spark(printed, options):
    columns = printed(*options).rstrip("\n").split(",\n")

    assert [each.split()[0] for each in columns] == list(COLUMNS)
    assert all(re.fullmatch("[a-z0-9_]+ (STRING|DOUBLE)", column) for column in columns)
    assert {"auth0_user_id STRING", "value_double DOUBLE"} <= set(columns)


def test_the_setting_decides_on_the_columns_unless_the_command_does(printed):
    plain = printed()

    assert printed(ATLAS_COLUMNS="23").endswith("sample_key STRING,\nis_deleted BOOLEAN\n")
    assert printed("--columns", "21", ATLAS_COLUMNS="23") == plain


@forms
def test_every_row_is_valid_by_the_json_schema_and_nothing_else_is(printed, columns):
    schema = msgspec.json.decode(printed("--format", "json-schema", "--columns", str(columns)))
    jsonschema.Draft202012Validator.check_schema(schema)
    is_valid = jsonschema.Draft202012Validator(schema).is_valid
    rows = [msgspec.json.decode(line) for line in make_rows(columns).splitlines()]

    assert all(map(is_valid, rows))
    assert len(rows) == len(LINES)
    for change in ({"value_double": "60"}, {"unit": None}, {"another": ""}):
        assert not is_valid(rows[0] | change)
    assert not is_valid({name: rows[0][name] for name in COLUMNS[1:]})


@forms
def test_the_arrow_schema_is_python_and_that_of_the_parquet_files(printed, columns):
    found = {}
    exec(printed("--format", "arrow", "--columns", str(columns)), found)

    table = pa.parquet.read_table(pa.BufferReader(parquet.to_parquet(make_rows(columns))))
    assert table.schema.remove_metadata() == found["schema"]


@forms
def test_the_schema_for_foundry_is_its_own_of_json_lines(printed, columns):
    schema = msgspec.json.decode(printed("--format", "foundry", "--columns", str(columns)))

    assert schema["fieldSchemaList"][0] == {
        "type": "STRING",
        "name": "auth0_user_id",
        "nullable": True,
        "customMetadata": {},
    }
    assert [each["name"] for each in schema["fieldSchemaList"]] == list(get_column_types(columns))
    assert schema["dataFrameReaderClass"].endswith(".DataSourceDataFrameReader")
    assert schema["customMetadata"] == {"format": "json", "options": {}}


@pytest.mark.parametrize(("columns", "format", "name"), FILES)
def test_a_committed_schema_is_that_of_the_code(printed, columns, format, name):
    printed_now = printed("--format", format, "--columns", str(columns))

    assert (FOLDER / name).read_text(encoding="utf-8") == printed_now, "just row-schemas"


def test_the_verb_writes_every_committed_schema():
    recipe = (ROOT / "justfile").read_text(encoding="utf-8")
    for columns, format, name in FILES:
        line = f"atlas schema --columns {columns} --format {format} > config/foundry/{name}\n"
        assert line in recipe
    written = {name for _, _, name in FILES}
    assert {each.name for each in FOLDER.iterdir() if "schema" in each.name} == written


def test_an_unknown_format_is_one_line_that_names_all(atlas):
    told = atlas("schema", "--format", "avro").in_one_line(2)

    for name in ("--format", "spark-ddl", "json-schema", "arrow", "foundry"):
        assert name in told


@pytest.mark.parametrize("columns", ["22", "all", ""])
def test_another_number_of_columns_is_refused(atlas, columns):
    told = atlas("schema", "--columns", columns).in_one_line(2)

    assert "--columns" in told
    assert "21" in told
    assert "23" in told
