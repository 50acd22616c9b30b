"""Samples: typed rows, one for each sample.

A row's key is the user and the sample's uuid, or, without a uuid, the SHA-256 of the line. Of the
rows with the same key the latest wins, except that a deletion always wins: HealthKit never reuses
the uuid of a deleted sample, and phones send out of order, so a sample that arrives after its own
deletion is late, not new.
"""

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from healthkit.schemas import make_schema

KEY = ("auth0_user_id", "sample_key")
DATES = ("start_date", "end_date", "ingested_at", "export_timestamp")
SLEEP_TYPE = "HKCategoryTypeIdentifierSleepAnalysis"
NO_MONTH = "none"  # of samples without a readable start

SAMPLES_SCHEMA = make_schema("""
    auth0_user_id STRING, sample_key STRING, sample_type STRING, day DATE, start_date TIMESTAMP,
    end_date TIMESTAMP, value_double DOUBLE, unit STRING, source_name STRING,
    ingested_at TIMESTAMP, export_timestamp TIMESTAMP, device STRING, sample_class STRING,
    quantity_type STRING, source_version STRING, data_type STRING, uuid STRING,
    device_hardware_version STRING, device_model STRING, device_name STRING,
    device_manufacturer STRING, device_software_version STRING, raw_healthkit_record STRING,
    start_date_text STRING, end_date_text STRING, ingested_at_text STRING,
    export_timestamp_text STRING, month STRING
""")
DELETIONS_SCHEMA = make_schema("auth0_user_id STRING, sample_key STRING")

# A date with a time zone. Without one, a guess could be wrong by half a day; another century is a
# placeholder, such as HealthKit's distant future.
READABLE = (
    r"^\s*((?:19|20|21)\d\d-\d\d-\d\d)[T ]((?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d)"
    r"(?:(\.\d{1,6})\d*)?\s*(Z|[+-](?:0\d|1[0-4]):?[0-5]\d)\s*$"
)


def read_date(text: Column) -> Column:
    """Return the moment that a text names, in microseconds, or null."""
    iso = F.regexp_replace(text, READABLE, "$1T$2$3$4")
    return F.when(text.rlike(READABLE), iso.try_cast("timestamp"))


def type_rows(raw: DataFrame, zone: str) -> DataFrame:
    """Return the samples' columns of every raw row, and `is_deleted`.

    `day` is the day of the start in this time zone; of sleep after noon, the day after. The text of
    a date is kept only if it is unreadable.
    """
    raw = raw.fillna("")  # absent texts; Atlas writes none
    texts = [F.col(name).alias(f"{name}_text") for name in DATES]
    rows = raw.select(*[name for name in raw.columns if name not in DATES], *texts)
    rows = rows.withColumns({name: read_date(F.col(f"{name}_text")) for name in DATES})
    has_uuid, line = F.col("uuid") != "", F.col("raw_healthkit_record")
    is_empty = (F.col("sample_type") == "") & (F.col("start_date_text") == "")
    rows = rows.withColumns(
        {
            "sample_key": F.when(has_uuid, F.col("uuid")).otherwise(F.sha2(line, 256)),
            "is_deleted": has_uuid & is_empty,
            "day": find_day(zone),
        }
    )
    rows = rows.withColumn(
        "month", F.coalesce(F.date_format("day", "yyyy-MM"), F.lit(NO_MONTH))
    ).withColumns({f"{name}_text": keep_unreadable(name) for name in DATES})
    return rows.select(*SAMPLES_SCHEMA.names, "is_deleted")


def find_day(zone: str) -> Column:
    start = F.from_utc_timestamp("start_date", zone)
    is_sleep = F.col("sample_type") == SLEEP_TYPE
    return F.to_date(F.when(is_sleep, start + F.expr("INTERVAL 12 HOURS")).otherwise(start))


def keep_unreadable(name: str) -> Column:
    text = F.col(f"{name}_text")
    return F.when(F.col(name).isNull() & (text != ""), text)


def pick_latest(rows: DataFrame) -> DataFrame:
    """Keep one row for each key. Rows of the same moment are told apart by their text."""
    best = Window.partitionBy(*KEY).orderBy(
        F.desc("is_deleted"),
        F.desc_nulls_last("ingested_at"),
        F.desc_nulls_last("export_timestamp"),
        F.desc("raw_healthkit_record"),
        F.desc("device"),
    )
    return rows.withColumn("place", F.row_number().over(best)).filter("place = 1").drop("place")
