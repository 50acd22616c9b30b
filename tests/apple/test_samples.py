"""Conversion of Apple's XML to the lines that the app would send."""

import uuid
from pathlib import Path

import msgspec
import pytest

from atlas.apple.common_fields import find_origin, parse_short_metadata_value
from atlas.apple.dates import to_utc
from atlas.apple.devices import parse_device
from atlas.apple.identity import NAMESPACE, make_uuid
from tests.apple.exports import WATCH, convert, convert_one, element, record, xml

SHARED = Path(__file__).parents[3] / "shared" / "data"
META = "MetadataEntry"
# Pinned: different UUIDs would import every sample a second time.
FOR_EVER = {1: "123DB034-8747-5253-BDCF-2AEF02BE18AB", 2: "2673A1D5-B0C7-5666-A19E-050D57D95F78"}


def test_a_quantity_is_a_line_as_the_app_sends_it():
    heart_rate = record(inside=element(META, key="HKMetadataKeyHeartRateMotionContext", value="1"))
    found = convert_one(heart_rate)

    assert convert_one(heart_rate, identity=1)["uuid"] == FOR_EVER[1]
    assert found.pop("uuid") == FOR_EVER[2]
    assert found == {
        "sampleType": "HKQuantityTypeIdentifierHeartRate",
        "sampleClass": "HKDiscreteQuantitySample",
        "dataType": "quantity",
        "quantityType": "HKQuantityTypeIdentifierHeartRate",
        "startDate": "2020-04-10T01:33:34.000Z",
        "endDate": "2020-04-10T01:33:34.000Z",
        "sourceName": "Ada’s Apple\u00a0Watch",
        "sourceVersion": "6.1.3",
        "device": {
            "name": "Apple Watch",
            "manufacturer": "Apple Inc.",
            "model": "Watch",
            "hardwareVersion": "Watch5,3",
            "softwareVersion": "6.1.3",
        },
        "unit": "count/min",
        "valueDouble": 60,
        "metadata": {"HKMetadataKeyHeartRateMotionContext": 1},
    }


@pytest.mark.skipif(not SHARED.exists(), reason="the data of a real export are not here")
def test_a_real_export_is_what_its_owner_published_as_lines():
    found, reader = convert((SHARED / "watch_2020_export.xml").read_bytes())
    published = [
        msgspec.json.decode(each)
        for each in (SHARED / "watch_2020.ndjson").read_bytes().splitlines()
    ]

    for line in (*found, *published):
        del line["uuid"]  # made in another way
    assert (reader.tags_left_out, reader.is_complete) == (0, True)
    assert found == published


# dates


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        pytest.param("2020-04-10 03:38:56 +0200", "2020-04-10T01:38:56.000Z", id="east"),
        pytest.param("2019-12-31 20:00:01 -0800", "2020-01-01T04:00:01.000Z", id="next year"),
        pytest.param("2020-04-10 03:38:56 +0530", "2020-04-09T22:08:56.000Z", id="half an hour"),
        pytest.param("2020-04-10 03:38:56 +0000", "2020-04-10T03:38:56.000Z", id="UTC"),
        pytest.param("20150718161649+0200", "2015-07-18T14:16:49.000Z", id="iOS 8"),
        pytest.param("2020-07-29T13:51:19Z", "2020-07-29T13:51:19.000Z", id="GPX"),
        pytest.param("2020-04-10 03:38:56.5 +0200", "2020-04-10T01:38:56.500Z", id="milliseconds"),
    ],
)
def test_local_times_are_utc_with_milliseconds(text, moment):
    assert to_utc(text) == moment
    assert to_utc(text) == moment, "and the second time, too"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2020-04-10 03:99:56 +0200",
        "2020-04-31 03:38:56 +0200",
        "2020-04-10 03:38:56",
        "2020-04-10 03:38:56 +9900",
        "0001-01-01 00:00:00 +0200",
    ],
)
def test_what_is_no_moment_stays_as_it_stands(text):
    assert to_utc(text) == text
    assert convert_one(record(startDate=text))["startDate"] == text


