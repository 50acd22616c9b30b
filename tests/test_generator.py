"""The generated exports resemble those of real phones."""

import tracemalloc
from collections import Counter
from itertools import islice

import msgspec
import pytest

from atlas.core.messages import Reject
from atlas.core.rows import Header, flatten
from tests.support import generator

HEADER = Header("ada", "iPhone", "T1", "T1")


@pytest.fixture(scope="module")
def lines():
    return list(generator.lines(10_000, seed=7))


@pytest.fixture(scope="module")
def rows(lines):
    return [msgspec.json.decode(row) for row in flatten(lines, HEADER).ndjson.splitlines()]


@pytest.fixture(scope="module")
def many_exports():
    return b"".join(generator.export(1_000, seed) for seed in range(10))


def percent(found):
    found = list(found)
    return 100 * sum(found) / len(found)


def test_a_seed_says_it_all():
    assert generator.export(5_000, seed=7) == generator.export(5_000, seed=7)
    assert generator.export(11, seed=7) != generator.export(11, seed=8)


def test_a_stream_is_the_same_lines_in_blocks(lines):
    blocks = list(generator.stream(2_500, seed=7))
    assert b"".join(blocks) == b"".join(line + b"\n" for line in lines[:2_500])
    assert len(blocks) == 3


@pytest.mark.slow
def test_a_stream_without_end_takes_no_memory_to_speak_of():
    blocks = generator.stream(2_200_000)
    list(islice(blocks, 6))
    tracemalloc.start()
    try:
        for _ in islice(blocks, 10):
            pass
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("HKQuantityTypeIdentifierActiveEnergyBurned", 32, 39),
        ("HKQuantityTypeIdentifierBasalEnergyBurned", 15, 33),
        ("HKQuantityTypeIdentifierHeartRate", 12, 20),
        ("HKQuantityTypeIdentifierDistanceWalkingRunning", 4, 21),
        ("HKQuantityTypeIdentifierStepCount", 4, 8),
        ("HKQuantityTypeIdentifierHeartRateVariabilitySDNN", 0.1, 0.6),
        ("HKWorkoutTypeIdentifier", 0.1, 0.4),
        ("", 0.2, 0.8),  # deleted: only a uuid
    ],
)
def test_the_mix_is_that_of_a_watch_owner(name, least, most, rows):
    assert least < percent(row["sample_type"] == name for row in rows) < most


def test_one_in_twelve_is_a_category(rows):
    assert 7 < percent(row["data_type"] == "category" for row in rows) < 9


def test_zeros_are_as_many_as_in_real_exports(rows):
    assert 1.7 < percent(row["value_double"] == 0 for row in rows) < 10.5


def test_nearly_every_line_is_non_ascii_unless_asked(lines):
    assert 97 < percent(not line.isascii() for line in lines) < 100
    assert all(map(bytes.isascii, generator.lines(5_000, is_ascii=True)))


@pytest.mark.parametrize(
    "sign",
    ["\u2019", "\u00a0", "\u2028", "\u0085", "😴", r"\/", r"\"", ' "', '"metadata"', '"type"'],
)
def test_what_is_awkward_is_there(sign, many_exports):
    assert sign.encode() in many_exports


def test_lines_are_as_long_as_real_ones(lines):
    assert 520 < sum(map(len, lines)) / len(lines) < 600
    assert 2_000 < max(map(len, lines)) < 3_600


def test_some_lines_come_twice_and_all_others_have_a_uuid_of_their_own(lines, rows):
    twice = [line for line, count in Counter(lines).items() if count > 1]
    assert 3 < len(twice) < 40
    assert len({row["uuid"] for row in rows}) == len(set(lines))


def test_other_apps_save_what_is_weeks_old(rows):
    dates = [row["start_date"] for row in rows if row["start_date"]]
    assert dates != sorted(dates)


def test_the_order_of_keys_is_one_in_an_export_and_another_in_the_next():
    def order(seed):
        return next(
            tuple(record)
            for record in map(msgspec.json.decode, generator.lines(100, seed))
            if record.get("unit") == "kcal"
        )

    assert order(1) == order(1)
    assert len({order(seed) for seed in range(10)}) == 10


def test_every_line_is_a_row(lines, rows):
    assert len(rows) == len(lines)


def test_bulky_lines_are_as_long_as_real_ones_and_are_rows():
    ecg, route = generator.bulky()
    assert 110_000 < len(ecg) < 125_000
    assert 3_400_000 < len(route) < 3_800_000
    assert flatten([ecg, route], HEADER).ingested == 2


def test_every_bad_line_is_rejected_for_its_reason():
    bad = list(generator.bad(seed=7))
    found = [flatten([line], HEADER).rejects for line, _ in bad]
    assert found == [(Reject(1, reason),) for _, reason in bad]


def test_bad_lines_strewn_among_good_ones_leave_them_alone(lines):
    good, bad = lines[:70], [line for line, _ in generator.bad()][:12]
    table = flatten(list(generator.interleave(good, bad)), HEADER)
    assert (table.ingested, table.rejected) == (70, 12)
    assert [reject.line for reject in table.rejects][:3] == [8, 16, 24]
    assert table.ndjson == flatten(good, HEADER).ndjson
