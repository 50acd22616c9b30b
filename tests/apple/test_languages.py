"""Text in the phone's language, in the forms that CLDR has for the languages of iOS."""

import pytest

from atlas.apple.dates import to_utc
from atlas.apple.numerals import parse_any_number, parse_numbers, parse_quantity
from tests.apple.exports import ECG, an_export, convert, element, gpx, read_lines, record, xml

# language: 511.422 Hz, the number -1040.125, and the halves of a day
CLDR = [
    ("ar", "511.422 هرتز", "-1,040.125", "ص", "م"),
    ("ar_EG", "511٫422 هرتز", "-1٬040٫125", "ص", "م"),
    ("ca", "511,422 hertzs", "-1.040,125", "a.\u202fm.", "p.\u202fm."),
    ("zh_Hans", "511.422赫兹", "-1,040.125", "上午", "下午"),
    ("zh_Hant", "511.422 赫茲", "-1,040.125", "上午", "下午"),
    ("zh_Hant_HK", "511.422 赫茲", "-1,040.125", "上午", "下午"),
    ("hr", "511,422 herca", "-1.040,125", "AM", "PM"),
    ("cs", "511,422 hertzu", "-1\u00a0040,125", "dop.", "odp."),
    ("da", "511,422 hertz", "-1.040,125", "AM", "PM"),
    ("nl", "511,422 hertz", "-1.040,125", "a.m.", "p.m."),
    ("en", "511.422 hertz", "-1,040.125", "AM", "PM"),
    ("en_AU", "511.422 hertz", "-1,040.125", "am", "pm"),
    ("en_GB", "511.422 hertz", "-1,040.125", "am", "pm"),
    ("en_IN", "511.422 hertz", "-1,040.125", "AM", "PM"),
    ("en_ZA", "511,422 hertz", "-1\u00a0040,125", "am", "pm"),
    ("fi", "511,422 hertsiä", "-1\u00a0040,125", "ap.", "ip."),
    ("fr", "511,422\u00a0hertz", "-1\u202f040,125", "AM", "PM"),
    ("fr_CA", "511,422\u00a0hertz", "-1\u00a0040,125", "a.m.", "p.m."),
    ("de", "511,422\u00a0Hertz", "-1.040,125", "AM", "PM"),
    ("de_AT", "511,422\u00a0Hertz", "-1.040,125", "AM", "PM"),
    ("de_CH", "511.422\u00a0Hertz", "-1'040.125", "AM", "PM"),
    ("el", "511,422 χερτζ", "-1.040,125", "π.μ.", "μ.μ."),
    ("he", "511.422 הרץ", "-1,040.125", "AM", "PM"),
    ("hi", "511.422 हर्ट्ज़", "-1,040.125", "am", "pm"),
    ("hu", "511,422 hertz", "-1\u00a0040,125", "de.", "du."),
    ("id", "511,422 hertz", "-1.040,125", "AM", "PM"),
    ("it", "511,422 hertz", "-1.040,125", "AM", "PM"),
    ("ja", "511.422 ヘルツ", "-1,040.125", "午前", "午後"),
    ("kk", "511,422 герц", "-1\u00a0040,125", "AM", "PM"),
    ("ko", "511.422헤르츠", "-1,040.125", "오전", "오후"),
    ("ms", "511.422 hertz", "-1,040.125", "PG", "PTG"),
    ("nb", "511,422 hertz", "-1\u00a0040,125", "a.m.", "p.m."),
    ("pl", "511,422 herca", "-1\u00a0040,125", "AM", "PM"),
    ("pt", "511,422 hertz", "-1.040,125", "AM", "PM"),
    ("pt_PT", "511,422 hertz", "-1\u00a0040,125", "a.m.", "p.m."),
    ("ro", "511,422 hertzi", "-1.040,125", "a.m.", "p.m."),
    ("ru", "511,422 герца", "-1\u00a0040,125", "AM", "PM"),
    ("sk", "511,422 hertza", "-1\u00a0040,125", "AM", "PM"),
    ("es", "511,422 hercios", "-1.040,125", "a.\u202fm.", "p.\u202fm."),
    ("es_419", "511.422 hercios", "-1,040.125", "a.m.", "p.m."),
    ("sv", "511,422 hertz", "-1\u00a0040,125", "fm", "em"),
    ("th", "511.422 เฮิรตซ์", "-1,040.125", "AM", "PM"),
    ("tr", "511,422 hertz", "-1.040,125", "ÖÖ", "ÖS"),
    ("uk", "511,422 герца", "-1\u00a0040,125", "дп", "пп"),
    ("vi", "511,422 Hz", "-1.040,125", "SA", "CH"),
    ("bg", "511,422 херца", "-1\u00a0040,125", "am", "pm"),
    ("bn", "511.422 হার্জ", "-1,040.125", "AM", "PM"),
    ("fa", "511٫422 هرتز", "-1٬040٫125", "ق.ظ.", "ب.ظ."),
    ("gu", "511.422 હર્ટ્ઝ", "-1,040.125", "AM", "PM"),
    ("kn", "511.422 ಹರ್ಟ್ಸ್\u200c", "-1,040.125", "AM", "PM"),
    ("lt", "511,422 herco", "-1\u00a0040,125", "priešpiet", "popiet"),
    ("ml", "511.422 ഹെർട്സ്", "-1,040.125", "AM", "PM"),
    ("mr", "511.422 हर्ट्झ", "-1,040.125", "AM", "PM"),
    ("or", "511.422 ହର୍ଜ୍", "-1,040.125", "AM", "PM"),
    ("pa", "511.422 ਹਰਟਜ਼", "-1,040.125", "AM", "PM"),
    ("sl", "511,422 herci", "-1.040,125", "dop.", "pop."),
    ("ta", "511.422 ஹெர்ட்ஸ்", "-1,040.125", "AM", "PM"),
    ("te", "511.422 హెర్ట్\u200cజ్", "-1,040.125", "AM", "PM"),
    ("ur", "511.422 ہرٹز", "-1,040.125", "AM", "PM"),
]
every_language = pytest.mark.parametrize(
    ("rate", "voltage", "morning", "afternoon"),
    [pytest.param(*forms, id=language) for language, *forms in CLDR],
)
ENGLISH_RATE, ENGLISH_VOLTAGES = "512 hertz", "-12.3\n0\n40.125\n"


