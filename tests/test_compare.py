"""`atlas compare`: a difference is listed in atlas/comparison/README.md, or it is unexplained.

`old_service` makes rows as the old service did, in a few independent lines.
"""

import gzip
import json
import re
from pathlib import Path

import msgspec
import pytest

from atlas.comparison import ComparisonReport, Reason, compare_sides, open_side
from atlas.core import rows
from atlas.core.records import LINE_BYTES_MAX
from tests.support import generator
from tests.support.canaries import Canaries

PAGE = Path(__file__).parent.parent / "atlas" / "comparison" / "README.md"
ADA = "auth0|ada-lovelace"
NOON, LATER, LATEST = (f"2026-01-02T12:00:0{second}.000Z" for second in range(3))
NOT_OF_ROWS = {  # a row does not show how its request was encoded
    "Readiness tells the truth.",
    "A `device` or `timestamp` of the request that is not text counts as absent.",
}


def old_service(*lines: str, at: str = NOON, sub: str = ADA, **sent: object) -> bytes:
    """Return the old service's rows for these lines. `sent` holds other request properties."""
    return b"".join(write_json(old_row(parse_json(line), at, sub, sent)) for line in lines)


def old_row(sample: object, at: str, sub: str, sent: dict[str, object]) -> dict[str, object]:
    def given(*names: str, of: object = sample, otherwise: object = "") -> object:
        found = (of.get(name) for name in names) if isinstance(of, dict) else ()
        return next((each for each in found if each or isinstance(each, dict | list)), otherwise)

    device = sample.get("device") if isinstance(sample, dict) else None
    return {
        "auth0_user_id": sub,
        "device": sent.get("device") or "unknown",
        "ingested_at": at,
        "export_timestamp": sent.get("timestamp") or at,
        "sample_type": given("sampleType", "type"),
        "source_name": given("sourceName", "source"),
        "sample_class": given("sampleClass"),
        "quantity_type": given("quantityType"),
        "source_version": given("sourceVersion"),
        "data_type": given("dataType"),
        "uuid": given("uuid"),
        "start_date": given("startDate", "start"),
        "end_date": given("endDate", "end"),
        "value_double": given("valueDouble", "value", otherwise=None),
        "unit": given("unit"),
        "device_hardware_version": given("hardwareVersion", of=device),
        "device_model": given("model", of=device),
        "device_name": given("name", of=device),
        "device_manufacturer": given("manufacturer", of=device),
        "device_software_version": given("softwareVersion", of=device),
        "raw_healthkit_record": write_json(sample).decode("utf-8", "surrogatepass").rstrip("\n"),
    }


def parse_json(line: str) -> object:
    """Parse like JSON.parse: every number is a double, written without an empty fraction."""

    def double(text: str) -> float | int:
        value = float(text)
        return int(value) if value.is_integer() and abs(value) < 1e21 else value

    return json.loads(line, parse_int=double, parse_float=double)


