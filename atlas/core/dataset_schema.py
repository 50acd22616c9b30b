"""The columns of the dataset, in the form of Foundry's own schemas."""

from collections.abc import Mapping

from msgspec import Struct

from atlas.core.rows import COLUMNS, KEYED_COLUMN_TYPES, ColumnType

# The reader of Spark's data sources, which reads NDJSON if its format is "json"
JSON_READER = "com.palantir.foundry.spark.input.DataSourceDataFrameReader"


class SchemaColumn(Struct, frozen=True):
    """A column of a dataset; `kind` is a type of Foundry, such as STRING."""

    name: str
    kind: str


def get_column_types(columns: int) -> Mapping[str, ColumnType]:
    """Return the types of the 21 or 23 columns, in the order of the rows."""
    names = COLUMNS if columns == len(COLUMNS) else KEYED_COLUMN_TYPES
    return {name: KEYED_COLUMN_TYPES[name] for name in names}


def list_columns(columns: int) -> tuple[SchemaColumn, ...]:
    """Return the 21 or 23 columns as Foundry names their types."""
    types = get_column_types(columns)
    return tuple(SchemaColumn(name, type.upper()) for name, type in types.items())


def build_ndjson_schema(columns: int) -> dict[str, object]:
    """Build the schema of a dataset of NDJSON files, with the types given and not inferred."""
    fields = [
        {"type": each.kind, "name": each.name, "nullable": True, "customMetadata": {}}
        for each in list_columns(columns)
    ]
    return {
        "fieldSchemaList": fields,
        "dataFrameReaderClass": JSON_READER,
        "customMetadata": {"format": "json", "options": {}},
    }