def read_ecg(tmp_path, text: str) -> tuple[dict[str, object], dict[str, int]]:
    """Return the line of an electrocardiogram, and what could not be read."""
    path = an_export(tmp_path / "export.zip", record(), ecg_csv=text.encode())
    lines, conversion = read_lines(path, with_ecgs=True)
    assert not conversion.skipped
    return lines[1], dict(conversion.unread)


# electrocardiograms


@every_language
def test_an_ecg_has_its_rate_its_end_and_its_uuid_in_every_language(
    tmp_path, rate, voltage, morning, afternoon
):
    english, _ = read_ecg(tmp_path, ECG.replace(ENGLISH_RATE, "511.422 hertz"))
    local = ECG.replace(ENGLISH_RATE, rate).replace(ENGLISH_VOLTAGES, f"{voltage}\n{voltage}\n0\n")
    line, unread = read_ecg(tmp_path, local)

    assert line["samplingFrequencyHertz"] == 511.422
    assert line["voltages"] == [-1040.125, -1040.125, 0]
    assert (line["uuid"], line["endDate"]) == (english["uuid"], english["endDate"])
    assert line["endDate"] > line["startDate"]
    assert unread == {}


@every_language
def test_a_12_hour_date_is_read_in_every_language(rate, voltage, morning, afternoon):
    for space in (" ", "\u00a0", "\u202f", ""):
        assert to_utc(f"2023-03-04 8:55:07{space}{afternoon} -0500") == "2023-03-05T01:55:07.000Z"
        assert to_utc(f"2023-03-04 8:55:07{space}{morning} -0500") == "2023-03-04T13:55:07.000Z"
        assert to_utc(f"2023-03-04 {morning}{space}12:05:07 -0500") == "2023-03-04T05:05:07.000Z"
        assert to_utc(f"2023-03-04 {afternoon}{space}12:05:07 -0500") == "2023-03-04T17:05:07.000Z"


def test_a_german_ecg_as_a_phone_wrote_it_is_read(tmp_path):
    german = (
        'Name\nGeburtstag,"27.03.1987"\nAufzeichnungsdatum,2020-07-31 22:48:19 +0200\n'
        "Klassifizierung,Sinusrhythmus\nSymptome,\nSoftwareversion,1.13\n"
        'Gerät,"Watch4,2"\nMessrate,511,562\u00a0Hertz\n\n\nAbleitung,Ableitung I\nEinheit,µV\n\n'
        "-180,596\n-199,83\n-217,333\n"
    )
    line, unread = read_ecg(tmp_path, german)

    assert line["samplingFrequencyHertz"] == 511.562
    assert line["voltages"] == [-180.596, -199.83, -217.333]
    assert (line["valueText"], line["device"]) == ("Sinusrhythmus", {"hardwareVersion": "Watch4,2"})
    assert "1987" not in str(line)
    assert unread == {}


@pytest.mark.parametrize(
    "rate", ["", "fast", "5 or 6 hertz", "0.512 kHz", "1e-320", "512 / 2", "9" * 50], ids=str
)
def test_a_rate_that_cannot_be_read_is_told_and_keeps_the_voltages(tmp_path, rate):
    line, unread = read_ecg(tmp_path, ECG.replace(ENGLISH_RATE, rate))

    assert "samplingFrequencyHertz" not in line
    assert line["voltages"] == [-12.3, 0, 40.125]
    assert unread == {"sampling rates of electrocardiograms": 1}


