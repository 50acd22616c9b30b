"""`atlas rows`: the committed rows of the emulator's dataset, and of a configured one."""

import builtins
from collections import Counter
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from atlas.core import identifiers
from atlas.core.messages import User
from atlas.core.rows import Header, flatten
from atlas.local.foundry.faults import Fault
from atlas.outside.parquet import to_parquet
from atlas.synthetic import generate_lines
from tests.support.processes import HOST
from tests.support.served_foundry import commit

NOON = datetime(2026, 1, 8, 12, tzinfo=UTC)
LINES = {name: [*generate_lines(1, seed, NOON)] for seed, name in enumerate(("ada", "zoë"))}


def encode(user: str, lines) -> bytes:
    return flatten([line.rstrip() for line in lines], Header(user, "iPhone", "T1", "T1")).ndjson


def path_of(user: str, minutes: int) -> str:
    return identifiers.build_path(User(user), NOON + timedelta(minutes=minutes))


@pytest.fixture
def dataset(emulator):
    """Ada's file and a newer one of Zoë, a Parquet file of both, and an open transaction."""
    ada, zoe = (encode(name, lines) for name, lines in LINES.items())
    commit(emulator, {path_of("ada", 0): ada})
    commit(emulator, {path_of("zoë", 5): zoe})
    shared = encode("ada", LINES["ada"][:9]) + encode("zoë", LINES["zoë"][:7])
    parquet = "healthkit/groups/2026-01-08T12-09-00-000Z.parquet"
    commit(emulator, {parquet: to_parquet(shared)})
    commit(emulator, {path_of("ada", 10): ada}, ends=False)
    return len(LINES["ada"]) + len(LINES["zoë"]) + 16


def decode(ended) -> list[dict[str, object]]:
    assert ended.code == 0
    return [msgspec.json.decode(line) for line in ended.out.splitlines()]


def test_rows_are_those_of_committed_files_the_newest_first(atlas, url, dataset):
    rows = decode(atlas("rows", "--from", url, "--limit", "0"))

    assert len(rows) == dataset
    users = [row["auth0_user_id"] for row in rows]
    assert users == ["ada"] * 9 + ["zoë"] * (7 + len(LINES["zoë"])) + ["ada"] * len(LINES["ada"])
    assert rows[-1]["raw_healthkit_record"] == LINES["ada"][-1].decode().rstrip()


def test_rows_are_printed_as_they_are_in_the_file(atlas, url, emulator):
    content = encode("ada", LINES["ada"])
    commit(emulator, {path_of("ada", 0): content})

    assert atlas("rows", "--from", url, "--limit", "0").out.encode() == content


@pytest.mark.parametrize(("options", "count"), [([], 20), (["--limit", "3"], 3)])
def test_a_limit_ends_the_output(atlas, url, dataset, options, count):
    assert len(decode(atlas("rows", "--from", url, *options))) == count


def test_the_rows_of_a_user_are_also_found_in_shared_files(atlas, url, dataset):
    rows = decode(atlas("rows", "--from", url, "--limit", "0", "--user", "zoë"))
    again = atlas("rows", "--from", url, "--limit", "0", "--user", "-", stdin="zoë\n".encode())

    assert decode(again) == rows
    assert {row["auth0_user_id"] for row in rows} == {"zoë"}
    assert len(rows) == len(LINES["zoë"]) + 7


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("HeartRate", "HKQuantityTypeIdentifierHeartRate"),
        ("HKQuantityTypeIdentifierHeartRate", "HKQuantityTypeIdentifierHeartRate"),
        ("SleepAnalysis", "HKCategoryTypeIdentifierSleepAnalysis"),
        ("BloodPressure", "HKCorrelationTypeIdentifierBloodPressure"),
    ],
)
def test_a_type_may_be_named_without_its_prefix(atlas, url, dataset, wanted, found):
    rows = decode(atlas("rows", "--from", url, "--limit", "0", "--type", wanted))
    sent = [line for lines in LINES.values() for line in lines]
    expected = sum(f'"sampleType":"{found}"'.encode() in line for line in sent)

    assert {row["sample_type"] for row in rows} == {found}
    assert len(rows) >= expected > 0


