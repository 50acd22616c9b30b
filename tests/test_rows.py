"""What a record becomes."""

import math

import msgspec
import pytest
from anyio import to_process
from hypothesis import given
from hypothesis import strategies as st

from atlas.core.messages import Reject
from atlas.core.rows import LINE_BYTES_MAX, Bad, Device, Header, Row, Usual, flatten, unusual

HEADER = Header("ada", "iPhone", "2026-01-02T12:00:00.000Z", "T1")


def row(line):
    """The row of one line, which both ways through `flatten` agree about."""
    table = flatten([line], HEADER)
    (found,) = table.ndjson.splitlines()
    assert msgspec.json.decode(found, type=Row) == unusual(line, HEADER)
    return msgspec.json.decode(found, type=Row)


def test_a_row_has_the_21_columns_of_the_dataset_in_order():
    assert len(Row.__struct_fields__) == 21
    given = ["auth0_user_id", "device", "ingested_at", "export_timestamp"]
    assert list(Row.__struct_fields__[:4]) == given
    assert list(msgspec.structs.astuple(row(b"{}"))[:4]) == [*msgspec.structs.astuple(HEADER)]


@pytest.mark.parametrize(
    ("record", "value"),
    [
        (b'{"valueDouble":0}', 0),
        (b'{"valueDouble":1.5,"value":2,"valueInteger":3}', 1.5),
        (b'{"value":2,"valueInteger":3}', 2),
        (b'{"value":"high","valueInteger":3}', None),
        (b'{"value":true}', None),
        (b'{"valueDouble":null,"value":0}', 0),
        (b"{}", None),
    ],
)
def test_the_value_is_the_first_that_is_given_and_zero_is_one(record, value):
    assert row(record).value_double == value


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


KEYS = [*Usual.__struct_encode_fields__, "unknown"]
texts = st.text('aZ09 .-eE\\"/\n’é\u2028😀', max_size=8)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts
values = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=8
)
devices = st.dictionaries(st.sampled_from([*Device.__struct_encode_fields__, "other"]), values)


@pytest.mark.slow
@given(
    st.dictionaries(st.sampled_from(KEYS), values | devices | st.just("") | st.just(" 7.5 ")),
    st.sampled_from(["", " ", "\u2028", "’"]),
)
def test_both_ways_make_the_same_row_of_any_object(record, text):
    line = msgspec.json.encode(record | {"note": text} if text else record)
    table = flatten([line], HEADER)
    try:
        expected = [unusual(line, HEADER)]
    except Bad:
        expected = []
    assert [
        msgspec.json.decode(row, type=Row) for row in table.ndjson.split(b"\n")[:-1]
    ] == expected
    assert table.ingested + table.rejected == 1


@given(st.lists(st.binary(max_size=40)))
def test_any_bytes_are_a_row_or_a_reject_or_blank(lines):
    table = flatten(lines, HEADER)
    assert table.ingested + table.rejected == sum(bool(line.strip()) for line in lines)
    for row in table.ndjson.split(b"\n")[:-1]:
        found = msgspec.json.decode(row, type=Row)
        assert found.raw_healthkit_record.encode() in lines
        assert found.value_double is None or math.isfinite(found.value_double)


async def test_the_work_can_be_done_in_another_process():
    lines = (b'{"uuid":"a"}', b"{")
    assert await to_process.run_sync(flatten, lines, HEADER) == flatten(lines, HEADER)