# devices


def test_a_comma_stands_in_a_value_and_a_pointer_nowhere():
    text = WATCH.replace("&lt;", "<").replace("&gt;", ">").replace("Inc.", "Inc., Cupertino")

    found = parse_device(text)
    assert msgspec.json.decode(found.json)["manufacturer"] == "Apple Inc., Cupertino"
    assert msgspec.json.decode(found.json)["hardwareVersion"] == "Watch5,3"
    assert "0x" not in found.identity


@pytest.mark.parametrize("pointer", ["&lt;&lt;HKDevice: 0x1&gt;", "&lt;&lt;HKDevice: 0x"])
def test_a_device_is_read_whatever_is_left_of_its_pointer(pointer):
    found = convert_one(record(device=f"{pointer}, name:Watch, model:0x2002&gt;"))

    assert found["device"] == {"name": "Watch", "model": "0x2002"}


def test_a_device_is_parsed_once_for_all_of_its_pointers():
    find_origin.cache_clear()
    convert(xml(*(record(device=WATCH.replace("0x282", f"0x{n}")) for n in range(100))))

    assert find_origin.cache_info().misses == 1


def test_every_field_of_a_device_has_the_name_of_the_app():
    text = (
        "<<HKDevice: 0x1>, name:n, manufacturer:m, model:o, hardware:h, firmware:f, software:s, "
        "localIdentifier:l, UDIDeviceIdentifier:u, creation date:2023-09-19 08:00:00 +0000>"
    )

    assert msgspec.json.decode(parse_device(text).json) == {
        "name": "n",
        "manufacturer": "m",
        "model": "o",
        "hardwareVersion": "h",
        "firmwareVersion": "f",
        "softwareVersion": "s",
        "localIdentifier": "l",
        "udi": "u",
    }


@pytest.mark.parametrize(
    ("text", "json"),
    [
        pytest.param("<<HKDevice: 0x282d03020>>", None, id="nothing but a pointer"),
        pytest.param("Ada's scales", b'{"name":"Ada\'s scales"}', id="printed otherwise"),
    ],
)
def test_a_device_that_says_little(text, json):
    found = parse_device(text)
    assert (found.json and bytes(found.json)) == json


# uuids


def test_a_uuid_is_that_of_the_standard_in_upper_case():
    expected = uuid.uuid5(uuid.UUID(bytes=NAMESPACE), "a\x1fZoë’s Watch")

    assert make_uuid("a", "Zoë’s Watch") == str(expected).upper()


# values


@pytest.mark.parametrize(
    ("text", "json"),
    [
        ("0", 0),
        ("60.0", 60),
        ("-1.5", -1.5),
        ("129.90000000000001", 129.90000000000001),
        ("1e3", 1000),
        ("123456789012345678901234567890", 1.2345678901234568e29),
    ],
)
def test_a_number_is_the_same_number(text, json):
    found = convert_one(record(value=text))
    assert (found["valueDouble"], "valueText" in found) == (json, False)
    assert type(found["valueDouble"]) is type(json)


@pytest.mark.parametrize("text", ["much", "1e400", "nan", "1_000", "1,234"])
def test_what_is_no_number_is_text(text):
    found = convert_one(record(value=text))
    assert (found["valueText"], "valueDouble" in found) == (text, False)


def test_what_is_absent_is_left_out():
    bare = dict.fromkeys(["sourceVersion", "device", "unit", "value", "creationDate"], "absent")

    found = convert_one(record(**bare))
    assert not {"sourceVersion", "device", "unit", "valueDouble", "valueText"} & found.keys()
    assert None not in found.values()


