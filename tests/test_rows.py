"""The transformation of a record into a row."""

import gc
import json
import math
from types import GeneratorType, SimpleNamespace

import msgspec
import pytest
from anyio import to_process
from hypothesis import example, given
from hypothesis import strategies as st

from atlas.core.messages import Reject
from atlas.core.records import LINE_BYTES_MAX, Device, Record
from atlas.core.rows import COLUMNS, KEYED_COLUMNS, Header, RowForm, flatten

HEADER = Header("ada", "iPhone", "2026-01-02T12:00:00.000Z", "T1")


def the_long_way(_line):
    raise msgspec.DecodeError


def row(line):
    """Return the row of one line, and check that both paths through `flatten` agree."""
    table = flatten([line], HEADER)
    assert table == flatten([line], HEADER, read=the_long_way)
    (found,) = table.ndjson.splitlines()
    return SimpleNamespace(**msgspec.json.decode(found))


def test_a_row_has_the_21_columns_of_the_dataset_in_order():
    found = vars(row(b"{}"))
    assert tuple(found) == COLUMNS
    assert len(found) == 21
    assert list(found.values())[:4] == [*msgspec.structs.astuple(HEADER)]


@pytest.mark.parametrize(
    ("record", "value"),
    [
        (b'{"valueDouble":0}', 0),
        (b'{"valueDouble":1.5,"value":2,"valueInteger":3}', 1.5),
        (b'{"value":2,"valueInteger":3}', 2),
        (b'{"value":"high","valueInteger":3}', None),
        (b'{"value":true}', None),
        (b'{"valueDouble":null,"value":0}', 0),
        (b'{"valueDouble":"","value":72}', 72),
        (b'{"valueDouble":"","value":"","valueInteger":3}', 3),
        (b'{"valueDouble":" ","value":72}', None),
        (b"{}", None),
    ],
)
def test_the_value_is_the_first_that_is_given_and_zero_is_one(record, value):
    assert row(record).value_double == value


@pytest.mark.parametrize(
    ("record", "double", "integer"),
    [
        (b'{"valueDouble":60}', b"60.0", b"60"),
        (b'{"valueDouble":60.0}', b"60.0", b"60"),
        (b'{"value":"60"}', b"60.0", b"60"),
        (b'{"valueInteger":-0}', b"0.0", b"0"),
        (
            b'{"valueDouble":18446744073709551616}',
            b"1.8446744073709552e19",
            b"18446744073709551616",
        ),
        (b'{"value":72.5}', b"72.5", b"72.5"),
        (b"{}", b"null", b"null"),
    ],
)
def test_a_whole_number_is_written_as_a_double_or_else_as_the_old_service_wrote_it(
    record, double, integer
):
    for read in ({}, {"read": the_long_way}):
        for written, form in ((double, RowForm()), (integer, RowForm(whole_numbers="integer"))):
            ndjson = flatten([record], HEADER, form=form, **read).ndjson
            assert b'"value_double":%s,' % written in ndjson


UUID = b'"uuid":"8A3B"'


@pytest.mark.parametrize(
    ("line", "key", "is_deleted"),
    [
        (b'{%s,"type":"HeartRate"}' % UUID, "8A3B", False),
        (b'{%s,"startDate":"2026"}' % UUID, "8A3B", False),
        (b"{%s}" % UUID, "8A3B", True),
        # printf '{ "type":"HeartRate"}' | sha256sum
        (
            b'{ "type":"HeartRate"}',
            "882d7780b3f603b891d0d17fb1ec197a96eb99cd528fa86286f4091d3cff8608",
            False,
        ),
    ],
)
def test_rows_of_23_columns_say_which_sample_it_is_and_if_it_was_deleted(line, key, is_deleted):
    (found,) = flatten([line], HEADER, form=RowForm(23)).ndjson.splitlines()
    keyed = json.loads(found)
    assert tuple(keyed) == KEYED_COLUMNS
    assert (keyed.pop("sample_key"), keyed.pop("is_deleted")) == (key, is_deleted)
    assert keyed == vars(row(line))


@pytest.mark.parametrize(
    ("text", "value"),
    [(" 72.5 ", 72.5), ("-1e3", -1000), ("0", 0)]
    + [(text, None) for text in ("", " ", "+1", ".5", "5.", "05", "1_0", "0x1", "NaN", "1e400")]
    + [(text, None) for text in ("true", "null", "[1]", "1 2", "1,5")],
)
def test_text_is_a_number_if_json_would_call_it_one(text, value):
    record = msgspec.json.encode({"value": text})
    assert row(record).value_double == value


