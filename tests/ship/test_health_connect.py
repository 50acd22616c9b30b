"""The page on Health Connect: its lines become rows, and its uploader does as the guide says."""

import json
import re
from pathlib import Path

import pytest

from atlas.apple.vocabulary import NUMBERS, SLEEP, SLEEP_STAGES
from atlas.core.records import LINE_BYTES_MAX
from atlas.core.rows import Header, RowForm, flatten
from tests.support.client_guide import ROWS, STREAM

PAGE = Path(__file__).parents[2] / "atlas" / "client" / "health-connect.md"
TEXT = PAGE.read_text(encoding="utf-8")
(KOTLIN,) = re.findall(r"(?ms)^```kotlin\n(.*?)^```$", TEXT)
EXAMPLES = dict(re.findall(r"(?ms)^### ([^\n]+)\n(?:(?!^#).)*?^```ndjson\n(.*?)^```$", TEXT))
TYPES = TEXT.partition("### Types\n")[2].partition("\n## ")[0]
ID = "5d0c6b1e-6f5a-4c39-9a57-2b0a9a1f1f"
HK = "HKQuantityTypeIdentifier"
ACTIONS = {
    "done": "done",
    "again": "again",
    "token": "send",  # the first time; after that it tells the user
    "ask": "tell",
    "split": "setAside",
    "aside": "setAside",
}

# sample_type, end of the uuid, start, end, value, unit
EXPECTED = {
    "An interval": [(f"{HK}StepCount", "01", "08:00:00", "08:15:00", 1234, "count")],
    "An instant, entered by hand": [
        (f"{HK}BodyMass", "02", "06:45:00", "06:45:00", 71.4, "kg"),
        (f"{HK}OxygenSaturation", "03", "03:10:00", "03:10:00", 0.97, "%"),
        ("HealthConnectHeartRateVariabilityRmssd", "04", "03:10:00", "03:10:00", 48.2, "ms"),
    ],
    "A series": [
        (f"{HK}HeartRate", "05/0", "08:30:00", "08:30:00", 61, "count/min"),
        (f"{HK}HeartRate", "05/1", "08:31:00", "08:31:00", 64, "count/min"),
        (f"{HK}HeartRate", "05/2", "08:32:00", "08:32:00", 63, "count/min"),
    ],
    "Blood pressure": [
        ("HKCorrelationTypeIdentifierBloodPressure", "06", "07:00:00", "07:00:00", None, ""),
        (f"{HK}BloodPressureSystolic", "06/0", "07:00:00", "07:00:00", 121, "mmHg"),
        (f"{HK}BloodPressureDiastolic", "06/1", "07:00:00", "07:00:00", 79, "mmHg"),
    ],
    "Sleep": [
        ("HealthConnectSleepSession", "07", "22:40:00", "06:10:00", None, ""),
        (SLEEP, "07/0", "22:40:00", "23:55:00", 3, ""),
        ("HealthConnectSleepStage", "07/1", "23:55:00", "00:01:00", 3, ""),
        (SLEEP, "07/2", "00:01:00", "06:10:00", 5, ""),
    ],
    "An exercise": [("HKWorkoutTypeIdentifier", "08", "17:00:00", "17:30:15", None, "")],
    "A deletion": [("", f"05{each}", "", "", None, "") for each in ("", "/0", "/1", "/2")],
}


def test_each_example_has_its_rows_below_and_no_other_is_on_the_page():
    assert EXAMPLES.keys() == EXPECTED.keys()
    assert TEXT.count("```ndjson") == len(EXAMPLES)


@pytest.mark.parametrize("name", EXPECTED)
def test_an_example_becomes_the_rows_that_readers_expect(atlas, name):
    ended = atlas("flatten", "--strict", stdin=EXAMPLES[name].encode())
    rows = [json.loads(line) for line in ended.out.splitlines()]

    assert (ended.code, ended.err) == (0, "")
    assert EXPECTED[name] == [
        (
            row["sample_type"],
            row["uuid"].removeprefix(ID),
            row["start_date"][11:19],
            row["end_date"][11:19],
            row["value_double"],
            row["unit"],
        )
        for row in rows
    ]
    assert [row["raw_healthkit_record"] for row in rows] == EXAMPLES[name].splitlines()


def test_a_row_has_the_source_the_class_and_the_device_of_its_record(atlas):
    ended = atlas("flatten", "--strict", stdin=EXAMPLES["An interval"].encode())
    row = json.loads(ended.out)

    assert (row["sample_class"], row["data_type"]) == ("StepsRecord", "quantity")
    assert row["source_name"] == "com.example.fit"
    device = ("manufacturer", "model", "name")
    assert [row[f"device_{each}"] for each in device] == ["Google", "Pixel Watch 3", "watch"]


def lines(name: str) -> list[dict]:
    return [json.loads(line) for line in EXAMPLES[name].splitlines()]