@pytest.mark.parametrize(
    ("kind", "sample_class"),
    [
        ("StepCount", "HKCumulativeQuantitySample"),
        ("DietaryWater", "HKCumulativeQuantitySample"),
        ("DistanceCycling", "HKCumulativeQuantitySample"),
        ("BodyMass", "HKDiscreteQuantitySample"),
        ("OfNextAutumn", "HKDiscreteQuantitySample"),
    ],
)
def test_a_quantity_adds_up_or_it_does_not(kind, sample_class):
    found = convert_one(record(type=f"HKQuantityTypeIdentifier{kind}"))
    assert found["sampleClass"] == sample_class


@pytest.mark.parametrize(
    ("kind", "label", "number", "stage"),
    [
        ("SleepAnalysis", "SleepAnalysisInBed", 0, "inBed"),
        ("SleepAnalysis", "SleepAnalysisAsleep", 1, "asleepUnspecified"),
        ("SleepAnalysis", "SleepAnalysisAsleepUnspecified", 1, "asleepUnspecified"),
        ("SleepAnalysis", "SleepAnalysisAwake", 2, "awake"),
        ("SleepAnalysis", "SleepAnalysisAsleepCore", 3, "asleepCore"),
        ("SleepAnalysis", "SleepAnalysisAsleepDeep", 4, "asleepDeep"),
        ("SleepAnalysis", "SleepAnalysisAsleepREM", 5, "asleepREM"),
        ("AppleStandHour", "AppleStandHourStood", 0, None),
        ("AppleStandHour", "AppleStandHourIdle", 1, None),
        ("MindfulSession", "NotApplicable", 0, None),
        ("Headache", "SeverityMild", 2, None),
        ("MenstrualFlow", "MenstrualFlowHeavy", 4, None),
        ("MenstrualFlow", "VaginalBleedingNone", 5, None),
    ],
)
def test_the_label_of_a_category_is_its_number(kind, label, number, stage):
    found = convert_one(
        record(type=f"HKCategoryTypeIdentifier{kind}", value=f"HKCategoryValue{label}")
    )

    assert (found["dataType"], found["sampleClass"]) == ("category", "HKCategorySample")
    assert found["categoryType"] == found["sampleType"] == f"HKCategoryTypeIdentifier{kind}"
    assert (found["valueInteger"], found.get("sleepStage")) == (number, stage)
    assert "valueText" not in found


def test_a_label_that_is_newer_than_this_program_stays_text():
    found = convert_one(
        record(type="HKCategoryTypeIdentifierSleepAnalysis", value="HKCategoryValueSleepAnalysisX")
    )

    assert found["valueText"] == "HKCategoryValueSleepAnalysisX"
    assert not {"valueInteger", "sleepStage"} & found.keys()


@pytest.mark.parametrize(("text", "stage"), [("3", "asleepCore"), ("99", None)])
def test_ios_8_wrote_the_number_of_a_category(text, stage):
    found = convert_one(record(type="HKCategoryTypeIdentifierSleepAnalysis", value=text))
    assert (found["valueInteger"], found.get("sleepStage")) == (int(text), stage)


# metadata


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("HKIndoorWorkout", "0", False),
        ("HKMetadataKeySyncVersion", "1", 1),
        ("HKAverageMETs", "3.77421 kcal/hr·kg", "3.77421 kcal/hr·kg"),
        ("HKElevationGain", "1.5", 1.5),
        ("Version", "1.10", "1.10"),
        ("Serial", "007", "007"),
        ("Identifier", "12345678901234567890", "12345678901234567890"),
        ("Odd", "nan", "nan"),
        ("HKTimeZone", "Africa/Johannesburg", "Africa/Johannesburg"),
    ],
)
def test_metadata_that_are_numbers_are_numbers_and_names_stay_names(key, text, value):
    found = convert_one(record(inside=element(META, key=key, value=text)))
    assert found["metadata"] == {key: value}
    assert type(found["metadata"][key]) is type(value)


