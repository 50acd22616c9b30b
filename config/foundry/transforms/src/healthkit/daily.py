"""Days: one row for each user, type, unit and day."""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from healthkit.schemas import make_schema

DAILY_SCHEMA = make_schema("""
    auth0_user_id STRING, sample_type STRING, unit STRING, day DATE, samples BIGINT,
    value_sum DOUBLE, value_mean DOUBLE, value_min DOUBLE, value_max DOUBLE, month STRING
""")

QUANTITY = "HKQuantityTypeIdentifier"
DIETARY = QUANTITY + "Dietary"  # all of them are cumulative
# Types that HealthKit adds up: HKQuantityAggregationStyle.cumulative in Apple's documentation.
CUMULATIVE = """
    ActiveEnergyBurned AppleExerciseTime AppleMoveTime AppleStandTime BasalEnergyBurned
    DistanceCrossCountrySkiing DistanceCycling DistanceDownhillSnowSports DistancePaddleSports
    DistanceRowing DistanceSkatingSports DistanceSwimming DistanceWalkingRunning
    DistanceWheelchair FlightsClimbed InhalerUsage InsulinDelivery NikeFuel
    NumberOfAlcoholicBeverages NumberOfTimesFallen PushCount StepCount SwimmingStrokeCount
    TimeInDaylight
""".split()
# Types whose value is a code, or that have none, are only counted.
COUNTED = ("HKCategoryTypeIdentifier", "HKCorrelationTypeIdentifier", "HKWorkoutTypeIdentifier")


def is_cumulative() -> Column:
    kind = F.col("sample_type")
    return kind.isin([QUANTITY + name for name in CUMULATIVE]) | kind.startswith(DIETARY)


def is_counted() -> Column:
    first, *others = (F.col("sample_type").startswith(prefix) for prefix in COUNTED)
    for other in others:
        first |= other
    return first


def summarize_days(samples: DataFrame) -> DataFrame:
    """Add up cumulative types, and average all others.

    Phone and watch both count the same steps. So, of each hour, only the source with the largest
    total counts.
    """
    day = ["auth0_user_id", "sample_type", "unit", "day", "month"]
    hour = F.date_trunc("hour", "start_date").alias("hour")
    by_source = (
        samples.filter(F.col("day").isNotNull() & (F.col("sample_type") != ""))
        .groupBy(*day, hour, "source_name")
        .agg(
            F.count("*").alias("samples"),
            F.count("value_double").alias("values"),
            F.sum("value_double").alias("total"),
            F.min("value_double").alias("low"),
            F.max("value_double").alias("high"),
        )
    )
    by_hour = by_source.groupBy(*day, "hour").agg(
        F.sum("samples").alias("samples"),
        F.sum("values").alias("values"),
        F.sum("total").alias("total"),
        F.max("total").alias("largest"),
        F.min("low").alias("low"),
        F.max("high").alias("high"),
    )
    is_mean = ~is_cumulative() & ~is_counted()
    days = by_hour.groupBy(*day).agg(
        F.sum("samples").alias("samples"),
        F.sum("largest").alias("largest"),
        (F.sum("total") / F.sum("values")).alias("mean"),
        F.min("low").alias("low"),
        F.max("high").alias("high"),
    )
    return days.withColumns(
        {
            "value_sum": F.when(is_cumulative(), F.col("largest")),
            "value_mean": F.when(is_mean, F.col("mean")),
            "value_min": F.when(is_mean, F.col("low")),
            "value_max": F.when(is_mean, F.col("high")),
        }
    ).select(*DAILY_SCHEMA.names)
