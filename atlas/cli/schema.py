"""`atlas schema`: prints the columns of the dataset as a schema for other systems."""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Annotated

import msgspec
import typer

from atlas.core.dataset_schema import build_ndjson_schema, get_column_types
from atlas.core.rows import ColumnType

Types = Mapping[str, ColumnType]

# https://json-schema.org/draft/2020-12
JSON_TYPES = {"string": "string", "double": ["number", "null"], "boolean": "boolean"}
# https://arrow.apache.org/docs/python/api/datatypes.html
ARROW_TYPES = {"string": "pa.string()", "double": "pa.float64()", "boolean": "pa.bool_()"}


class SchemaFormat(StrEnum):
    """A language of schemas."""

    SPARK_DDL = "spark-ddl"
    JSON_SCHEMA = "json-schema"
    ARROW = "arrow"
    FOUNDRY = "foundry"


class ColumnCount(StrEnum):
    """A number of columns: see `RowForm`."""

    PLAIN = "21"
    KEYED = "23"


FormatOption = Annotated[
    SchemaFormat,
    typer.Option(
        "--format",
        metavar="FORMAT",
        help="spark-ddl; json-schema; arrow, as Python; or foundry, for NDJSON files.",
    ),
]
ColumnsOption = Annotated[
    ColumnCount,
    typer.Option(
        "--columns",
        metavar="N",
        envvar="ATLAS_COLUMNS",
        help="21, or 23 with sample_key and is_deleted.",
    ),
]


def schema(
    format: FormatOption = SchemaFormat.SPARK_DDL, columns: ColumnsOption = ColumnCount.PLAIN
) -> None:
    """Print the columns as a schema for another system.

    The schema for Foundry can be pasted there: in the dataset, Details, Schema, Edit.

    Example: atlas schema --format json-schema > row.schema.json
    """
    typer.echo(render_schema(format, int(columns)))


def render_schema(format: SchemaFormat, columns: int) -> str:
    """Render the 21 or 23 columns in a language of schemas."""
    if format is SchemaFormat.FOUNDRY:
        return format_json(build_ndjson_schema(columns))
    return RENDERERS[format](get_column_types(columns))


def render_spark_ddl(types: Types) -> str:
    """Render the text that `spark.read.schema` takes."""
    return ",\n".join(f"{name} {type.upper()}" for name, type in types.items())


def render_json_schema(types: Types) -> str:
    """Render a JSON Schema of one line of a file."""
    return format_json(
        {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": "A row of Atlas",
            "type": "object",
            "properties": {name: {"type": JSON_TYPES[type]} for name, type in types.items()},
            "required": list(types),
            "additionalProperties": False,
        }
    )


def render_arrow(types: Types) -> str:
    """Render a schema as Python: Arrow has no text form of its own that its libraries read."""
    fields = [f'    ("{name}", {ARROW_TYPES[type]}),' for name, type in types.items()]
    return "\n".join(["import pyarrow as pa", "", "schema = pa.schema([", *fields, "])"])


def format_json(value: object) -> str:
    return msgspec.json.format(msgspec.json.encode(value)).decode()


RENDERERS: dict[SchemaFormat, Callable[[Types], str]] = {
    SchemaFormat.SPARK_DDL: render_spark_ddl,
    SchemaFormat.JSON_SCHEMA: render_json_schema,
    SchemaFormat.ARROW: render_arrow,
}