def test_a_document_in_the_metadata_is_kept_and_then_forgotten():
    before = parse_short_metadata_value.cache_info().currsize
    found = convert_one(record(inside=element(META, key="Workout", value="[1]" * 1_000)))

    assert found["metadata"] == {"Workout": "[1]" * 1_000}
    assert parse_short_metadata_value.cache_info().currsize == before


@pytest.mark.parametrize(("text", "flag"), [("1", True), ("0", False)])
def test_what_a_person_entered_says_so_twice(text, flag):
    found = convert_one(record(inside=element(META, key="HKWasUserEntered", value=text)))
    assert found["userProvidedFlag"] is found["metadata"]["HKWasUserEntered"] is flag


def test_heartbeats_are_kept():
    beat = element("InstantaneousBeatsPerMinute", bpm="65", time="23:47:49,20")
    found = convert_one(record(inside=element("HeartRateVariabilityMetadataList", beat * 2)))

    assert found["heartbeats"] == [{"bpm": 65, "time": "23:47:49,20"}] * 2


# correlations


SYSTOLIC = record(type="HKQuantityTypeIdentifierBloodPressureSystolic", value="120", unit="mmHg")
DIASTOLIC = record(type="HKQuantityTypeIdentifierBloodPressureDiastolic", value="80", unit="mmHg")
PRESSURE = element(
    "Correlation",
    element(META, key="HKWasUserEntered", value="1") + SYSTOLIC + DIASTOLIC,
    type="HKCorrelationTypeIdentifierBloodPressure",
    sourceName="Health",
    startDate="2020-04-10 03:33:34 +0200",
    endDate="2020-04-10 03:33:34 +0200",
)


def test_the_children_of_a_correlation_are_named_in_it_and_emitted_once():
    (systolic, diastolic, pressure), _ = convert(xml(SYSTOLIC, DIASTOLIC, PRESSURE))

    assert pressure["childSampleUUIDs"] == [systolic["uuid"], diastolic["uuid"]]
    assert pressure["correlationType"] == "HKCorrelationTypeIdentifierBloodPressure"
    assert (pressure["dataType"], pressure["sampleClass"]) == ("correlation", "HKCorrelation")
    assert pressure["userProvidedFlag"] is True
    assert "userProvidedFlag" not in systolic


def test_what_is_eaten_at_one_meal_are_correlations_of_their_own():
    soup, bread = (a_meal(value) for value in ("90", "120"))

    uuids = [line["uuid"] for line in convert(xml(soup, bread, soup))[0]]
    assert len(set(uuids)) == 3
    assert [line["uuid"] for line in convert(xml(soup, bread))[0]] == uuids[:2]
    before = [line["uuid"] for line in convert(xml(soup, bread, soup), identity=1)[0]]
    assert before[0] == before[2] != before[1]


def a_meal(value: str) -> str:
    return element(
        "Correlation",
        record(type="HKQuantityTypeIdentifierDietaryEnergyConsumed", value=value, unit="kcal")
        + record(type="HKQuantityTypeIdentifierDietaryProtein", value="3", unit="g"),
        type="HKCorrelationTypeIdentifierFood",
        startDate="2020-04-10 12:00:00 +0200",
        endDate="2020-04-10 12:00:00 +0200",
    )


def test_a_correlation_keeps_its_uuid_in_whatever_order_its_children_stand():
    turned = PRESSURE.replace(SYSTOLIC + DIASTOLIC, DIASTOLIC + SYSTOLIC)

    assert turned != PRESSURE
    assert convert_one(turned)["uuid"] == convert_one(PRESSURE)["uuid"]


# workouts


def a_workout(inside: str = "", **attributes: str) -> dict[str, object]:
    given = {
        "workoutActivityType": "HKWorkoutActivityTypeYoga",
        "duration": "55.46542123357455",
        "durationUnit": "min",
        "sourceName": "Watch",
        "startDate": "2020-04-06 09:04:51 +0200",
        "endDate": "2020-04-06 10:00:19 +0200",
    }
    return convert_one(element("Workout", inside, **(given | attributes)))


