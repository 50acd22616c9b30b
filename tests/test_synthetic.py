"""Synthetic phones: plausible days that a seed determines."""

import re
from collections import Counter
from datetime import UTC, date, datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from atlas.core.records import decode_slow
from atlas.core.rows import Header, flatten
from atlas.synthetic import generate_lines

END = datetime(2026, 1, 8, tzinfo=UTC)
DAYS = 28


@pytest.fixture(scope="module")
def lines():
    return list(generate_lines(DAYS, 1, END))


@pytest.fixture(scope="module")
def samples(lines):
    return [msgspec.json.decode(line) for line in lines]


def short_type(sample):
    return sample["sampleType"].partition("Identifier")[2]


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_another_person(lines):
    assert list(generate_lines(DAYS, 1, END)) == lines
    other = [msgspec.json.decode(line) for line in generate_lines(1, 2, END)]
    assert not {each["uuid"] for each in other} & {msgspec.json.decode(x)["uuid"] for x in lines}


def test_periods_that_overlap_share_the_lines_of_their_common_days(lines):
    assert list(generate_lines(1, 1, END)) == lines[-len(list(generate_lines(1, 1, END))) :]
    morning = END.replace(hour=9) - timedelta(days=1)
    shifted = list(generate_lines(2, 1, morning))
    first, last = "2026-01-05T09:00:00.000Z", "2026-01-07T09:00:00.000Z"
    assert shifted == [line for line in lines if first < read_end(line) <= last]


def read_end(line):
    return msgspec.json.decode(line)["endDate"]


def test_every_sample_ends_within_the_period_and_in_order(samples):
    ends = [sample["endDate"] for sample in samples]
    assert ends == sorted(ends)
    assert ends[0] >= "2025-12-11"
    assert ends[-1] <= "2026-01-08T00:00:00.000Z"
    assert all(sample["startDate"] <= sample["endDate"] for sample in samples)


def test_the_end_may_be_of_any_time_zone():
    kabul = END.astimezone(timezone(timedelta(hours=4, minutes=30)))
    assert list(generate_lines(1, 1, kabul)) == list(generate_lines(1, 1, END))


def test_every_line_is_a_row_with_a_uuid_of_its_own(lines, samples):
    table = flatten([line.removesuffix(b"\n") for line in lines], Header("ada", "d", "t", "t"))
    assert (table.ingested, table.rejected) == (len(lines), 0)
    assert len({sample["uuid"] for sample in samples}) == len(samples)
    assert all(line.endswith(b"\n") and line.count(b"\n") == 1 for line in lines)
    assert decode_slow(lines[0]).sample_type == samples[0]["sampleType"]


def test_lines_have_the_oddities_of_an_iphone(lines):
    text = b"".join(lines)
    assert "’s Apple\u00a0Watch".encode() in text
    assert rb"count\/min" in text
    assert b'"valueDouble":0,' in text
    assert b".0," not in text


def test_a_day_is_varied(samples):
    found = Counter(map(short_type, samples))
    assert len(found) > 20
    assert 290 < len(samples) / DAYS < 380
    assert {"HeartRate", "SleepAnalysis", "BloodPressureSystolic", "BodyMass"} <= set(found)
    assert 7 < sum(sample["dataType"] == "workout" for sample in samples) < 21


def test_the_person_sleeps_at_night_and_moves_by_day(samples):
    def rates(hours):
        return mean(
            sample["valueDouble"]
            for sample in samples
            if short_type(sample) == "HeartRate" and int(sample["startDate"][11:13]) in hours
        )

    assert rates(range(2, 6)) + 8 < rates(range(17, 20))
    assert not [
        sample
        for sample in samples
        if short_type(sample) == "StepCount" and sample["startDate"][11:13] < "06"
    ]
    asleep = [sample for sample in samples if "asleep" in str(sample.get("sleepStage"))]
    assert {each["sleepStage"] for each in asleep} == {"asleepCore", "asleepDeep", "asleepREM"}


def test_stages_of_sleep_follow_each_other_without_overlap(samples):
    stages = [each for each in samples if each.get("sleepStage") not in {None, "inBed"}]
    for before, after in pairwise(sorted(stages, key=lambda each: each["startDate"])):
        assert before["endDate"] <= after["startDate"]


def test_a_blood_pressure_names_its_two_parts(samples):
    by_uuid = {sample["uuid"]: sample for sample in samples}
    pressures = [each for each in samples if each["dataType"] == "correlation"]
    assert len(pressures) == DAYS
    for each in pressures:
        upper, lower = (by_uuid[uuid]["valueDouble"] for uuid in each["childSampleUUIDs"])
        assert 50 < lower < upper < 150


# the command, and the file that is committed

SAMPLE = Path(__file__).parent.parent / "config" / "sample.ndjson"


def test_the_committed_sample_is_one_day_and_made_by_the_command(atlas):
    ended = atlas("sample", "--days", "1", "--end", "2026-01-08")

    assert (ended.code, ended.err) == (0, "")
    assert SAMPLE.read_text(encoding="utf-8") == ended.out
    assert SAMPLE.stat().st_size < 200_000


def test_the_command_ends_with_yesterday_unless_a_date_is_given(atlas):
    today = datetime.now(UTC).date()
    days = {line[:10] for line in re.findall(r'"startDate":"(.*?)"', atlas("sample").out)}

    assert today - max(map(date.fromisoformat, days)) in {timedelta(days=1), timedelta(days=2)}
    assert len(days) == 7


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--days", "0"),
        ("--days", "367"),
        ("--days", "a week"),
        ("--seed", "x"),
        ("--end", "1969-12-31"),
        ("--end", "yesterday"),
        ("--end", "2026-02-30"),
    ],
)
def test_a_period_that_is_none_is_one_line_that_names_the_option(atlas, option, value):
    assert option in atlas("sample", option, value).in_one_line(2)
