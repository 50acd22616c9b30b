"""Electrocardiograms and routes are converted to separate lines on request."""

import pytest

from atlas.apple.routes import POINTS_MAX, TEXT_MAX, TrackParser
from tests.apple.exports import ECG, an_export, gpx, read_lines, record

PORTUGUESE = """Nome,Ada Lovelace
Data de nascimento,"10/12/1815"
Data de registo,2026-03-14 13:15:00 +0000
Classificação,Ritmo sinusal
Sintomas,
Versão do software,1.90
Dispositivo,"Watch7,12"
Frequência,512 hertz


Derivação,Derivação I
Unidade,µV

-12,3
0
40,125
"""
BORN_ONLY = ECG.replace("2026-03-14 09", "2026-03-14 9 a.m. 09").replace(
    '"Dec 10, 1815"', "1815-12-10 00:00:00 +0000"
)


LONG = "".join(f"{number}\n" for number in range(400_000)).encode()


def read_companion_lines(tmp_path, **files: bytes) -> list[dict[str, object]]:
    """Return the lines of the files next to an XML with one record."""
    lines, conversion = read_lines(
        an_export(tmp_path / "export.zip", record(), **files), with_ecgs=True, with_routes=True
    )
    assert not conversion.skipped
    return lines[1:]


def test_nothing_is_read_that_was_not_asked_for(tmp_path):
    path = an_export(tmp_path / "export.zip", record(), a_csv=ECG.encode(), b_gpx=gpx(2))

    assert len(read_lines(path)[0]) == 1
    assert len(read_lines(path, with_ecgs=True)[0]) == 2
    assert len(read_lines(path, with_routes=True)[0]) == 2


def test_an_ecg_is_a_line_and_does_not_say_whose_it_is(tmp_path):
    (line,) = read_companion_lines(tmp_path, ecg_csv=ECG.encode())

    assert not {"Ada", "Lovelace", "1815", "Dec"} & set(str(line).replace("'", " ").split())
    assert len(line.pop("uuid")) == 36
    assert line == {
        "sampleType": "HKDataTypeIdentifierElectrocardiogram",
        "sampleClass": "HKElectrocardiogram",
        "dataType": "electrocardiogram",
        "startDate": "2026-03-14T13:15:00.000Z",
        "endDate": "2026-03-14T13:15:00.005Z",
        "sourceVersion": "1.90",
        "device": {"hardwareVersion": "Watch7,12"},
        "unit": "µV",
        "samplingFrequencyHertz": 512,
        "valueText": "Sinus Rhythm",
        "voltages": [-12.3, 0, 40.125],
        "metadata": {
            "classification": "Sinus Rhythm",
            "symptoms": "Chest pain, dizziness",
            "lead": "Lead I",
        },
    }


def test_an_ecg_in_another_language_is_the_same_sample(tmp_path):
    (one,) = read_companion_lines(tmp_path, a_csv=ECG.encode())
    (other,) = read_companion_lines(tmp_path, b_csv=PORTUGUESE.encode())

    assert other["voltages"] == one["voltages"]
    assert other["uuid"] == one["uuid"]
    assert "Lovelace" not in str(other)
    assert "1815" not in str(other)


@pytest.mark.parametrize(
    ("written", "voltage"),
    [
        ("1,040.125", 1040.125),
        ('"1,040.125"', 1040.125),
        ("1.040,125", 1040.125),
        ("1\u202f040,125", 1040.125),
        ("\u22121040,125", -1040.125),
        ("1040", 1040),
    ],
    ids=ascii,
)
def test_a_voltage_is_read_in_whatever_language_it_is_written(tmp_path, written, voltage):
    (line,) = read_companion_lines(tmp_path, ecg_csv=ECG.replace("40.125", written).encode())

    assert line["voltages"] == [-12.3, 0, voltage]


@pytest.mark.parametrize(
    "born", ["1815-12-10", "1815-12-10 00:00:00 +0000", '"10 déc. 1815"'], ids=str
)
def test_a_birth_date_is_dropped_however_it_is_written(tmp_path, born):
    (line,) = read_companion_lines(tmp_path, ecg_csv=ECG.replace('"Dec 10, 1815"', born).encode())

    assert "1815" not in str(line)
    assert line["startDate"] == "2026-03-14T13:15:00.000Z"


@pytest.mark.parametrize("encoding", ["martian", "gb2312", "utf-16"])
def test_a_route_is_utf_8_whatever_it_says(tmp_path, encoding):
    (line,) = read_companion_lines(tmp_path, route_gpx=gpx(2).replace(b"UTF-8", encoding.encode()))

    assert len(line["locations"]) == 2


def test_a_route_is_a_line_with_all_that_was_measured(tmp_path):
    (line,) = read_companion_lines(tmp_path, route_gpx=gpx(2))

    assert line["locations"][0] == {
        "latitude": 53.252917,
        "longitude": -2.538323,
        "altitude": 21.476473,
        "timestamp": "2020-07-29T13:00:00.000Z",
        "speed": 1.642115,
        "course": -1,
        "horizontalAccuracy": 3.72322,
        "verticalAccuracy": 2.774929,
    }
    assert (line["dataType"], line["routeFile"]) == ("workoutRoute", "route.gpx")
    assert line["startDate"] == "2020-07-29T13:00:00.000Z"
    assert line["endDate"] == "2020-07-29T13:00:01.000Z"


def test_a_route_that_is_longer_than_a_line_may_be_is_cut(tmp_path):
    lines = read_companion_lines(tmp_path, route_gpx=gpx(POINTS_MAX + 5))

    assert [len(line["locations"]) for line in lines] == [POINTS_MAX, 5]
    assert lines[0]["uuid"] != lines[1]["uuid"]


def test_of_a_text_without_end_no_more_is_kept_than_a_number_has():
    points = TrackParser()
    for chunk in [b"<gpx><trkpt><ele>", *[b"1" * 1_000] * 50]:
        points.feed(chunk)

    assert len(points.text) < TEXT_MAX + 1_001


@pytest.mark.parametrize(
    ("name", "data"),
    [
        pytest.param("a_csv", b"a,b\nc,d\n", id="a table"),
        pytest.param("a_csv", b"1\n2\n", id="only numbers"),
        pytest.param("a_csv", b'"' + b"a" * 200_000, id="a field without end"),
        pytest.param("a_csv", ECG.encode() + LONG, id="a long one"),
        pytest.param(
            "a_csv", ECG.replace("\n0\n", "\n0 or so\n").encode(), id="an unknown voltage"
        ),
        pytest.param("a_csv", BORN_ONLY.encode(), id="a moment of birth and no other"),
        pytest.param("a_csv", b"\xff\x00\xfe", id="bytes"),
        pytest.param("a_gpx", b"", id="nothing"),
        pytest.param("a_gpx", b"<gpx/>", id="no points"),
        pytest.param("a_gpx", gpx(3)[:-20], id="a route that is cut short"),
        pytest.param("a_gpx", gpx(3, "<!DOCTYPE gpx [<!ENTITY a 'b'>]>"), id="an entity"),
    ],
)
def test_a_file_that_is_none_of_apples_is_passed_over_alone(tmp_path, name, data):
    files = {name: data, "z_csv": ECG.encode(), "z_gpx": gpx(2)}
    path = an_export(tmp_path / "export.zip", record(), **files)

    lines, conversion = read_lines(path, with_ecgs=True, with_routes=True)
    assert len(lines) == 3
    assert conversion.skipped.total() == 1
    assert conversion.error is None
