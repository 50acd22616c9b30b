"""The rules of the tables, on rows made for them: one build, and a look at each table."""

from datetime import date
from importlib import import_module

import pytest

from tests.support.transforms import (
    EARLY,
    LATE,
    QUANTITY,
    SOURCE,
    TransformsRun,
    deletion,
    sample,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),  # py4j's
]

DATES = {
    "2026-01-01T08:00:00.939Z": "2026-01-01 08:00:00.939+00",
    "2026-01-01 08:00:00 +0200": "2026-01-01 06:00:00+00",
    "2026-01-01T08:00:00-03:30": "2026-01-01 11:30:00+00",
    "2026-01-01T08:00:00.123456789Z": "2026-01-01 08:00:00.123456+00",
    " 2026-01-01T08:00:00Z ": "2026-01-01 08:00:00+00",
    "2026-01-01T08:00:00": None,  # in which zone?
    "2026-02-30T08:00:00Z": None,
    "2026-01-01T24:00:00Z": None,
    "2026-01-01T08:00:60Z": None,
    "4001-01-01T00:00:00Z": None,  # the distant future
    "2026-01-01": None,
    "1767254400": None,
    "yesterday": None,
}
NUMBERS = {
    "72": 72.0, " -7.25e1 ": -72.5, "1e999": None, "NaN": None, "1d": None, "": None, "high": None,
}  # fmt: skip


def sleep(source, stage, start, end, **more):
    return sample(
        f"{source} {stage} {start} {end}",
        "HKCategoryTypeIdentifierSleepAnalysis",
        f"2026-01-{start}:00Z",
        stage,
        end=f"2026-01-{end}:00Z",
        source_name=source,
        **more,
    )


KEYS = [
    sample("newer", value=1.0),
    sample("newer", value=2.0, ingested_at=LATE),
    sample("older", value=2.0, ingested_at=LATE),
    sample("older", value=1.0),
    sample("exported later", value=1.0, export_timestamp=EARLY),
    sample("exported later", value=2.0, export_timestamp=LATE),
    sample("at once", value=2.0),
    sample("at once", value=1.0),
    sample("deleted"),
    deletion("deleted", ingested_at=LATE),
    deletion("deleted before it came"),
    sample("deleted before it came", ingested_at=LATE),
    sample("shared"),
    sample("shared", auth0_user_id="auth0|zoe"),
    sample("", value=7.0, sample_type="HKNoUuid"),
    sample("", value=7.0, sample_type="HKNoUuid", ingested_at=LATE),
    sample("", value=8.0, sample_type="HKNoUuid"),
]
DAYS = [
    sample("a", "FlightsClimbed", "2026-03-01T08:10:00Z", 100.0),
    sample("b", "FlightsClimbed", "2026-03-01T08:50:00Z", 30.0),
    sample("c", "FlightsClimbed", "2026-03-01T08:20:00Z", 120.0, source_name="Watch"),
    sample("d", "FlightsClimbed", "2026-03-01T09:00:00Z", 50.0, source_name="Watch"),
    sample("e", "FlightsClimbed", "2026-03-01T23:59:59Z", 1.0),
    sample("f", "FlightsClimbed", "2026-03-02T00:00:00Z", 2.0),
    sample("g", "HeartRate", "2026-03-01T08:00:00Z", 60.0, unit="count/min"),
    sample("h", "HeartRate", "2026-03-01T12:00:00Z", 72.5, unit="count/min", source_name="Watch"),
    sample("i", "HKNewNextAutumn", "2026-03-01T12:00:00Z", 5.0),
    sample("j", "HKCategoryTypeIdentifierAppleStandHour", "2026-03-01T12:00:00Z", 1.0),
    sample("k", "DistanceCycling", "2026-03-01T12:00:00Z", 2.0, unit="km"),
    sample("l", "DistanceCycling", "2026-03-01T12:00:00Z", 1.0, unit="mi"),
    sample("m", "DietaryWater", "2026-03-01T12:00:00Z", 0.0, unit="mL"),
    sample("n", "BodyMass", "2026-03-01T12:00:00Z", None, unit="kg"),
]
NIGHTS = [
    sleep("Watch", 3.0, "05T22:00", "05T23:00"),
    sleep("Watch", 3.0, "05T22:30", "05T23:30"),  # half an hour of it is counted already
    sleep("Watch", 4.0, "05T23:30", "06T00:30"),
    sleep("Watch", 2.0, "06T00:30", "06T00:40"),
    sleep("Watch", 5.0, "06T00:40", "06T01:00"),
    sleep("iPhone", 0.0, "05T21:00", "06T07:00"),
    sleep("App", 1.0, "05T23:00", "06T01:00"),
    sleep("App", 1.0, "06T13:00", "06T14:00"),  # a nap counts for the next night
    sleep("App", 3.0, "07T01:00", "09T01:00"),  # two days: a mistake
    sleep("App", 3.0, "07T02:00", "07T01:00"),
    sleep("App", 9.0, "07T02:00", "07T03:00"),  # no such stage
]
YOGA = {"activityType": "Yoga", "durationSeconds": 600.5, "totalDistanceMeters": 0}
WORKOUT = {"data_type": "workout", "end": "2026-01-01T08:20:00Z"}
WORKOUTS = [
    sample("yoga", "HKWorkoutTypeIdentifier", record=YOGA, **WORKOUT),
    sample("run", "HKWorkoutTypeIdentifier", record={"activityType": 37}, **WORKOUT),
    sample("odd", "HKWorkoutTypeIdentifier", record={"durationSeconds": "long"}, **WORKOUT),
]


