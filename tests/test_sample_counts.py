"""The days of samples, as a phone counts them and as Atlas does."""

import random
from collections import Counter
from datetime import UTC, date, datetime, timedelta, timezone

import pytest

from atlas.core.sample_counts import SampleCounter, SampleRow, find_day, shorten_type

ZONES = ("Z", "+01:00", "-09:30", "+05:45", "+14:00")
SEED = 22


def hours(text):
    sign = -1 if text[0] == "-" else 1
    return 0 if text == "Z" else sign * (int(text[1:3]) + int(text[4:]) / 60)


@pytest.mark.parametrize("zones", [["Z"], ["+01:00", "Z"], ["-09:30"], list(ZONES)])
def test_each_sample_is_of_the_day_that_a_calendar_of_the_zone_shows(zones):
    """Dates are grouped before they are parsed; that changes no day."""
    rng = random.Random(SEED)
    expected, rows = Counter(), []
    for number in range(4_000):
        at = datetime(2026, 3, 4, tzinfo=UTC) + timedelta(seconds=rng.randrange(4 * 86_400))
        own = rng.choice(ZONES)
        local = at.astimezone(timezone(timedelta(hours=hours(own))))
        start = f"{local:%Y-%m-%dT%H:%M:%S}{own}"
        rows.append(
            SampleRow("ada", "HKQuantityTypeIdentifierHeartRate", f"{number}", start, "", 1)
        )
        for zone in zones:
            day = at.astimezone(timezone(timedelta(hours=hours(zone)))).date()
            expected["HeartRate", day.isoformat(), zone] += 1
    counter = SampleCounter("ada", zones, date(2026, 1, 1))
    counter.add(rows[:2_500])
    counter.add(rows[2_500:])

    assert counter.count() == expected


@pytest.mark.parametrize(
    ("start", "day"),
    [
        ("2026-03-04T23:30:00Z", "2026-03-05"),
        ("2026-03-04T23:30:00.123+0000", "2026-03-05"),
        ("2026-03-05 01:30:00 +0200", "2026-03-05"),
        ("2026-03-04T23:30:00", "2026-03-04"),
        ("2026-03-04", "2026-03-04"),
        ("0001-01-01T00:00:00+14:00", "0001-01-01"),
        ("9999-12-31T23:30:00Z", "9999-12-31"),
        ("yesterday at noon", "yesterday "),
    ],
)
def test_a_date_of_any_form_has_a_day(start, day):
    assert find_day(start, "+02:00") == day


def test_samples_without_a_uuid_are_known_by_their_type_dates_and_value():
    start, pulse = "2026-03-04T12:00:00+02:00", "HKQuantityTypeIdentifierHeartRate"
    values = (60.0, 61.0, 60.0)
    rows = [SampleRow("ada", pulse, "", start, start, value) for value in values]
    counter = SampleCounter("ada", [None], date.min)
    counter.add(rows)

    assert set(counter.count().values()) == {2}


@pytest.mark.parametrize(
    ("type", "name"),
    [
        ("HKQuantityTypeIdentifierHeartRate", "HeartRate"),
        ("HeartRate", "HeartRate"),
        ("HKWorkoutTypeIdentifier", "Workout"),
        ("HKDataTypeIdentifierElectrocardiogram", "Electrocardiogram"),
    ],
)
def test_a_type_has_one_name_with_and_without_its_prefix(type, name):
    assert shorten_type(type) == name
