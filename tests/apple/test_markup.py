"""Broken and malicious XML: intact records are read, in constant memory."""

import tracemalloc
from itertools import chain, repeat

import pytest

from atlas.apple import Unreadable
from atlas.apple.xml_reader import ELEMENT_BYTES_MAX, ElementReader
from tests.apple.exports import DTD, beats, convert, element, record, xml

GOOD = record()
IOS_8 = (
    '<Record type="HKQuantityTypeIdentifierBodyFatPercentage" source="Withings" unit="%" '
    'creationDate="20150616071916-0700" startDate="20150616071820-0700" '
    'endDate="20150616071820-0700" Health Mate App Version="2.6.0" HKDeviceSerialNumber="007" '
    '2nd Name="é" Withings Link="withings-bd2://m?userid=1&amp;type=1" HKWasUserEntered="0" '
    'value="0.21"/>\n'
)
BOMB = """<!DOCTYPE HealthData [
<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">
]>
"""


@pytest.mark.parametrize("chunk_bytes", [1, 7, 100, 1_000_000])
def test_it_does_not_matter_where_the_bytes_are_cut(chunk_bytes):
    data = xml(*beats(20), IOS_8, GOOD.replace("’", "&#8217;"))

    assert convert(data, chunk_bytes)[0] == convert(data)[0]
    assert len(convert(data)[0]) == 22


def test_a_broken_dtd_is_cut_away():
    found, reader = convert(xml(GOOD))

    assert "<!ATTLIST VisionPrescription\n  type CDATA #REQUIRED\n<" in DTD
    assert (len(found), reader.tags_left_out, reader.is_complete) == (1, 0, True)


def test_a_dtd_that_speaks_of_the_root_cannot_smuggle_an_entity():
    tricky = "<!DOCTYPE x [ <!-- <HealthData> --> <!ELEMENT a (b)> ]>\n<!-- <!ENTITY -->"
    found, _ = convert(xml(GOOD.replace("6.1.3", "&a;"), GOOD, dtd=tricky))

    assert [line["sourceVersion"] for line in found] == ["&a;", "6.1.3"]


def test_an_entity_bomb_is_refused():
    with pytest.raises(Unreadable, match="entities"):
        convert(xml(GOOD.replace("6.1.3", "&b;"), dtd=BOMB))


def test_a_byte_order_mark_is_skipped():
    assert len(convert(b"\xef\xbb\xbf" + xml(GOOD, dtd=""))[0]) == 1


def test_me_is_never_emitted():
    found, _ = convert(xml(GOOD))

    assert "1815" not in str(found)


@pytest.mark.parametrize(
    "character",
    [
        "\x0b",
        "\x00",
        "\x1f",
        "&#11;",
        "&#x0B;",
        "&#0;",
        "&#xD800;",
        "&#65535;",
        "\uffff",
        "&#x110000;",
    ],
    ids=ascii,
)
def test_control_characters_are_taken_out(character):
    found, reader = convert(xml(record(sourceName=f"My{character} Watch"), GOOD))

    assert [line["sourceName"] for line in found] == ["My Watch", "Ada’s Apple\u00a0Watch"]
    assert reader.tags_left_out == 0


def test_other_references_stay():
    found, _ = convert(xml(record(sourceName="&lt;&#11;&#10;&#x41;&#8217;&quot;")))

    assert found[0]["sourceName"] == '<\nA’"'


def test_the_attributes_of_ios_8_are_metadata_and_their_names_may_have_spaces():
    (found, _), reader = convert(xml(IOS_8, GOOD))

    assert reader.tags_left_out == 0
    assert (found["sourceName"], found["valueDouble"]) == ("Withings", 0.21)
    assert found["startDate"] == "2015-06-16T14:18:20.000Z"
    assert found["userProvidedFlag"] is False
    assert found["metadata"] == {
        "Health Mate App Version": "2.6.0",
        "HKDeviceSerialNumber": "007",
        "2nd Name": "é",
        "Withings Link": "withings-bd2://m?userid=1&type=1",
        "HKWasUserEntered": False,
    }


@pytest.mark.parametrize("name", ["Größe in cm", "m² of skin", "😀 mood", "_xD800_", "_x110000_"])
def test_the_name_of_an_attribute_is_kept_whatever_it_is(name):
    found, reader = convert(xml(record(**{name: "1"})))

    assert (found[0]["metadata"], reader.tags_left_out) == ({name: 1}, 0)


@pytest.mark.parametrize(
    ("name", "read"),
    [
        pytest.param("a<b>c", "a<b>c", id="brackets"),
        pytest.param("<<HKDevice: 0x1>, name:W>", "<<HKDevice: 0x1>, name:W>", id="a raw device"),
        pytest.param("rock & roll", "rock & roll", id="an ampersand"),
        pytest.param("&nbsp;", "&nbsp;", id="an entity of HTML"),
    ],
)
def test_a_tag_that_is_not_well_formed_is_mended(name, read):
    found, reader = convert(xml(GOOD, record(sourceName=name), GOOD))

    assert [line["sourceName"] for line in found[1:2]] == [read]
    assert (len(found), reader.tags_left_out) == (3, 0)


def test_bytes_that_are_no_utf_8_are_mended():
    data = xml(GOOD, record(sourceName="Zo?"), GOOD).replace(b"Zo?", b"Zo\xeb")

    assert [line["sourceName"] for line in convert(data)[0][1:2]] == ["Zo\ufffd"]