@pytest.mark.parametrize(
    ("unit", "text"),
    [
        (b"42", "42"),
        (b"0", "0"),
        (b"false", "false"),
        (rb'{"a": [1, "\u00e9"]}', '{"a":[1,"é"]}'),
        (b"[]", "[]"),
        (b'" m "', " m "),
    ],
)
def test_what_is_no_text_becomes_its_compact_json(unit, text):
    assert row(b'{"unit":%s}' % unit).unit == text


def test_only_what_is_absent_null_or_empty_falls_through():
    assert row(b'{"sampleType":"","type":"HR"}').sample_type == "HR"
    assert row(b'{"sampleType":null,"type":"HR"}').sample_type == "HR"
    assert row(b'{"sampleType":0,"type":"HR"}').sample_type == "0"


def test_a_device_of_another_type_is_none():
    assert row(b'{"device":"Watch"}').device_model == ""
    assert row(b'{"device":{"model":["Watch"]}}').device_model == '["Watch"]'


def test_older_keys_are_understood():
    old = row(b'{"type":"HR","source":"Watch","start":"S","end":"E"}')
    assert (old.sample_type, old.source_name, old.start_date, old.end_date) == (
        "HR",
        "Watch",
        "S",
        "E",
    )


def test_an_absent_string_is_empty():
    assert row(b'{"unit":null,"device":null}').unit == ""
    assert row(b"{}").device_model == ""


def test_the_record_is_kept_as_it_was_sent():
    sent = b' {"uuid":"a", "unknown":[1, 2], "name":"Ada\xe2\x80\x99s Watch"}\t\r'
    assert row(sent).raw_healthkit_record == sent.decode()


BAD = [
    pytest.param(b"{", "not valid JSON", id="cut off"),
    pytest.param(b"42", "not a JSON object", id="a number"),
    pytest.param(b"null", "not a JSON object", id="null"),
    pytest.param(b'"{}"', "not a JSON object", id="a string"),
    pytest.param(b"[{}]", "not a JSON object", id="a list"),
    pytest.param(b"{}{}", "not valid JSON", id="two on a line"),
    pytest.param(b'{"uuid":"\x00"}', "not valid JSON", id="NUL"),
    pytest.param(b'{"uuid":1e400}', "a number is out of range", id="a number without end"),
    pytest.param(b'{"x":1e400}', "a number is out of range", id="... under an unknown key"),
    pytest.param(b'{"metadata":{"x":-1e400}}', "a number is out of range", id="... in metadata"),
    pytest.param(b'{"device":{"x":1e400}}', "a number is out of range", id="... in the device"),
    pytest.param(b'{"value":' + b"9" * 400 + b"}", "a number is out of range", id="400 digits"),
    pytest.param(b'{"x":' + b"9" * 5000 + b"}", "a number is out of range", id="5,000 digits"),
    pytest.param(b'{"uuid":"\xff"}', "not UTF-8", id="not UTF-8"),
    pytest.param(b'{"x":["\xed\xa0\x80"]}', "not UTF-8", id="a surrogate in UTF-8"),
    pytest.param(rb'{"uuid":"\ud800"}', "not valid JSON", id="a lone surrogate"),
    pytest.param(rb'{"x":{"y":"\udc00"}}', "not valid JSON", id="... under an unknown key"),
    pytest.param(b'{"x":' + b"[" * 64 + b"]" * 64 + b"}", "nested deeper than 64", id="depth 65"),
    pytest.param(b'{"x":' + b"[" * 100_000, "nested deeper than 64", id="depth 100,000"),
    pytest.param(
        b'{"uuid":"' + b"a" * LINE_BYTES_MAX + b'"}', "longer than 8388608 bytes", id="too long"
    ),
]


@pytest.mark.parametrize(("line", "reason"), BAD)
def test_a_bad_line_is_told_by_its_number_and_the_good_ones_stay(line, reason):
    table = flatten([b'{"uuid":"a"}', b"", line, b" \t", b'{"uuid":"b"}'], HEADER)

    assert (table.ingested, table.rejected) == (2, 1)
    assert table.rejects == (Reject(3, reason),)
    assert [msgspec.json.decode(row)["uuid"] for row in table.ndjson.splitlines()] == ["a", "b"]


def test_depth_64_is_no_depth_too_deep():
    assert row(b'{"x":' + b"[" * 63 + b"]" * 63 + b"}").raw_healthkit_record.count("[") == 63


def test_no_more_than_twenty_rejects_are_told_and_all_are_counted():
    table = flatten([b"{"] * 30, HEADER)
    assert (table.ingested, table.rejected, len(table.rejects)) == (0, 30, 20)