@pytest.mark.parametrize(("unit", "unread"), [("μV", 0), ("мкВ", 0), ("µV ", 0), ("bananas", 1)])
def test_a_unit_of_voltages_is_known_or_told(tmp_path, unit, unread):
    line, told = read_ecg(tmp_path, ECG.replace("µV", unit))

    assert line["unit"] == (unit if unread else "µV")
    assert told.get("units of electrocardiograms", 0) == unread


def test_an_ecg_without_a_date_that_can_be_read_says_so_alone(tmp_path):
    undated = ECG.replace("2026-03-14", "0008-03-14")
    path = an_export(tmp_path / "e.zip", record(), a_csv=undated.encode(), b_csv=ECG.encode())

    lines, conversion = read_lines(path, with_ecgs=True)
    assert len(lines) == 2
    assert dict(conversion.skipped) == {"has no date of an electrocardiogram that can be read": 1}


@pytest.mark.parametrize(
    ("texts", "numbers"),
    [
        pytest.param(["-265,868", "3"], [-265.868, 3], id="one mark is the decimal one"),
        pytest.param(["1.040", "-12,3"], [1040, -12.3], id="the other one shows it"),
        pytest.param(["1,040", "-12.3"], [1040, -12.3], id="in English"),
        pytest.param(["1.040,125", "1.040"], [1040.125, 1040], id="by a number with both"),
        pytest.param(["1.040", "1.5"], [1.04, 1.5], id="decimal, as elsewhere in the file"),
        pytest.param(["1.040", "-12,3", "1.5"], None, id="both, so that nobody knows"),
        pytest.param(["1", "or so"], None, id="words"),
    ],
)
def test_the_numbers_of_a_file_have_one_decimal_mark(texts, numbers):
    assert parse_numbers(texts) == numbers


# numbers


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("60,5", 60.5),
        ("1.234,5", 1234.5),
        ("12,34,567.8", 1234567.8),
        ("1\u202f234,5", 1234.5),
        ("1’234.5", 1234.5),
        ("\u0661\u0662\u066b\u0665", 12.5),
        ("\u200e\u2212\u06f1", -1),
        ("1.234.567", 1234567),
        ("1,234", None),
        ("1,23,4", None),
        ("1,2,3", None),
        ("0,123,456", None),
        ("1.2,3.4", None),
        ("1_000", None),
        ("1,5e3", None),
        ("½", None),
        ("", None),
        ("1" + ",234" * 20, None),
    ],
    ids=ascii,
)
def test_a_number_is_read_if_it_has_one_meaning(text, number):
    assert parse_any_number(text) == number


@pytest.mark.parametrize(("text", "number"), [("1,024 Hz", 1024), ("9,999,999 Hz", None)])
def test_the_range_of_a_quantity_decides_between_two_readings(text, number):
    assert parse_quantity(text, 10, 10_000) == number


# dates


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        pytest.param("2563-04-10 03:38:56 +0200", "2020-04-10T01:38:56.000Z", id="Buddhist"),
        pytest.param("2563-04-10 3:38:56\u202fPM +0700", "2020-04-10T08:38:56.000Z", id="12 hours"),
        pytest.param("令和2-04-10 03:38:56 +0200", "2020-04-10T01:38:56.000Z", id="Reiwa"),
        pytest.param("平成31年4月10日 03:38:56 +0900", "2019-04-09T18:38:56.000Z", id="Heisei"),
        pytest.param("民國109-04-10 03:38:56 +0800", "2020-04-09T19:38:56.000Z", id="Minguo"),
        pytest.param(
            "\u0662\u0660\u0662\u0660-\u0660\u0664-\u0661\u0660 "
            "\u0660\u0663:\u0663\u0668:\u0665\u0666 "
            "+\u0660\u0662\u0660\u0660",
            "2020-04-10T01:38:56.000Z",
            id="Arabic digits",
        ),
        pytest.param(
            "2020-04-10\u202f03:38:56\u00a0+0200", "2020-04-10T01:38:56.000Z", id="spaces"
        ),
        pytest.param("2020-04-10 0:38:56 PM +0200", "2020-04-10T10:38:56.000Z", id="hour 0"),
        pytest.param("2020-04-10 15:38:56 PM +0200", "2020-04-10T13:38:56.000Z", id="both"),
    ],
)
def test_a_date_of_a_phone_with_other_settings_is_read(text, moment):
    assert to_utc(text) == moment
    line = convert(xml(record(startDate=text)))[0][0]
    assert line["startDate"] == moment


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("0002-04-10 03:38:56 +0200", id="Japan, of which era"),
        pytest.param("1447-02-11 03:38:56 +0300", id="Islamic"),
        pytest.param("5786-02-11 03:38:56 +0300", id="Hebrew"),
        pytest.param("令和-04-10 03:38:56 +0200", id="an era alone"),
        pytest.param("紀元2680-04-10 03:38:56 +0900", id="an unknown era"),
        pytest.param("2023-03-04 8:55:07 -0500", id="of which half of the day"),
        pytest.param("2023-03-04 8:55:07 X -0500", id="an unknown word"),
        pytest.param("2023-03-04 13:55:07 AM -0500", id="a contradiction"),
        pytest.param("2023-03-04 8:55:07 PM", id="no offset"),
        pytest.param("2023-13-04 8:55:07 PM -0500", id="month 13"),
        pytest.param("04.03.2023 08:55:07 PM -0500", id="the day first"),
        pytest.param("2023-03-04 8:55:07 " + "P" * 100 + " -0500", id="long"),
    ],
)
def test_a_date_that_nobody_can_know_stays_as_it_is_and_is_told(tmp_path, text):
    path = an_export(tmp_path / "export.zip", record(startDate=text, endDate=text), record())
    lines, conversion = read_lines(path)

    assert to_utc(text) == text
    assert lines[0]["startDate"] == text
    assert dict(conversion.unread) == {"dates": 2}


