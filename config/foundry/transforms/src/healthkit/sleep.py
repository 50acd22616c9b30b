"""Nights: one row for each user and night, from noon to noon."""

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from healthkit.samples import SLEEP_TYPE
from healthkit.schemas import make_schema

SLEEP_SCHEMA = make_schema("""
    auth0_user_id STRING, night DATE, source_name STRING, asleep_minutes DOUBLE,
    core_minutes DOUBLE, deep_minutes DOUBLE, rem_minutes DOUBLE, unspecified_minutes DOUBLE,
    awake_minutes DOUBLE, in_bed_minutes DOUBLE, asleep_from TIMESTAMP, asleep_until TIMESTAMP,
    month STRING
""")

# HKCategoryValueSleepAnalysis
STAGES = {0: "in_bed", 1: "unspecified", 2: "awake", 3: "core", 4: "deep", 5: "rem"}
ASLEEP = (1, 3, 4, 5)
MICROSECONDS_MAX = 24 * 3_600_000_000  # a longer interval is a mistake
MINUTE = 60_000_000


def summarize_nights(samples: DataFrame) -> DataFrame:
    """Return the minutes of each stage by the source that saw the most sleep.

    Minutes that a source has recorded twice count once. Only the time in bed is the longest that
    any source has recorded, because a watch does not record it.
    """
    night = ["auth0_user_id", "day", "month"]
    by_source = cover(samples).groupBy(*night, "source_name").agg(*add_up_stages())
    by_source = by_source.withColumn(
        "longest_in_bed", F.max("in_bed_minutes").over(Window.partitionBy(*night))
    )
    best = Window.partitionBy(*night).orderBy(
        F.desc("asleep_minutes"), F.desc("in_bed_minutes"), "source_name"
    )
    nights = by_source.withColumn("place", F.row_number().over(best)).filter("place = 1")
    nights = nights.withColumn("in_bed_minutes", F.col("longest_in_bed"))
    return nights.withColumnRenamed("day", "night").select(*SLEEP_SCHEMA.names)


def cover(samples: DataFrame) -> DataFrame:
    """Return the intervals with the time that each adds to the earlier ones of its stage.

    Sleep of any stage is also a stage of its own, `asleep`.
    """
    begin, end = F.unix_micros("start_date"), F.unix_micros("end_date")
    code = F.col("value_double")
    stages = F.create_map(*(F.lit(each) for pair in STAGES.items() for each in pair))
    stage = F.when(code.isin(list(STAGES)), stages[code.cast("int")])
    groups = F.when(code.isin(list(ASLEEP)), F.array(stage, F.lit("asleep")))
    intervals = samples.filter(
        (F.col("sample_type") == SLEEP_TYPE)
        & stage.isNotNull()
        & (end > begin)
        & (end - begin <= MICROSECONDS_MAX)
    ).select(
        *("auth0_user_id", "day", "month", "source_name", "start_date", "end_date"),
        begin.alias("begin"),
        end.alias("end"),
        F.explode(F.coalesce(groups, F.array(stage))).alias("stage"),
    )
    earlier = (
        Window.partitionBy("auth0_user_id", "day", "month", "source_name", "stage")
        .orderBy("begin", "end")
        .rowsBetween(Window.unboundedPreceding, -1)
    )
    covered = F.coalesce(F.max("end").over(earlier), F.col("begin"))
    added = F.greatest(F.lit(0), F.col("end") - F.greatest("begin", covered))
    return intervals.withColumn("covered", covered).withColumn("added", added)


def add_up_stages() -> list[Column]:
    stages = [*STAGES.values(), "asleep"]
    minutes = [
        (F.sum(F.when(F.col("stage") == name, F.col("added")).otherwise(0)) / MINUTE).alias(
            f"{name}_minutes"
        )
        for name in stages
    ]
    is_asleep = F.col("stage") == "asleep"
    return [
        *minutes,
        F.min(F.when(is_asleep, F.col("start_date"))).alias("asleep_from"),
        F.max(F.when(is_asleep, F.col("end_date"))).alias("asleep_until"),
    ]
