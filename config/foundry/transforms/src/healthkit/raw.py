"""Reads the raw files that Atlas has committed: NDJSON and Parquet, with 21 or 23 columns."""

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StringType, StructField, StructType

from healthkit.schemas import make_schema

NUMBER = r"^\s*-?\d+(\.\d+)?([eE][+-]?\d+)?\s*$"
DOUBLE_MAX = 1.7976931348623157e308
# The schema is explicit: from a file of whole numbers Spark would infer integers. `sample_key` and
# `is_deleted`, which rows of 23 columns have, are not read: they follow from the others.
RAW_SCHEMA = make_schema("""
    auth0_user_id STRING, device STRING, ingested_at STRING, export_timestamp STRING,
    sample_type STRING, source_name STRING, sample_class STRING, quantity_type STRING,
    source_version STRING, data_type STRING, uuid STRING, start_date STRING, end_date STRING,
    value_double DOUBLE, unit STRING, device_hardware_version STRING, device_model STRING,
    device_name STRING, device_manufacturer STRING, device_software_version STRING,
    raw_healthkit_record STRING
""")
# Rows of the service before Atlas can have a number as text.
TEXT_SCHEMA = StructType([StructField(name, StringType()) for name in RAW_SCHEMA.names])


def read_raw(spark: SparkSession, paths: Sequence[str]) -> DataFrame:
    """Read the rows of these files. A line that is not JSON is an error, never a loss."""
    parquet = [path for path in paths if path.endswith(".parquet")]
    ndjson = [path for path in paths if path.endswith(".ndjson")]
    rows = spark.createDataFrame([], RAW_SCHEMA)
    if ndjson:
        reader = spark.read.schema(TEXT_SCHEMA).options(mode="FAILFAST", lineSep="\n")
        texts = reader.json(ndjson)
        rows = rows.union(texts.withColumn("value_double", read_number(F.col("value_double"))))
    if parquet:
        rows = rows.union(spark.read.schema(RAW_SCHEMA).parquet(*parquet))
    return rows


def read_number(text: Column) -> Column:
    """Return the finite number that a text is, or null."""
    number = F.when(text.rlike(NUMBER), text.try_cast("double"))
    return F.when(F.abs(number) <= DOUBLE_MAX, number)
