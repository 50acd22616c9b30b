"""The uuids of samples: as many as samples, and the same in every export of a phone."""

import random
import re
import tracemalloc
import uuid
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from atlas.apple.identity import (
    FILTER_WORDS,
    NAMESPACE_2,
    NUMBERS_MAX,
    DigestFilter,
    StableIdentity,
)
from tests.apple.exports import (
    ECG,
    WATCH,
    an_export,
    beats,
    convert,
    convert_one,
    element,
    gpx,
    read_lines,
    record,
    xml,
)

SHARED = Path(__file__).parents[3] / "shared" / "data" / "watch_2020_export.xml"
META = "MetadataEntry"
FOOD = {
    "type": "HKQuantityTypeIdentifierDietaryFatTotal",
    "sourceName": "Diary",
    "device": "absent",
    "unit": "g",
    "value": "1.5",
}


def list_uuids(data: bytes, version: int = 2) -> list[object]:
    return [line["uuid"] for line in convert(data, identity=version)[0]]


def test_a_uuid_is_that_of_the_standard_in_upper_case():
    (found,) = list_uuids(xml(record(device="absent", sourceName="Zoë’s Watch")))
    moment = "2020-04-10T01:33:34.000Z"
    parts = ["HKQuantityTypeIdentifierHeartRate", "Zoë’s Watch", "6.1.3", ""]
    name = "\x1f".join([*parts, "2020-04-10T01:38:56.000Z", moment, moment, ""])

    assert found == str(uuid.uuid5(uuid.UUID(bytes=NAMESPACE_2), name)).upper()


# equals


def test_two_foods_with_the_same_fat_are_two_samples():
    both = list_uuids(xml(record(**FOOD), record(**FOOD)))

    assert len(set(both)) == 2
    assert list_uuids(xml(record(**FOOD)))[0] == both[0]
    assert len(set(list_uuids(xml(record(**FOOD), record(**FOOD)), version=1))) == 1


@pytest.mark.parametrize("seed", range(20))
def test_no_two_samples_share_a_uuid_in_whatever_order_they_come(seed):
    rng = random.Random(seed)
    seconds = [f"2020-04-10 03:38:{rng.randrange(20):02} +0200" for _ in range(300)]
    elements = [
        record(creationDate=second, sourceName=rng.choice("ab"), value=str(number))
        for number, second in enumerate(seconds)
    ]

    assert len(set(list_uuids(xml(*elements)))) == 300


@pytest.mark.parametrize("seed", range(20))
def test_what_is_deleted_changes_no_other_uuid_in_whatever_order_they_come(seed):
    rng = random.Random(seed)
    seconds = [
        f"2020-04-10 03:{n // 60:02}:{n % 60:02} +0200" for n in rng.sample(range(3_600), 99)
    ]
    elements = [record(creationDate=second) for second in seconds]
    before = list_uuids(xml(*elements))
    gone = rng.randrange(len(elements))
    after = list_uuids(xml(*elements[:gone], *elements[gone + 1 :]))

    assert after == before[:gone] + before[gone + 1 :]


def number_equals(identity: StableIdentity, names: Iterable[str]) -> list[str]:
    return [identity.make_unique_uuid(("type", "source"), name) for name in names]


def test_equals_have_the_same_numbers_however_far_apart_they_are():
    together = number_equals(StableIdentity(), ["a", "a", "a", "b", "b"])
    apart = number_equals(StableIdentity(), ["a", "b", "c", "a", "b", "d", "a"])

    assert [apart[0], apart[3], apart[6], apart[1], apart[4]] == together
    assert len(set(apart)) == 7


def test_more_equals_than_are_remembered_take_bounded_memory_and_have_uuids_of_their_own():
    identity, count = StableIdentity(), NUMBERS_MAX + 1_000
    uuids = number_equals(identity, (f"{number % count}" for number in range(4 * count)))

    assert len(set(uuids)) == 4 * count
    assert len(identity.numbers) <= NUMBERS_MAX


def test_a_full_filter_costs_a_uuid_its_number_and_never_makes_two_of_one():
    identity = StableIdentity(filter_words=256)
    names = [f"{number}" for number in range(1_500)]
    uuids = number_equals(identity, names)

    assert len(set(uuids)) == len(names)
    assert uuids != number_equals(StableIdentity(), names)


def test_a_filter_without_any_room_does_not_hang():
    identity = StableIdentity(filter_words=1)

    assert len(set(number_equals(identity, (f"{number}" for number in range(20))))) == 20


def test_a_filter_misses_no_digest_that_it_has_seen_and_takes_few_new_ones_for_others():
    digests = [random.Random(number).getrandbits(64) for number in range(20_000)]
    seen = DigestFilter(FILTER_WORDS)

    assert [seen.add(each) for each in digests].count(False) < 5
    assert not any(seen.add(each) for each in digests)


