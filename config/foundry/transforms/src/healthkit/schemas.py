"""Schemas, written as in SQL: StructType.fromDDL needs a session, and an import has none."""

from pyspark.sql.types import (
    DataType,
    DateType,
    DoubleType,
    LongType,
    StringType,
    StructField,
    StructType,
    TimestampType,
)

TYPES: dict[str, DataType] = {
    "BIGINT": LongType(),
    "DATE": DateType(),
    "DOUBLE": DoubleType(),
    "STRING": StringType(),
    "TIMESTAMP": TimestampType(),
}


def make_schema(columns: str) -> StructType:
    """Make the schema of `name TYPE, ...`."""
    pairs = (column.split() for column in columns.split(","))
    return StructType([StructField(name, TYPES[kind]) for name, kind in pairs])