WORKOUT = element("Workout", workoutActivityType="HKWorkoutActivityTypeYoga")


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param('<Record type="a" type="b"/>\n', id="an attribute twice"),
        pytest.param('<Record type=a value="1"/>\n', id="no quotation marks"),
        pytest.param('<Record type="a value=1/>\n', id="a quotation mark that is not closed"),
        pytest.param("<Record\n", id="a tag that is not closed"),
        pytest.param("&nonsense;\n", id="an entity between records"),
        pytest.param("<Record " + "a b c <<<< =\n", id="nonsense"),
    ],
)
def test_a_tag_that_cannot_be_mended_is_left_out_alone(bad):
    found, reader = convert(xml(*beats(3), bad, *beats(3, 3), WORKOUT))

    assert len(found) >= 6
    assert found[-1]["activityType"] == "Yoga"
    assert reader.is_complete
    assert reader.tags_left_out >= 1
    assert reader.omitted_lines[0] >= 14


def test_many_bad_tags_in_a_row_are_no_large_element():
    bad = f'<Record type="a" type="b" value="{"1" * 100_000}"/>\n'
    found, reader = convert(xml(*beats(3), *[bad] * 30, *beats(3, 3)))

    assert len(bad) * 30 > ELEMENT_BYTES_MAX
    assert (len(found), reader.tags_left_out) == (6, 30)


def test_the_line_of_what_was_left_out_is_that_of_the_file():
    data = xml(GOOD, '<Record type="a" type="b"/>\n', GOOD)
    _, reader = convert(data, chunk_bytes=50)

    (line,) = reader.omitted_lines
    assert b'type="a" type="b"' in data.splitlines()[line - 1]


INSIDE = element("MetadataEntry", key="a", value="b")


@pytest.mark.parametrize(
    ("elements", "count"),
    [
        pytest.param([record(inside=INSIDE).replace("</Record>", "</Rec ord>")], 1, id="torn"),
        pytest.param([record(inside=INSIDE).replace("</Record>", "")], 1, id="lost"),
        pytest.param([f"{GOOD}</Record>\n"], 1, id="one too many"),
        pytest.param([record(inside=GOOD)], 2, id="one inside another"),
        pytest.param([f"<Correlation type='a' type='b'>{GOOD}</Correlation>"], 1, id="no begin"),
    ],
)
def test_an_end_that_does_not_fit_loses_nothing_behind_it(elements, count):
    found, reader = convert(xml(GOOD, *elements, WORKOUT, *beats(5)))

    assert reader.is_complete
    assert len(found) == 7 + count


@pytest.mark.parametrize("bytes_lost", [2, 15, 200, 500])
def test_of_an_export_that_is_cut_short_all_is_read_that_is_there(bytes_lost):
    data = xml(*beats(10))
    found, reader = convert(data[: len(data) - bytes_lost])

    assert not reader.is_complete
    assert found == convert(data)[0][: len(found)]
    assert len(found) >= 10 - bytes_lost // 300 - 1


def test_what_stands_behind_the_root_is_not_read():
    found, reader = convert(xml(GOOD) + xml(GOOD))
    assert (len(found), reader.tags_left_out) == (1, 0)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        pytest.param(b"", "neither a zip nor XML", id="nothing"),
        pytest.param(b"\x89PNG\r\n", "neither a zip nor XML", id="a picture"),
        pytest.param(b"{}", "neither a zip nor XML", id="JSON"),
        pytest.param(b"<ClinicalDocument/>", "not a Health export", id="another XML"),
        pytest.param(
            b"<a>" + b" " * 2_000_000 + xml(GOOD), "not a Health export", id="a long head"
        ),
        pytest.param(xml("<a>" * 40), "nested deeper", id="nested"),
    ],
)
def test_what_is_no_export_is_said_in_one_line(data, said):
    with pytest.raises(Unreadable, match=said) as refused:
        convert(data)
    assert "\n" not in str(refused.value)


# memory


def peak(begun: str, chunk: bytes) -> int:
    """Return the peak memory in bytes until an endless XML is rejected."""
    reader, begins = ElementReader(), xml(GOOD, begun, end="")
    tracemalloc.start()
    try:
        with pytest.raises(Unreadable, match="larger than"):
            for _ in reader.elements(chain([begins], repeat(chunk, FOR_LONG))):
                pass
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


FOR_LONG = 256
MOST = 96 * 1024 * 1024


@pytest.mark.parametrize(
    ("begun", "chunk"),
    [
        pytest.param("", b"a" * 65_536, id="text without a tag"),
        pytest.param(
            "<Record>", b"<a/>" * 16_384, id="children without end", marks=pytest.mark.slow
        ),
        pytest.param("", b"<?a b?>" * 9_000, id="instructions"),
        pytest.param('<Record a="', b"b>" * 32_768, id="a value without end"),
    ],
)
def test_what_has_no_end_is_refused_before_it_fills_the_memory(begun, chunk):
    assert peak(begun, chunk) < MOST


def test_an_element_larger_than_a_line_may_be_is_refused():
    begun = xml(f'<Record type="{"a" * (ELEMENT_BYTES_MAX + 65_536)}"/>')

    with pytest.raises(Unreadable, match="2 MiB"):
        convert(begun)


def test_a_parser_forgets_the_names_it_has_met():
    found = ElementReader()
    many = (record(**{f"Name{number}": "1"}) for number in range(3_000))
    for _ in found.elements([xml(GOOD, end=""), *(each.encode() for each in many)]):
        pass

    assert len(found.parser.intern) < 1_100