def test_what_was_numbered_is_forgotten():
    one = StableIdentity()
    tracemalloc.start()
    try:
        for number in range(50_000):
            moment = f"{number:020}"
            one.identify({}, ("type", "source"), (moment, moment, ""), None, ("", ""))
        assert tracemalloc.get_traced_memory()[0] < 20_000
    finally:
        tracemalloc.stop()


# the same sample in another export

SAME = [
    pytest.param({"device": WATCH.replace("0x282d03020", "0x3015d5ef0")}, id="the pointer"),
    pytest.param({"device": WATCH.replace("0x282d03020&gt;", "0x")}, id="half a pointer"),
    pytest.param({"unit": "count/s", "value": "1"}, id="another unit"),
    pytest.param({"value": "60,0"}, id="another spelling of the value"),
    pytest.param(
        {
            "startDate": "2020-04-09 21:33:34 -0400",
            "endDate": "2020-04-09 21:33:34 -0400",
            "creationDate": "2020-04-09 21:38:56 -0400",
        },
        id="another time zone",
    ),
    pytest.param({"startDate": "2563-04-10 03:33:34 +0200"}, id="another calendar"),
    pytest.param({"startDate": "2020-04-10 3:33:34\u202fAM +0200"}, id="another clock"),
    pytest.param(
        {"device": WATCH.replace("6.1.3&gt;", "6.1.3, creation date:2023-09-19&gt;")},
        id="a later iOS prints more",
    ),
    pytest.param({"inside": element(META, key="_HKPrivate", value="b")}, id="private metadata"),
]


@pytest.mark.parametrize("change", SAME)
def test_a_sample_keeps_its_uuid_in_the_next_export(change):
    assert convert_one(record(**change))["uuid"] == convert_one(record())["uuid"]


def test_the_order_of_attributes_and_of_metadata_does_not_matter():
    first, second = element(META, key="a", value="1"), element(META, key="b", value="x")
    turned = re.sub(r'(sourceName="[^"]*") (.*) (value="60")', r"\3 \2 \1", record())

    assert turned != record()
    assert convert_one(turned)["uuid"] == convert_one(record())["uuid"]
    assert (
        convert_one(record(inside=first + second))["uuid"]
        == convert_one(record(inside=second + first))["uuid"]
    )


@pytest.mark.parametrize(
    ("before", "after", "is_same"),
    [
        pytest.param("75 degF", "24 degC", True, id="another unit"),
        pytest.param("1.5\u00a0km", "0,93\u00a0mi", True, id="in the phone's language"),
        pytest.param("75°F", "24°C", True, id="another unit without a space"),
        pytest.param("23 degF", "\u22125 degC", True, id="another minus"),
        pytest.param("1.5 km", "١٫٥\u00a0كم", True, id="in other digits"),
        pytest.param("2020-04-10 03:33:34 +0200", "2020-04-10 01:33:34 +0000", True, id="a date"),
        pytest.param("Soup", "Bread", False, id="a word"),
        pytest.param("0645B3C5", "0645B3C6", False, id="an identifier"),
        pytest.param("1", "2", False, id="a number without a unit"),
        pytest.param("a" * 1_000, "b" + "a" * 999, False, id="a document"),
    ],
)
def test_metadata_count_without_what_depends_on_a_unit(before, after, is_same):
    one, other = (
        convert_one(record(inside=element(META, key="k", value=each))) for each in (before, after)
    )

    assert (one["uuid"] == other["uuid"]) is is_same
    assert one["uuid"] != convert_one(record())["uuid"]


@pytest.mark.parametrize(
    "change",
    [
        {"type": "HKQuantityTypeIdentifierRestingHeartRate"},
        {"sourceName": "Another"},
        {"sourceVersion": "6.1.4"},
        {"device": WATCH.replace("Watch5,3", "Watch5,4")},
        {"creationDate": "2020-04-10 03:38:57 +0200"},
        {"startDate": "2020-04-10 03:33:33 +0200"},
        {"endDate": "2020-04-10 03:33:35 +0200"},
        {"sourceName": "Ada’s Apple\u00a0Watch6.1", "sourceVersion": ".3"},
    ],
    ids=" ".join,
)
def test_another_sample_has_another_uuid(change):
    assert convert_one(record(**change))["uuid"] != convert_one(record())["uuid"]


def test_an_export_that_has_grown_keeps_all_uuids():
    foods = [record(**FOOD), record(**FOOD)]
    before = list_uuids(xml(*beats(50), *foods, a_workout()))
    after = list_uuids(xml(*beats(80), *foods, record(**FOOD), a_workout(), a_workout()))

    assert set(before) < set(after)
    assert len(set(after)) == 85


def test_what_is_deleted_shifts_only_its_equals():
    """The documented limit: of equal samples, the last number disappears."""
    foods = [record(**FOOD | {"value": value}) for value in ("1.5", "2.5", "3.5")]
    before, after = list_uuids(xml(*beats(5), *foods)), list_uuids(xml(*beats(5, 1), *foods[1:]))

    assert set(before[1:5]) < set(after)
    assert after[5:] == before[5:7]