def test_a_creation_date_that_cannot_be_read_is_told_as_well(tmp_path):
    path = an_export(tmp_path / "export.zip", record(creationDate="0002-04-10 03:38:56 +0900"))

    assert dict(read_lines(path)[1].unread) == {"dates": 1}


# what is told


def test_what_cannot_be_read_is_told_by_kind_and_never_with_its_value(atlas, tmp_path):
    workout = element(
        "Workout",
        element("WorkoutStatistics", type="HKQuantityTypeIdentifierDistanceCycling", sum="many"),
        workoutActivityType="HKWorkoutActivityTypeYoga",
        duration="4711",
        durationUnit="fortnight",
        startDate="2020-04-06 09:04:51 +0200",
        endDate="yesterday",
    )
    path = an_export(
        tmp_path / "export.zip",
        record(value="4,711"),
        record(value="much"),
        workout,
        ecg_csv=ECG.replace("512 hertz", "4711 / 4712").encode(),
        route_gpx=gpx(2).replace(b"<ele>21.476473", b"<ele>4,711"),
    )
    ended = atlas("import", path, "--dry-run", "--ecg", "--routes")

    assert ended.code == 0
    assert ended.err == (
        "not understood, so sent as text or left out: dates (1), numbers in routes (2), "
        "sampling rates of electrocardiograms (1), totals of workouts (2), "
        "values that are not numbers (3)\n"
    )
    assert "4711" not in ended.out


def test_a_sample_of_a_correlation_is_told_once(tmp_path):
    food = record(value="much", startDate="yesterday")
    path = an_export(tmp_path / "export.zip", food, element("Correlation", food, startDate=""))
    _, conversion = read_lines(path)

    assert dict(conversion.unread) == {"dates": 3, "values that are not numbers": 1}


def test_a_statistic_that_is_not_a_number_stays_text_and_is_told(tmp_path):
    part = element("WorkoutStatistics", type="a", sum="many", average="1,5", unit="km")
    (line,), conversion = read_lines(an_export(tmp_path / "export.zip", a_workout(part)))

    assert line["statistics"] == [{"type": "a", "unit": "km", "sum": "many", "average": 1.5}]
    assert dict(conversion.unread) == {"values that are not numbers": 1}


def a_workout(inside: str) -> str:
    moments = dict.fromkeys(["startDate", "endDate"], "2020-04-06 09:04:51 +0200")
    return element("Workout", inside, workoutActivityType="HKWorkoutActivityTypeYoga", **moments)


def test_a_heartbeat_that_is_not_a_number_stays_text_and_is_told(tmp_path):
    beats = [element("InstantaneousBeatsPerMinute", bpm=bpm, time="") for bpm in ("65,5", "fast")]
    inside = element("HeartRateVariabilityMetadataList", "".join(beats))
    (line,), conversion = read_lines(an_export(tmp_path / "export.zip", record(inside=inside)))

    assert [each["bpm"] for each in line["heartbeats"]] == [65.5, "fast"]
    assert dict(conversion.unread) == {"values that are not numbers": 1}


def test_a_route_with_decimal_commas_is_the_same(tmp_path):
    english = read_lines(
        an_export(tmp_path / "a.zip", record(), route_gpx=gpx(2)), with_routes=True
    )
    commas = gpx(2).replace(b"21.476473", b"21,476473").replace(b"53.252917", b"53,252917")
    local = read_lines(an_export(tmp_path / "b.zip", record(), route_gpx=commas), with_routes=True)

    assert commas != gpx(2)
    assert local[0] == english[0]
