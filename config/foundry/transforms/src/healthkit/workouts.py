"""Workouts: one row for each. Their fields are in the raw record only."""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from healthkit.raw import read_number
from healthkit.schemas import make_schema

WORKOUTS_SCHEMA = make_schema("""
    auth0_user_id STRING, sample_key STRING, activity_type STRING, start_date TIMESTAMP,
    end_date TIMESTAMP, duration_seconds DOUBLE, active_energy_kcal DOUBLE,
    total_energy_kcal DOUBLE, distance_m DOUBLE, source_name STRING, day DATE, month STRING
""")


def list_workouts(samples: DataFrame) -> DataFrame:
    is_workout = (F.col("data_type") == "workout") | (
        F.col("sample_type") == "HKWorkoutTypeIdentifier"
    )
    lasted = (F.unix_micros("end_date") - F.unix_micros("start_date")) / 1_000_000
    return (
        samples.filter(is_workout)
        .withColumns(
            {
                "activity_type": F.get_json_object("raw_healthkit_record", "$.activityType"),
                "duration_seconds": F.coalesce(read_field("durationSeconds"), lasted),
                "active_energy_kcal": read_field("activeEnergyKilocalories"),
                "total_energy_kcal": read_field("totalEnergyKilocalories"),
                "distance_m": read_field("totalDistanceMeters"),
            }
        )
        .select(*WORKOUTS_SCHEMA.names)
    )


def read_field(key: str) -> Column:
    return read_number(F.get_json_object("raw_healthkit_record", f"$.{key}"))