TEXTS = """
    sampleType type sourceName source sampleClass quantityType sourceVersion dataType uuid startDate
    start endDate end unit valueText sourceBundleId
""".split()
NUMBERS = """
    0 -0 0.0 -0.0 1 1.0 -1 1e0 1E+2 0.1e1 1.5e-3 129.90000000000001 0.30000000000000004 1e22 1e308
    5e-324 1e-400 1e400 -1e400 9007199254740993 9223372036854775807 9223372036854775808
    -9223372036854775809 18446744073709551616 123456789012345678901234567890
    01 1. .5 +1 NaN Infinity
""".split()
WORDS = r"""
    null true false tru nul "" "-1e3" "1e400" "NaN" "\ud800" "\udc00\ud800" "\ud83d\ude00" "\u0000"
    "\x" [] {} [[]] [1,"\ud800"] {"a":{"b":[1e400]}}
""".split()


def spell_string(text):
    """Encode a JSON string in one of the possible spellings."""
    plain = json.dumps(text, ensure_ascii=False)
    ways = [plain, json.dumps(text), plain.replace("/", r"\/"), plain.replace("a", r"\u0061")]
    return st.sampled_from(ways)


def an_array(values):
    return st.lists(values, max_size=3).map(lambda each: f"[{', '.join(each)}]")


def members(names, values):
    colon = st.sampled_from([":", " : ", "\t:\r"])
    return st.tuples(names.flatmap(spell_string), colon, values).map("".join)


def spell_object(*members):
    """Encode an object with its keys in any order, some of them twice."""
    found = st.lists(st.one_of(members), max_size=9)
    return found.map(lambda each: f"{{{','.join(each)}}}")


def damaged(line, place, by):
    return line[:place] + by + line[place:]


written = st.text('aZ09 .-eE\\"/\n’é\xa0\u2028😀\x7f', max_size=8) | st.just(" 7.5 ")
texts = written.flatmap(spell_string)
integers = st.integers().map(str) | st.sampled_from(["9" * 308, "9" * 309, "9" * 400])
floats = st.floats(allow_nan=False).map(json.dumps)
scalars = texts | integers | floats | st.sampled_from(NUMBERS + WORDS)
nested = an_array(scalars) | spell_object(members(written, scalars))
values = scalars | nested | an_array(nested) | spell_object(members(written, nested))
hardware = st.sampled_from([*Device.__struct_encode_fields__])
keys = st.sampled_from([*Record.__struct_encode_fields__])
others = st.sampled_from(["other", "’", "durationSeconds", "childSampleUUIDs"])
usual_ones = spell_object(
    members(st.sampled_from(TEXTS), texts | st.just("null")),
    members(st.sampled_from(["valueDouble", "value", "valueInteger"]), floats | integers),
    members(st.just("device"), spell_object(members(hardware, texts))),
    members(st.just("metadata"), spell_object(members(written, texts | floats))),
)
any_ones = spell_object(
    members(keys | others, values),
    members(st.just("device"), spell_object(members(hardware | others, texts | values))),
)
objects = (usual_ones | any_ones).map(str.encode)
noise = st.binary(min_size=1, max_size=2)


@pytest.mark.slow
@given(objects | st.builds(damaged, objects, st.integers(0, 99), noise))
@example(b'{"device":{"x":1e400},"device":{}}')
@example(b'{"device":{"model":"\\ud800"},"device":null,"uuid":"a"}')
@example(b'{"uuid":1,"uuid":"a","uuid":null}')
@example(b'{"metadata":{"x":"\xed\xa0\x80"}}')
def test_both_ways_make_the_same_bytes_of_any_line(line):
    lines = line.split(b"\n")
    assert flatten(lines, HEADER) == flatten(lines, HEADER, read=the_long_way)


@given(st.lists(st.binary(max_size=40)))
def test_any_bytes_are_a_row_or_a_reject_or_blank(lines):
    table = flatten(lines, HEADER)
    assert table.ingested + table.rejected == sum(bool(line.strip()) for line in lines)
    for row in table.ndjson.split(b"\n")[:-1]:
        found = msgspec.json.decode(row)
        assert tuple(found) == COLUMNS
        assert found["raw_healthkit_record"].encode() in lines
        assert found["value_double"] is None or math.isfinite(found["value_double"])


def test_nothing_stays_of_what_was_flattened():
    """Found by the fuzzer: msgspec leaked a generator for each export."""
    before = generators()
    for _ in range(50):
        flatten([b'{"uuid":"a"}', b"{"], HEADER)
    assert generators() == before


def generators():
    return sum(type(each) is GeneratorType for each in gc.get_objects())  # proxies may be dead


async def test_the_work_can_be_done_in_another_process():
    lines = (b'{"uuid":"a"}', b"{")
    assert await to_process.run_sync(flatten, lines, HEADER) == flatten(lines, HEADER)