@pytest.fixture(scope="module")
def built(spark, tmp_path_factory):
    run = TransformsRun(spark, tmp_path_factory.mktemp("rules"))
    dates = [sample(f"date {text}", "HKDate", text) for text in DATES]
    numbers = [sample(f"number {text}", "HKNumber", value=text) for text in NUMBERS]
    run.put_rows("numbers.ndjson", *numbers)
    run.put_rows("rows.ndjson", *KEYS, *DAYS, *NIGHTS, *WORKOUTS, *dates)
    run.update()
    return run


def test_duckdb_makes_the_same_tables(built):
    assert built.differences() == {}


def test_the_tables_are_as_expected(built):
    assert built.violations() == {}


@pytest.mark.parametrize("uuid", ["newer", "older", "exported later", "at once"])
def test_of_rows_with_one_key_the_latest_stays(built, uuid):
    assert built.query(f"SELECT value_double FROM samples WHERE uuid = '{uuid}'") == [(2.0,)]


def test_a_deletion_wins_whenever_it_has_come(built):
    assert built.query("SELECT uuid FROM samples WHERE uuid LIKE 'deleted%'") == []
    found = built.query("SELECT sample_key FROM deletions ORDER BY 1")
    assert found == [("deleted",), ("deleted before it came",)]


def test_a_uuid_is_one_sample_of_each_user(built):
    found = built.query("SELECT auth0_user_id FROM samples WHERE uuid = 'shared' ORDER BY 1")
    assert found == [("auth0|ada",), ("auth0|zoe",)]


def test_the_same_line_without_a_uuid_counts_once(built):
    found = built.query("""
        SELECT value_double, sample_key = sha256(raw_healthkit_record)
        FROM samples WHERE sample_type = 'HKNoUuid' ORDER BY 1
    """)
    assert found == [(7.0, True), (8.0, True)]


@pytest.mark.parametrize("text", DATES)
def test_a_date_is_a_moment_or_null_with_its_text(built, text):
    ((found, kept, month),) = built.query(f"""
        SELECT start_date::VARCHAR, start_date_text, month FROM samples WHERE uuid = 'date {text}'
    """)
    assert found == DATES[text]
    assert kept == (None if found else text)
    assert month == ("2026-01" if found else "none")


@pytest.mark.parametrize("text", NUMBERS)
def test_a_number_as_text_is_a_number_or_null(built, text):
    found = built.query(f"SELECT value_double FROM samples WHERE uuid = 'number {text}'")
    assert found == [(NUMBERS[text],)]


def day_of(built, kind, day="2026-03-01", unit=""):
    kind = kind if kind.startswith("HK") else QUANTITY + kind
    (found,) = built.query(f"""
        SELECT samples, value_sum, value_mean, value_min, value_max FROM daily
        WHERE sample_type = '{kind}' AND day = '{day}' AND unit = '{unit}'
    """)
    return found