def test_a_workout_has_a_type_without_a_name_of_its_own(atlas, url, emulator):
    lines = [b'{"sampleType":"HKWorkoutTypeIdentifier"}', b'{"sampleType":"Workouts"}']
    commit(emulator, {path_of("ada", 0): encode("ada", lines)})

    (row,) = decode(atlas("rows", "--from", url, "--type", "Workout"))
    assert row["sample_type"] == "HKWorkoutTypeIdentifier"


def test_rows_are_counted_by_type(atlas, url, dataset):
    table = atlas("rows", "--from", url, "--count").out.splitlines()
    counted = msgspec.json.decode(atlas("rows", "--from", url, "--count", "--json").out)
    rows = decode(atlas("rows", "--from", url, "--limit", "0"))

    assert counted == {"rows": dataset, "types": Counter(row["sample_type"] for row in rows)}
    assert table[0].split() == ["TYPE", "ROWS"]
    assert table[-1] == f"{dataset} rows of {len(counted['types'])} types"
    assert len(table) == len(counted["types"]) + 2


def test_without_a_row_that_is_said_and_no_error(atlas, url):
    ended = atlas("rows", "--from", url)

    assert (ended.code, ended.out, ended.err) == (0, "", "There are no such rows.\n")


def test_the_dataset_of_the_settings_is_read_if_that_is_asked_for_or_it_is_an_emulator_s(
    atlas, url, dataset, emulator
):
    port = int(url.rpartition(":")[2])
    names = ("FOUNDRY_HOST", "FOUNDRY_CLIENT_ID", "FOUNDRY_CLIENT_SECRET")
    settings = dict(zip(names, (f"http://{HOST}:{port + 1}", *emulator.client), strict=True))
    nowhere = f"http://{HOST}:1"

    assert len(decode(atlas("rows", "--from-foundry", "--limit", "2", **settings))) == 2
    assert len(decode(atlas("rows", "--limit", "2", **settings))) == 2  # it is on this machine
    assert "No `atlas local` responds" in atlas("rows", "--from", nowhere).in_one_line(1)


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        pytest.param(["--from", "http://127.0.0.1:1"], 1, "No `atlas local` responds", id="none"),
        pytest.param(["--from", "https://atlas.test"], 1, "--from-foundry", id="a real Atlas"),
        pytest.param(["--from", "http://127.0.0.1:65535"], 1, "--from", id="the last port"),
        pytest.param(["--from", "nonsense"], 2, "--from", id="no URL"),
        pytest.param(["--from-foundry"], 78, "Not set: FOUNDRY_HOST", id="no settings"),
        pytest.param(["--limit", "-1"], 2, "--limit", id="less than nothing"),
        pytest.param(["--user", ""], 2, "USER is empty", id="nobody"),
        pytest.param(["--json"], 2, "--json requires --count", id="JSON of JSON"),
    ],
)
def test_what_cannot_be_read_is_one_line(atlas, arguments, code, named):
    assert named in atlas("rows", *arguments).in_one_line(code)


def test_a_file_that_holds_something_else_is_named_without_its_content(atlas, url, emulator):
    commit(emulator, {path_of("ada", 0): b'{"pulse of Ada": 72}\n'})
    told = atlas("rows", "--from", url).in_one_line(1)

    assert "2026-01-08T12-00-00-000Z.ndjson has a line that is not a row" in told
    assert "72" not in told
    assert "healthkit/raw" not in told  # the folder is called as the user is


def test_a_file_that_is_not_parquet_is_one_line(atlas, url, emulator):
    commit(emulator, {"healthkit/groups/2026-01-08T12-09-00-000Z.parquet": b"PAR0"})

    assert "not valid Parquet" in atlas("rows", "--from", url).in_one_line(1)


def test_without_pyarrow_a_parquet_file_is_one_line_that_says_what_to_install(
    atlas, url, dataset, monkeypatch
):
    imported = builtins.__import__

    def fail(name, *arguments):
        if name == "atlas.outside" and "parquet" in (arguments[2] or ()):
            raise ImportError
        return imported(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", fail)

    assert "requirements-parquet.txt" in atlas("rows", "--from", url).in_one_line(1)


def test_a_foundry_that_fails_is_one_line(atlas, url, dataset, emulator):
    emulator.faults.add(Fault("any", "status", status=503, do_not_retry=True, count=0))

    assert "Foundry" in atlas("rows", "--from", url).in_one_line(1)