def write_json(value: object) -> bytes:
    """Write like JSON.stringify, which escapes lone surrogates, but no other non-ASCII text."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return re.sub("[\ud800-\udfff]", lambda half: f"\\u{ord(half[0]):04x}", text).encode() + b"\n"


def ours(*lines: str, at: str = LATER, sub: str = ADA, **sent: str) -> bytes:
    header = rows.Header(sub, sent.get("device", "unknown"), at, sent.get("timestamp", at))
    return rows.flatten([line.encode() for line in lines], header).ndjson


def change_columns(row: bytes, **columns: object) -> bytes:
    return msgspec.json.encode(msgspec.json.decode(row) | columns) + b"\n"


def sample(uuid: str = "a", **more: object) -> str:
    return json.dumps(
        {"uuid": uuid, "sampleType": "Steps", "valueDouble": 7.5, "unit": "count"} | more
    )


@pytest.fixture
def compare(tmp_path):
    """Return a function that compares two files of these rows."""

    def run(old: bytes, new: bytes) -> ComparisonReport:
        (tmp_path / "old.ndjson").write_bytes(old)
        (tmp_path / "new.ndjson").write_bytes(new)
        return compare_sides(open_side(tmp_path / "old.ndjson"), open_side(tmp_path / "new.ndjson"))

    return run


def found(balance: ComparisonReport) -> dict[str, tuple[int, dict[str, int]]]:
    assert_even(balance)
    return {each.reason: (each.rows, each.columns) for each in balance.findings}


def assert_even(balance: ComparisonReport) -> None:
    """Check that every row is counted exactly once."""
    kinds = balance.same, balance.as_intended, balance.unexplained
    assert sum(kind.old for kind in kinds) == balance.rows.old
    assert sum(kind.new for kind in kinds) == balance.rows.new


# the list on the page


def differences() -> list[str]:
    section = PAGE.read_text(encoding="utf-8").partition("\n## Differences\n")[2]
    section = section.partition("\n## ")[0]
    items = re.split(r"(?m)^- ", section)[1:]
    return [" ".join(item.split()) for item in items]


@pytest.mark.parametrize("reason", Reason, ids=lambda reason: reason.name)
def test_a_reason_is_listed_on_the_page_word_for_word(reason):
    assert set(reason.differences) <= set(differences())


def test_every_difference_on_the_page_that_rows_can_show_is_a_reason():
    known = {each for reason in Reason for each in reason.differences}

    assert set(differences()) - known == NOT_OF_ROWS


# intended differences

VALUE = {"value_double": 1}
RAW = {"raw_healthkit_record": 1}


@pytest.mark.parametrize(
    ("line", "reason", "columns"),
    [
        pytest.param('{"valueDouble":0}', "zero", VALUE, id="zero"),
        pytest.param('{"valueDouble":0,"value":5}', "zero", VALUE, id="zero, and the next name"),
        pytest.param('{"value":0,"valueInteger":5}', "zero", VALUE, id="zero, the older name"),
        pytest.param('{"valueInteger":3}', "integer", VALUE, id="a category"),
        pytest.param('{"valueInteger":0}', "integer", VALUE, id="a category that is zero"),
        pytest.param('{"valueInteger":"3"}', "integer", VALUE, id="a category as text"),
        pytest.param('{"valueDouble":"7.5"}', "number", VALUE, id="a number as text"),
        pytest.param('{"valueDouble":" 7 "}', "number", VALUE, id="with blanks around it"),
        pytest.param('{"valueDouble":"0"}', "number", VALUE, id="zero as text"),
        pytest.param('{"valueDouble":"-0"}', "number", VALUE, id="minus zero as text"),
        pytest.param('{"valueDouble":false,"value":4}', "number", VALUE, id="false first"),
        pytest.param('{"value":"high"}', "number", VALUE, id="a text"),
        pytest.param('{"value":true}', "number", VALUE, id="true"),
        pytest.param('{"value":[]}', "number", VALUE, id="a list"),
        pytest.param('{"value":{"a":1}}', "number", VALUE, id="an object"),
        pytest.param('{"uuid":7}', "text", {"uuid": 1}, id="a number in a text column"),
        pytest.param('{"unit":0}', "text", {"unit": 1}, id="zero in a text column"),
        pytest.param('{"unit":false}', "text", {"unit": 1}, id="false in a text column"),
        pytest.param('{"type":"b","sampleType":0}', "text", {"sample_type": 1}, id="zero first"),
        pytest.param('{"unit":{"a":[1,"é"]}}', "text", {"unit": 1}, id="an object, as text"),
        pytest.param('{"device":{"name":[]}}', "text", {"device_name": 1}, id="in the device"),
        pytest.param('{"a": 1}', "raw", RAW, id="a blank that is gone"),
        pytest.param('{"a":"\\u00e9\\/"}', "raw", RAW, id="escapes"),
        pytest.param('{"a":1.50}', "raw", RAW, id="a number spelled otherwise"),
        pytest.param('{"a":12345678901234567891}', "raw", RAW, id="more digits than a double has"),
        pytest.param('{"a":-0}', "raw", RAW, id="minus zero"),
        pytest.param('{"a":-0.0}', "raw", RAW, id="minus zero, with a fraction"),
        pytest.param('{"a":[[[[-0.0]]]]}', "raw", RAW, id="minus zero, within"),
        pytest.param('{"a":1,"a":2}', "raw", RAW, id="a key twice"),
        pytest.param('{"a":{"b":{"c":{"d":{"e":1.0}}}}}', "raw", RAW, id="nested"),
    ],
)
def test_a_row_that_differs_as_intended_has_its_reason(compare, line, reason, columns):
    balance = compare(old_service(line), ours(line))

    assert found(balance)[reason] == (1, columns)
    assert set(found(balance)) <= {reason, "raw"}
    assert (balance.as_intended.old, balance.as_intended.new) == (1, 1)


def test_a_row_that_differs_for_several_reasons_counts_at_each_and_once(compare):
    line = '{"uuid": 7, "unit": 1.0, "valueDouble": 0}'
    balance = compare(old_service(line), ours(line))

    assert found(balance) == {
        "zero": (1, VALUE),
        "text": (1, {"uuid": 1, "unit": 1}),
        "raw": (1, RAW),
    }
    assert balance.as_intended.old == 1


@pytest.mark.parametrize("line", ["5", '"abc"', "[1]", "true", "-0"])
def test_a_row_of_blanks_made_of_no_object_is_gone(compare, line):
    good = '{"uuid":"a"}'
    balance = compare(old_service(good, line), ours(good, line))

    assert found(balance) == {"blanks": (1, {})}


def old_row_of(record: str) -> bytes:
    return change_columns(old_service("{}"), raw_healthkit_record=record)


@pytest.mark.parametrize(
    "old",
    [
        pytest.param(old_row_of('{"a":' + "[" * 64 + "]" * 64 + "}"), id="too deep"),
        pytest.param(old_row_of('{"a":' + "[" * 5_000 + "]" * 5_000 + "}"), id="far too deep"),
        pytest.param(old_row_of(json.dumps({"a": "x" * LINE_BYTES_MAX})), id="too long"),
        pytest.param(old_service('{"source":"\\ud83d"}'), id="half a pair"),
    ],
)
def test_a_line_that_atlas_rejects_is_gone(compare, old):
    good = '{"uuid":"a"}'

    assert found(compare(old_service(good) + old, ours(good))) == {"rejected": (1, {})}


@pytest.mark.parametrize(
    "old",
    [
        pytest.param(old_row_of('{"a":' + "[" * 63 + "]" * 63 + "}"), id="as deep as may be"),
        pytest.param(old_row_of(json.dumps({"a": "x" * (LINE_BYTES_MAX - 9)})), id="as long"),
        pytest.param(old_service('{"uuid":"\\ud83d\\ude00"}'), id="a whole pair"),
        pytest.param(old_service('{"a":null}'), id="null"),
    ],
)
def test_a_line_that_atlas_takes_is_lacking_when_it_is_gone(compare, old):
    good = '{"uuid":"a"}'

    assert found(compare(old_service(good) + old, ours(good))) == {"missing": (1, {})}


def test_what_the_old_service_lost_is_only_there_with_us(compare):
    balance = compare(old_service(sample("a")), ours(sample("a"), sample("b"), sample("b")))

    assert found(balance)["lost"] == (2, {})
    assert (balance.as_intended.old, balance.as_intended.new) == (1, 3)


def test_another_export_of_the_same_record_can_be_lost_too(compare):
    line = '{"uuid":"a"}'
    old = old_service(line, timestamp="first")
    new = ours(line, timestamp="first") + ours(line, timestamp="second")

    assert found(compare(old, new)) == {"lost": (1, {})}


def test_what_may_have_been_no_utf_8_cannot_be_told_from_what_atlas_lacks(compare):
    """Node replaced invalid UTF-8 by U+FFFD; a phone may also send U+FFFD, and Atlas accepts it."""
    good, odd = '{"uuid":"a"}', '{"unit":"\ufffdm"}'
    balance = compare(old_service(good, odd), ours(good))

    assert found(balance) == {"replaced": (1, {})}
    assert not balance.is_explained
    assert compare(old_service(good, odd), ours(good, odd)).is_explained


def test_what_the_old_service_lost_is_lost_once(compare):
    good, lost = '{"uuid":"a"}', '{"uuid":"b"}'
    new = ours(good) + ours(lost, at=NOON) + ours(lost, at=LATER)

    assert found(compare(old_service(good), new)) == {"lost": (1, {}), "doubled": (1, {})}


def test_a_retry_made_the_same_rows_twice(compare):
    lines = '{"uuid":"a"}', '{"uuid":"b"}', '{"uuid":"b"}'
    old = b"".join(old_service(*lines, at=at) for at in (NOON, LATER, LATEST))

    assert found(compare(old, ours(*lines))) == {"retried": (6, {})}


def test_the_moments_of_each_service_are_no_difference(compare):
    balance = compare(old_service('{"uuid":"a"}', at=NOON), ours('{"uuid":"a"}', at=LATER))

    assert (found(balance), balance.same.old, balance.is_explained) == ({}, 1, True)


def test_the_object_itself_may_stand_where_its_text_does(compare):
    line = '{"uuid":"a"}'
    old = change_columns(old_service(line), raw_healthkit_record={"uuid": "a"})

    assert found(compare(old, ours(line))) == {}


def test_a_file_compared_with_itself_is_the_same(compare):
    old = old_service('{"valueDouble":0,"uuid":5}', "7", '{"unit": 1}', '{"unit": 1}')

    assert found(compare(old, old)) == {}


# unexplained differences


def test_a_row_that_atlas_lacks_is_unexplained(compare):
    balance = compare(old_service(sample("a"), sample("b")), ours(sample("a")))

    assert found(balance)["missing"] == (1, {})
    assert (balance.unexplained.old, balance.unexplained.new) == (1, 0)
    assert not balance.is_explained


def test_a_line_that_one_export_had_twice_is_lacking_when_it_is_there_once(compare):
    line = '{"uuid":"a"}'
    retried = old_service(line, line, at=NOON) + old_service(line, line, at=LATER)

    assert found(compare(old_service(line, line), ours(line))) == {"missing": (1, {})}
    assert found(compare(retried, ours(line))) == {"missing": (1, {}), "retried": (2, {})}


def test_a_row_of_blanks_made_of_a_record_is_lacking(compare):
    old = old_service('{"uuid":"a"}') + old_service("{}")

    assert found(compare(old, ours('{"uuid":"a"}'))) == {"missing": (1, {})}


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(change_columns(old_service("5"), unit="m"), id="not blank"),
        pytest.param(change_columns(old_service("5"), value_double=5), id="with a value"),
        pytest.param(old_row_of("uuid"), id="not JSON"),
    ],
)
def test_a_row_of_no_object_that_the_old_service_would_not_make_is_lacking(compare, row):
    good = '{"uuid":"a"}'

    assert found(compare(old_service(good) + row, ours(good))) == {"missing": (1, {})}


def test_a_row_that_atlas_has_more_often_is_unexplained(compare):
    line = '{"uuid":"a","valueDouble":0}'
    balance = compare(old_service(line), ours(line) + ours(line, at=LATEST))

    assert found(balance)["doubled"] == (1, {})
    assert (balance.unexplained.old, balance.unexplained.new) == (0, 1)


def test_a_row_that_atlas_made_of_no_record_is_unexplained(compare):
    new = ours('{"uuid":"a"}') + change_columns(ours("{}"), raw_healthkit_record="[1]")

    assert found(compare(old_service('{"uuid":"a"}'), new)) == {"no_record": (1, {})}


LINE = '{"uuid":"a","valueDouble":0,"valueInteger":4,"unit":5,"device":{"name":"Watch"}}'


@pytest.mark.parametrize(
    ("columns", "named"),
    [
        pytest.param({"value_double": 4.0}, "value_double", id="another number"),
        pytest.param({"value_double": "0"}, "value_double", id="a number as text"),
        pytest.param({"value_double": False}, "value_double", id="no number"),
        pytest.param({"unit": ""}, "unit", id="a text that is lost"),
        pytest.param({"unit": 5}, "unit", id="no text"),
        pytest.param({"unit": "5.0"}, "unit", id="another spelling"),
        pytest.param({"device_name": "watch"}, "device_name", id="another text"),
        pytest.param({"device_name": None}, "device_name", id="null"),
        pytest.param({"source_name": "x"}, "source_name", id="a text from nowhere"),
        pytest.param({"device": "iPhone"}, "device", id="another device"),
        pytest.param({"export_timestamp": NOON}, "export_timestamp", id="another timestamp"),
    ],
)
def test_a_row_that_is_not_as_atlas_promises_is_unexplained(compare, columns, named):
    balance = compare(old_service(LINE), change_columns(ours(LINE), **columns))

    assert found(balance) == {"differs": (1, {named: 1})}
    assert (balance.unexplained.old, balance.unexplained.new) == (1, 1)


@pytest.mark.parametrize(
    ("columns", "named"),
    [
        pytest.param({"value_double": 1e-9}, "value_double", id="a number"),
        pytest.param({"value_double": True}, "value_double", id="true"),
        pytest.param({"uuid": "b"}, "uuid", id="a text"),
        pytest.param({"uuid": {}}, "uuid", id="an object that is not in the record"),
        pytest.param({"uuid": None}, "uuid", id="null"),
        pytest.param({"device": 5}, "device", id="a device that is no text"),
    ],
)
def test_what_the_old_service_would_not_have_made_is_unexplained(compare, columns, named):
    line = '{"uuid":"a"}'

    assert found(compare(change_columns(old_service(line), **columns), ours(line))) == {
        "differs": (1, {named: 1})
    }


@pytest.mark.parametrize(
    ("columns", "named"),
    [
        pytest.param({"unit": "m"}, "unit", id="not the number that was sent"),
        pytest.param({"unit": True}, "unit", id="true for a number"),
        pytest.param({"value_double": True}, "value_double", id="true for one"),
    ],
)
def test_what_it_made_of_another_type_is_looked_at_closely(compare, columns, named):
    line = '{"unit":2,"valueDouble":1}'
    balance = compare(change_columns(old_service(line), **columns), ours(line))

    assert found(balance) == {"differs": (1, {named: 1})}


def test_timestamps_of_a_request_are_the_same_on_both_sides(compare):
    line = '{"uuid":"a"}'

    assert found(compare(old_service(line, timestamp="then"), ours(line, timestamp="now"))) == {
        "differs": (1, {"export_timestamp": 1})
    }


def test_a_row_of_another_user_is_another_row(compare):
    balance = compare(old_service('{"uuid":"a"}'), ours('{"uuid":"a"}', sub="auth0|another"))

    assert found(balance) == {"missing": (1, {}), "lost": (1, {})}


def test_rows_of_one_record_are_paired_with_those_that_are_spelled_alike(compare):
    lines = '{"uuid":"a"}', '{"uuid": "a"}'
    old = b"".join(change_columns(ours(line), uuid="a") for line in lines)

    assert found(compare(old, ours(*reversed(lines)))) == {}


def test_what_is_equal_on_both_sides_is_no_difference_be_it_right_or_not(compare):
    line = '{"uuid": "a", "valueDouble": 0}'

    assert found(compare(old_service(line), change_columns(ours(line), value_double=None))) == {
        "raw": (1, RAW)
    }


def test_a_retry_of_a_row_that_is_unexplained_is_still_a_retry(compare):
    line = '{"uuid":"a"}'
    old = old_service(line, at=NOON) + old_service(line, at=LATER)

    assert found(compare(old, change_columns(ours(line), uuid="b"))) == {
        "differs": (1, {"uuid": 1}),
        "retried": (1, {}),
    }


def test_of_rows_that_are_one_record_the_most_alike_are_paired(compare):
    line = '{"uuid":"a","valueDouble":0}'
    old = old_service(line, timestamp="1") + old_service(line, timestamp="2")
    new = ours(line, timestamp="3") + ours(line, timestamp="1")
    balance = compare(old, new)

    assert found(balance) == {
        "differs": (1, {"export_timestamp": 1}),
        "zero": (1, VALUE),
    }
    assert balance.as_intended.new == balance.unexplained.new == 1


# files


def test_a_folder_is_all_its_files_of_rows(tmp_path):
    lines = [sample(str(number)) for number in range(6)]
    old, new = tmp_path / "old", tmp_path / "new"
    for folder in (old / "raw" / ADA, new / "raw" / ADA):
        folder.mkdir(parents=True)
    (old / "raw" / ADA / "a.json").write_bytes(old_service(*lines[:2]))
    (old / "raw" / ADA / "b.ndjson").write_bytes(old_service(*lines[2:]))
    (old / "raw" / ADA / "b.txt").write_bytes(b"not a row")
    (old / "raw" / ADA / "._a.json").write_bytes(b"what macOS leaves")
    (new / "c.ndjson.gz").write_bytes(gzip.compress(ours(*lines[:5])))
    (new / "empty.ndjson").touch()
    (new / "raw" / ADA / "d.ndjson").write_bytes(ours(lines[5]))
    balance = compare_sides(open_side(old), open_side(new))

    places = [place for each in balance.findings for place in each.places]
    assert found(balance) == {"raw": (6, {"raw_healthkit_record": 6})}
    assert [(place.old, place.new) for place in places] == [
        (f"{old}/*/*/a.json:1", f"{new}/c.ndjson.gz:1"),
        (f"{old}/*/*/a.json:2", f"{new}/c.ndjson.gz:2"),
        (f"{old}/*/*/b.ndjson:1", f"{new}/c.ndjson.gz:3"),
    ]


def test_blank_lines_count_as_lines_and_the_last_need_not_end(compare):
    new = b"\xef\xbb\xbf" + ours('{"uuid":"a"}') + b"\r\n\n" + ours('{"uuid":"b"}')[:-1]
    balance = compare(old_service('{"uuid":"a"}'), new)

    (lost,) = balance.findings
    assert [place.new.rpartition(":")[2] for place in lost.places] == ["4"]


GOOD = ours(sample())


@pytest.mark.parametrize(
    ("rows_of_new", "told"),
    [
        pytest.param(b"", r"There are no rows in .*new\.ndjson\.", id="empty"),
        pytest.param(b"\n \r\n", r"There are no rows in .*new\.ndjson\.", id="blank"),
        pytest.param(GOOD + GOOD[:-9], r":2: the file is truncated\.", id="cut short"),
        pytest.param(GOOD + GOOD[:-9] + b"\n", r":2: not a row: not JSON\.", id="a row cut short"),
        pytest.param(
            GOOD + b"{}\n", r":2: not a row: the columns are not the 21 columns\.", id="no columns"
        ),
        pytest.param(change_columns(GOOD, more=1), r":1: .* 21 columns\.", id="a column more"),
        pytest.param(b"[]\n", r":1: .* 21 columns\.", id="a list"),
        pytest.param(b"[" + GOOD + b"]\n", r":1: not a row: not JSON\.", id="a list of rows"),
        pytest.param(change_columns(GOOD, auth0_user_id=5), r":1: .* 21 columns\.", id="no user"),
        pytest.param(GOOD.replace(b"Steps", b"\xff"), r":1: not UTF-8\.", id="no UTF-8"),
        pytest.param(bytes(range(256)) * 9, r":1: ", id="bytes"),
        pytest.param(b"PAR1" + bytes(9), r":1: this is Parquet; .*\.", id="Parquet"),
        pytest.param(gzip.compress(GOOD)[:-9], r":\d: the compressed file is damaged\.", id="gzip"),
        pytest.param(b"\x1f\x8b\x08" + bytes(30), r":1: the comp.* damaged\.", id="no gzip at all"),
    ],
)
def test_what_is_no_file_of_rows_is_told_in_one_line(atlas, tmp_path, rows_of_new, told):
    (tmp_path / "old.ndjson").write_bytes(GOOD)
    (tmp_path / "new.ndjson").write_bytes(rows_of_new)
    line = atlas("compare", "old.ndjson", "new.ndjson").in_one_line(2)

    assert re.search(told, line)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        pytest.param("nowhere.ndjson", "nowhere.ndjson", id="no such file"),
        pytest.param("folder", "no file below folder", id="an empty folder"),
    ],
)
def test_where_nothing_is_to_be_read_it_says_so(atlas, tmp_path, name, told):
    (tmp_path / "old.ndjson").write_bytes(GOOD)
    (tmp_path / "folder").mkdir()

    assert told in atlas("compare", "old.ndjson", name).in_one_line(2)


def test_a_file_without_any_line_is_not_read_to_its_end(atlas, tmp_path):
    with (tmp_path / "new.ndjson").open("wb") as file:
        file.truncate(1 << 40)

    line = atlas("compare", "new.ndjson", "new.ndjson").in_one_line(2)

    assert "new.ndjson:1: not a row: not JSON." in line


# output


def test_the_report_says_what_differs_why_and_where(atlas, tmp_path):
    lines = ['{"uuid":"a","valueDouble":0}', '{"uuid":"b"}', '{"uuid":"c","valueInteger":2}']
    (tmp_path / "old.ndjson").write_bytes(old_service(*lines))
    (tmp_path / "new.ndjson").write_bytes(ours(lines[0], lines[2]))
    ended = atlas("compare", "old.ndjson", "new.ndjson")

    assert (ended.code, ended.err) == (1, "")
    assert ended.out == (
        "UNEXPLAINED: The old service has this row, or has it more often in an export: "
        "Atlas lacks it.\n"
        "  1 row\n"
        "  only old.ndjson:2\n"
        "\n"
        "Zero is zero; it became null.\n"
        "  1 row: value_double\n"
        "  old.ndjson:1  new.ndjson:1\n"
        "\n"
        "value_double falls back to valueInteger, "
        "so sleep stages and other categories have a value.\n"
        "  1 row: value_double\n"
        "  old.ndjson:3  new.ndjson:2\n"
        "\n"
        "ROWS                              OLD          NEW\n"
        "the same                            0            0\n"
        "differ as intended                  2            2\n"
        "unexplained                         1            0\n"
        "all                                 3            2\n"
    )


def test_a_program_gets_the_same_as_json(atlas, tmp_path):
    line = '{"uuid":"a","valueDouble":0}'
    (tmp_path / "old.ndjson").write_bytes(old_service(line))
    (tmp_path / "new.ndjson").write_bytes(ours(line))
    ended = atlas("compare", "old.ndjson", "new.ndjson", "--json")

    assert (ended.code, ended.err) == (0, "")
    assert msgspec.json.decode(ended.out) == {
        "rows": {"old": 1, "new": 1},
        "same": {"old": 0, "new": 0},
        "as_intended": {"old": 1, "new": 1},
        "unexplained": {"old": 0, "new": 0},
        "findings": [
            {
                "reason": "zero",
                "sentence": "Zero is zero; it became null.",
                "explained": True,
                "rows": 1,
                "columns": {"value_double": 1},
                "places": [{"old": "old.ndjson:1", "new": "new.ndjson:1"}],
            }
        ],
    }


def test_no_value_of_a_row_is_printed(atlas, tmp_path):
    canaries = Canaries()
    sub = f"auth0|{canaries['sub']}"
    record = {name: canaries[name] for name in ("uuid", "unit", "sampleType", "source", "start")}
    record |= {"valueDouble": canaries.number("value"), "device": {"name": canaries["device"]}}
    odd = record | {"unit": {canaries["key"]: canaries["inner"]}, "valueDouble": canaries["text"]}
    lines = [json.dumps(record), json.dumps(odd), json.dumps([canaries["list"]]), "{}"]
    encoded = sub.replace("|", "%7C")
    old, new = tmp_path / sub / "old", tmp_path / "new" / encoded
    for folder in (old / sub, new / encoded):
        folder.mkdir(parents=True)
    made = old_service(*lines, sub=sub, device=canaries["device"], timestamp=canaries["timestamp"])
    (old / sub / f"{sub}.json").write_bytes(made)
    (new / encoded / "1.ndjson").write_bytes(ours(*lines[:2], sub=sub))
    shown = atlas("compare", old, new)
    told = atlas("compare", old, new, "--json")
    (new / "2.ndjson").write_bytes(made[:-9])
    refused = atlas("compare", old, new)

    assert (shown.code, told.code, refused.code) == (1, 1, 2)
    texts = (f"{ended.out}{ended.err}".encode() for ended in (shown, told, refused))
    assert canaries.find_in(dict(zip(("shown", "told", "refused"), texts, strict=True))) == []
    assert f"{tmp_path}/*/old/*/*:1" in shown.out


# end to end


def test_what_a_phone_sends_differs_only_as_intended(atlas, tmp_path):
    """Both services get the same exports. An invalid line fails an export of the old service."""
    good, more = generator.export(500, seed=3), generator.export(200, seed=4)
    broken = b"\n".join(generator.interleave(generator.lines(50), [b"{", b"null", b'{"a":']))
    texts = [text.decode() for text in (good, more)]
    made = [old_service(*text.rstrip("\n").split("\n")) for text in texts]
    (tmp_path / "old").mkdir()
    for number, old in enumerate([*made, made[1].replace(NOON.encode(), LATER.encode())]):
        (tmp_path / "old" / f"{number}.json").write_bytes(old)
    (tmp_path / "sent.ndjson").write_bytes(good + more + broken)
    flattened = atlas("flatten", "sent.ndjson", "--sub", ADA)
    (tmp_path / "new.ndjson").write_bytes(flattened.out.encode())
    told = msgspec.json.decode(atlas("compare", "old", "new.ndjson", "--json").out)

    assert told["unexplained"] == {"old": 0, "new": 0}
    assert told["rows"] == {"old": 900, "new": 750}
    kinds = {each["reason"]: each["rows"] for each in told["findings"]}
    assert kinds.keys() == {"zero", "integer", "raw", "retried", "lost"}
    assert (kinds["retried"], kinds["lost"]) == (200, 50)