def test_a_workout_before_ios_16_has_its_totals_in_attributes():
    found = a_workout(
        totalDistance="1.5",
        totalDistanceUnit="mi",
        totalEnergyBurned="418.4",
        totalEnergyBurnedUnit="kJ",
    )

    assert (found["dataType"], found["sampleClass"]) == ("workout", "HKWorkout")
    assert (found["sampleType"], found["activityType"]) == ("HKWorkoutTypeIdentifier", "Yoga")
    assert found["durationSeconds"] == 3327.925
    assert found["totalEnergyKilocalories"] == found["activeEnergyKilocalories"] == 100
    assert found["totalDistanceMeters"] == 2414.016
    assert found["workoutEventCount"] == 0


def statistics(kind: str, unit: str, **figures: str) -> str:
    return element(
        "WorkoutStatistics", type=f"HKQuantityTypeIdentifier{kind}", **figures, unit=unit
    )


def test_a_workout_since_ios_16_has_them_in_statistics():
    part = statistics("DistanceCycling", "km", sum="10")
    found = a_workout(
        element("WorkoutEvent", type="HKWorkoutEventTypePause", date="2020-04-06 09:05:51 +0200")
        + element("WorkoutEvent", element(META, key="in", value="event"), type="Resume")
        + element("WorkoutActivity", part + element(META, key="in", value="part"), uuid="1")
        + statistics("ActiveEnergyBurned", "Cal", sum="158.9423116")
        + statistics("BasalEnergyBurned", "Cal", sum="70")
        + statistics("DistanceCycling", "km", sum="10")
        + statistics("DistanceSwimming", "yd", sum="100")
        + statistics("HeartRate", "count/min", average="100.5", minimum="60", maximum="140")
        + element("WorkoutRoute", element("FileReference", path="/workout-routes/route_1.gpx"))
        + element(META, key="HKIndoorWorkout", value="0")
    )

    assert found["totalEnergyKilocalories"] == found["activeEnergyKilocalories"] == 158.942312
    assert found["totalDistanceMeters"] == 10_091.44
    assert found["workoutEventCount"] == 2
    assert found["metadata"] == {"HKIndoorWorkout": False}
    assert found["routeFiles"] == ["route_1.gpx"]
    assert len(found["statistics"]) == 5
    assert found["statistics"][-1] == {
        "type": "HKQuantityTypeIdentifierHeartRate",
        "unit": "count/min",
        "average": 100.5,
        "minimum": 60,
        "maximum": 140,
    }


@pytest.mark.parametrize(
    ("duration", "unit", "seconds"),
    [("90", "s", 90), ("1.5", "hr", 5400), ("2", "min", 120), ("500", "ms", 0.5)],
)
def test_a_duration_is_in_seconds_whatever_its_unit(duration, unit, seconds):
    assert a_workout(duration=duration, durationUnit=unit)["durationSeconds"] == seconds


@pytest.mark.parametrize(("duration", "unit"), [("1", "fortnight"), ("long", "min")])
def test_a_total_in_no_known_unit_is_absent_and_not_wrong(duration, unit):
    assert "durationSeconds" not in a_workout(duration=duration, durationUnit=unit)


def test_a_workout_that_went_nowhere_went_0_metres():
    found = a_workout(totalDistance="0", totalDistanceUnit="km")
    assert found["totalDistanceMeters"] == 0
    assert "totalEnergyKilocalories" not in found


def test_a_record_inside_a_workout_is_a_sample_of_its_own():
    effort = record(type="HKQuantityTypeIdentifierEstimatedWorkoutEffortScore")
    workout, score = convert(
        xml(element("Workout", effort, workoutActivityType="HKWorkoutActivityTypeYoga"))
    )[0]

    assert (workout["activityType"], score["dataType"]) == ("Yoga", "quantity")