# samples inside others, workouts, and files


SYSTOLIC = record(type="HKQuantityTypeIdentifierBloodPressureSystolic", value="120", unit="mmHg")


def a_workout(inside: str = "") -> str:
    moments = dict.fromkeys(["startDate", "endDate", "creationDate"], "2020-04-06 09:04:51 +0200")
    return element("Workout", inside, workoutActivityType="HKWorkoutActivityTypeYoga", **moments)


def test_the_copies_of_equal_samples_in_correlations_have_their_uuids():
    fat = record(**FOOD)
    meals = [element("Correlation", fat, type="HKCorrelationTypeIdentifierFood")] * 2
    first, second, soup, bread = convert(xml(fat, fat, *meals))[0]

    assert soup["childSampleUUIDs"] == [first["uuid"]]
    assert bread["childSampleUUIDs"] == [second["uuid"]]
    assert len({line["uuid"] for line in (first, second, soup, bread)}) == 4


def test_a_record_in_a_workout_and_its_copy_are_one():
    effort = record(type="HKQuantityTypeIdentifierEstimatedWorkoutEffortScore")
    outside, _, inside = convert(xml(effort, a_workout(effort)))[0]

    assert outside == inside


def test_two_workouts_at_once_are_two():
    assert len(set(list_uuids(xml(a_workout(), a_workout())))) == 2


def test_an_ecg_keeps_its_uuid_when_its_text_is_in_another_language(tmp_path):
    german = ECG.replace("512 hertz", "512\u00a0Hertz").replace("Sinus Rhythm", "Sinusrhythmus")
    uuids = [read_ecg_uuid(tmp_path, text) for text in (ECG, german)]

    assert uuids[0] == uuids[1]
    before = [read_ecg_uuid(tmp_path, text, identity=1) for text in (ECG, german)]
    assert before[0] != before[1], "a rate that was not understood was part of version 1"


def read_ecg_uuid(tmp_path, text: str, **options: int) -> object:
    path = an_export(tmp_path / "export.zip", ecg_csv=text.encode())
    return read_lines(path, with_ecgs=True, **options)[0][0]["uuid"]


def test_two_ecgs_of_one_second_are_two(tmp_path):
    path = an_export(tmp_path / "export.zip", a_csv=ECG.encode(), b_csv=ECG.encode())

    assert len({line["uuid"] for line in read_lines(path, with_ecgs=True)[0]}) == 2


# real exports


def print_again(text: str, *, unit: bool = True) -> str:
    """Print an export as a later one: other pointers, another order of attributes, other units."""
    text = re.sub("HKDevice: 0x[0-9a-f]*", "HKDevice: 0x3015d5ef0", text)
    if unit:
        text = re.sub(r'unit="(?:kcal|Cal|km|count/min)"', 'unit="other"', text)
        text = re.sub(r'(<Record[^>]* value=")[\d.]+"', r'\g<1>4711"', text)
    return re.sub(r"<Record (type=\"\w+\") (.*?)(/?)>", r"<Record \2 \1\3>", text)


@pytest.mark.skipif(not SHARED.exists(), reason="the data of a real export are not here")
def test_a_real_export_has_as_many_uuids_as_samples_and_the_same_in_the_next_one():
    text = SHARED.read_text()
    before = list_uuids(text.encode())
    later = print_again(text).replace("</HealthData>", "".join(beats(10)) + "</HealthData>")
    after = list_uuids(later.encode())

    assert len(before) == len(set(before)) == 1_878
    assert set(before) < set(after)
    assert len(after) == len(set(after)) == 1_888
    assert len(set(list_uuids(text.encode(), 1)) & set(list_uuids(later.encode(), 1))) < 100


# the way over


def test_each_old_uuid_is_deleted_before_its_sample_comes_again(tmp_path):
    path = an_export(
        tmp_path / "export.zip", *beats(3), record(**FOOD), ecg_csv=ECG.encode(), route_gpx=gpx(2)
    )
    options = {"with_ecgs": True, "with_routes": True}
    old = [line["uuid"] for line in read_lines(path, identity=1, **options)[0]]
    new = [line["uuid"] for line in read_lines(path, identity=2, **options)[0]]
    lines, conversion = read_lines(path, replaced_identity=1, **options)

    assert [line["uuid"] for line in lines[:10:2]] == old[:5]
    assert all(line.keys() == {"uuid"} for line in lines[:10:2])
    assert [line["uuid"] for line in lines[1:10:2]] == new[:5]
    assert [line["uuid"] for line in lines[10:]] == new[5:] == old[5:], "a route keeps its uuid"
    assert conversion.deletions == 5
    assert Counter(conversion.unread) == Counter()