@pytest.mark.parametrize("name", EXPECTED)
def test_an_example_has_only_types_and_keys_of_the_tables(name):
    table = TEXT.partition("## A record becomes lines\n")[2].partition("\n### ")[0]
    keys = set(re.findall(r"`([a-zA-Z]+)`", table + TYPES + TEXT.partition("### Sleep\n")[2]))
    records = set(re.findall(r"`(\w+Record)`", TYPES))

    for line in lines(name):
        extra = {"correlationType", "childSampleUUIDs"} if name == "Blood pressure" else set()
        assert line.keys() <= keys | extra
        if name != "A deletion":
            assert line["sampleClass"] in records
            assert f"`{line['sampleType']}`" in TEXT


def test_the_types_are_those_of_healthkit_or_say_that_they_are_not():
    named = re.findall(r"`((?:HK|HealthConnect)\w+)`", TYPES)

    assert len(named) > 35
    assert len(set(named)) == len(named), "two records would be one type"
    pattern = r"HK(Quantity|Category|Correlation|Workout)TypeIdentifier\w*|HealthConnect[A-Z]\w+"
    assert all(re.fullmatch(pattern, each) for each in named)


def test_the_stages_of_sleep_have_the_numbers_and_names_of_the_app():
    rows = re.findall(r"(?m)^\| (\d .*?) \| `(\w+)` \| ([\d, ]+) \| (?:`(\w+)`)? ?\|$", TEXT)
    stages = {int(number): row for row in rows for number in re.findall(r"(\d) `", row[0])}
    in_kotlin = re.findall(r'(\d) to \((\d) to "(\w+)"\)', KOTLIN)

    assert sorted(stages) == list(range(8))
    for stage, (_, sample_type, number, name) in stages.items():
        if name:
            constant = f"HKCategoryValueSleepAnalysis{name[0].upper()}{name[1:]}"
            assert (sample_type, NUMBERS[constant]) == (SLEEP, int(number))
            assert SLEEP_STAGES[int(number)] == name
            assert (str(stage), number, name) in in_kotlin
        else:
            assert sample_type == "HealthConnectSleepStage"
            assert str(stage) in number.split(", ")
    assert len(in_kotlin) == 6


def kept(*exports: str) -> dict[str, float | None]:
    """Return the values by uuid that readers keep of exports, one a day, as the transforms do."""
    latest, deleted = dict[str, float | None](), set[str]()
    for day, text in enumerate(exports, 7):
        header = Header("ada", "phone", f"2026-01-{day:02}", f"2026-01-{day:02}")
        table = flatten(text.encode().splitlines(), header, form=RowForm(23))
        for row in map(json.loads, table.ndjson.splitlines()):
            latest[row["sample_key"]] = row["value_double"]
            deleted |= {row["sample_key"]} if row["is_deleted"] else set()
    return {uuid.removeprefix(ID): value for uuid, value in latest.items() if uuid not in deleted}


SERIES = EXAMPLES["A series"]


def test_an_update_takes_the_place_of_the_lines_with_its_ids():
    assert kept(SERIES, SERIES) == {"05/0": 61, "05/1": 64, "05/2": 63}
    assert kept(SERIES, SERIES.replace(":64,", ":65,")) == {"05/0": 61, "05/1": 65, "05/2": 63}


def test_what_an_update_no_longer_has_is_deleted_by_number():
    shorter = "".join(SERIES.splitlines(keepends=True)[:2])
    assert kept(SERIES, shorter + json.dumps({"uuid": f"{ID}05/2"})) == {"05/0": 61, "05/1": 64}


def test_the_example_of_a_deletion_takes_out_the_whole_series_and_nothing_else():
    others = EXAMPLES["An interval"] + EXAMPLES["Blood pressure"]

    assert kept(SERIES + others, EXAMPLES["A deletion"]) == kept(others)
    assert kept(SERIES, json.dumps({"uuid": f"{ID}05"})) == kept(SERIES), "as the page warns"


def find_action(status: int) -> str:
    """Return the function that the Kotlin example calls for a status."""
    (cases,) = re.findall(r"(?ms)return when \(if \(isAtlas\).*?\n(.*?)\n +\}", KOTLIN)
    for numbers, does in re.findall(r"(?m)^ +([\d., in]+) -> (?:if .* else )?(\w+)\(", cases):
        for case in numbers.split(", "):
            low, _, high = case.removeprefix("in ").partition("..")
            if int(low) <= status <= int(high or low):
                return does
    (otherwise,) = re.findall(r"(?m)^ +else -> (\w+)\(", cases)
    return otherwise


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.status} {' '.join(row.codes)}".strip())
def test_the_uploader_in_kotlin_does_what_the_table_of_the_guide_says(row):
    assert find_action(row.status) == ACTIONS[row.app]


def test_the_uploader_in_kotlin_sends_the_headers_and_the_url_of_the_guide():
    sent = re.findall(r'\.header\("([\w-]+)",', KOTLIN)
    content_type = re.findall(r'"(.*?)"\.toMediaType', KOTLIN)

    assert {"Host", "Content-Type", *sent} == set(STREAM.headers)
    assert content_type == [STREAM.headers["Content-Type"]]
    assert STREAM.first.split(" ")[1] in KOTLIN


def test_the_limit_of_a_line_is_the_one_of_the_service():
    assert f"at most\n{LINE_BYTES_MAX // 2**20} MiB" in TEXT