def test_where_phone_and_watch_have_counted_the_larger_of_each_hour_counts(built):
    largest = 130.0 + 50.0 + 1.0  # the phone's at 8, not the 120 of the watch
    assert day_of(built, "FlightsClimbed") == (5, largest, None, None, None)
    assert day_of(built, "FlightsClimbed", "2026-03-02") == (1, 2.0, None, None, None)


def test_what_is_measured_has_a_mean(built):
    assert day_of(built, "HeartRate", unit="count/min") == (2, None, 66.25, 60.0, 72.5)
    assert day_of(built, "HKNewNextAutumn") == (1, None, 5.0, 5.0, 5.0)
    assert day_of(built, "BodyMass", unit="kg") == (1, None, None, None, None)


def test_what_has_a_code_is_counted(built):
    assert day_of(built, "HKCategoryTypeIdentifierAppleStandHour") == (1, None, None, None, None)


def test_units_are_not_mixed(built):
    assert day_of(built, "DistanceCycling", unit="km")[1] == 2.0
    assert day_of(built, "DistanceCycling", unit="mi")[1] == 1.0


def test_nothing_to_add_up_is_zero(built):
    assert day_of(built, "DietaryWater", unit="mL")[1] == 0.0


def test_a_night_is_that_of_the_source_that_saw_the_most_sleep(built):
    found = built.query("""
        SELECT night, source_name, asleep_minutes, core_minutes, deep_minutes, rem_minutes,
            unspecified_minutes, awake_minutes, in_bed_minutes, asleep_from::VARCHAR,
            asleep_until::VARCHAR
        FROM sleep ORDER BY night
    """)
    watch = (date(2026, 1, 6), "Watch", 170.0, 90.0, 60.0, 20.0, 0.0, 10.0, 600.0)
    nap = (date(2026, 1, 7), "App", 60.0, 0.0, 0.0, 0.0, 60.0, 0.0, 0.0)
    assert found == [
        (*watch, "2026-01-05 22:00:00+00", "2026-01-06 01:00:00+00"),
        (*nap, "2026-01-06 13:00:00+00", "2026-01-06 14:00:00+00"),
    ]


def test_a_workout_has_the_fields_of_its_record(built):
    found = built.query("""
        SELECT sample_key, activity_type, duration_seconds, distance_m, total_energy_kcal
        FROM workouts ORDER BY 1
    """)
    assert found == [
        ("odd", None, 1200.0, None, None),
        ("run", "37", 1200.0, None, None),
        ("yoga", "Yoga", 600.5, 0.0, None),
    ]


def test_days_and_nights_are_those_of_the_time_zone(run):
    run.zone = "America/Los_Angeles"
    run.put_rows(
        "rows.ndjson",
        sample("a", start="2026-01-02T07:59:00Z"),
        sample("b", start="2026-01-02T08:00:00Z"),
        sleep("Watch", 3.0, "05T19:59", "05T20:10"),  # before and after noon there
        sleep("Watch", 3.0, "05T20:00", "05T20:20"),
    )
    run.update()

    days = run.query("SELECT day FROM daily ORDER BY 1")
    nights = run.query("SELECT night, asleep_minutes FROM sleep ORDER BY 1")
    assert [day for (day,) in days if day < date(2026, 1, 3)] == [
        date(2026, 1, 1),
        date(2026, 1, 2),
    ]
    assert nights == [(date(2026, 1, 5), 11.0), (date(2026, 1, 6), 20.0)]
    assert run.differences() == {}


def test_a_table_that_breaks_its_expectations_is_told(spark):
    expectations = import_module("healthkit.expectations")
    schemas = import_module("healthkit.updates").SCHEMAS
    night = ("auth0|ada", date(2026, 1, 1), "Watch", *[1.0] * 7, None, None, "2026-01")
    nameless = (None, *night[1:])
    nights = spark.createDataFrame([night, night, nameless], schemas["sleep"])

    found = expectations.find_violations(nights, expectations.EXPECTATIONS["sleep"])
    assert found == {"auth0_user_id is null": 1, "auth0_user_id, night is not unique": 1}


def test_both_languages_know_the_same_cumulative_types(spark):
    sql = (SOURCE / "healthkit" / "tables.sql").read_text(encoding="utf-8")
    for name in import_module("healthkit.daily").CUMULATIVE:
        assert f"'{name}'" in sql
