"""Builders of Apple Health exports for tests."""

import zipfile
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path

import msgspec

from atlas.apple import Conversion, encode_line, open_export
from atlas.apple.context import ConversionContext
from atlas.apple.conversion import convert_elements
from atlas.apple.xml_reader import ElementReader

WATCH = (
    "&lt;&lt;HKDevice: 0x282d03020&gt;, name:Apple Watch, manufacturer:Apple Inc., model:Watch, "
    "hardware:Watch5,3, software:6.1.3&gt;"
)
BEGAN = datetime(2020, 4, 10)  # noqa: DTZ001  # Apple writes the offset after it
DTD = """<!DOCTYPE HealthData [
<!-- HealthKit Export Version: 12 -->
<!ELEMENT HealthData (ExportDate,Me,(Record|Correlation|Workout|ActivitySummary)*)>
<!ATTLIST VisionPrescription
  type CDATA #REQUIRED
<!ATTLIST Eye
  prism CDATA #IMPLIED>
]>
"""
ME = '<Me HKCharacteristicTypeIdentifierDateOfBirth="1815-12-10"/>'


def record(**attributes: str) -> str:
    """Build a heart rate record; `attributes` replace its own, `inside` is its children."""
    inside = attributes.pop("inside", "")
    given = {
        "type": "HKQuantityTypeIdentifierHeartRate",
        "sourceName": "Ada’s Apple\u00a0Watch",
        "sourceVersion": "6.1.3",
        "device": WATCH,
        "unit": "count/min",
        "creationDate": "2020-04-10 03:38:56 +0200",
        "startDate": "2020-04-10 03:33:34 +0200",
        "endDate": "2020-04-10 03:33:34 +0200",
        "value": "60",
    } | attributes
    return element("Record", inside, **given)


def element(name: str, inside: str = "", **attributes: str) -> str:
    text = "".join(f' {key}="{value}"' for key, value in attributes.items() if value != "absent")
    return f"<{name}{text}>{inside}</{name}>\n" if inside else f"<{name}{text}/>\n"


def beats(count: int, first: int = 0) -> list[str]:
    """Build `count` distinct records."""
    moments = (BEGAN + timedelta(seconds=number) for number in range(first, first + count))
    return [record(startDate=f"{at} +0200", value=str(60 + at.second % 7)) for at in moments]


def xml(*elements: str, dtd: str = DTD, end: str = "</HealthData>\n") -> bytes:
    date = '<ExportDate value="2020-04-17 13:23:53 +0200"/>'
    begin = f'<?xml version="1.0" encoding="UTF-8"?>\n{dtd}<HealthData locale="en_ZA">\n {date}\n'
    return (f"{begin} {ME}\n" + "".join(f" {each}" for each in elements) + end).encode()


def write_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def an_export(path: Path, *elements: str, **files: bytes) -> Path:
    """Write an export.zip with these records; `ecg_csv=…` adds a file ecg.csv next to the XML."""
    folder = "apple_health_export"
    beside = {f"{folder}/{name.replace('_', '.')}": data for name, data in files.items()}
    return write_zip(path, {f"{folder}/export.xml": xml(*elements), **beside})


def convert(
    data: bytes, chunk_bytes: int = 65_536, identity: int = 2
) -> tuple[list[dict[str, object]], ElementReader]:
    """Convert an XML; return its lines, decoded, and the reader."""
    reader = ElementReader()
    chunks = (data[at : at + chunk_bytes] for at in range(0, len(data), chunk_bytes))
    context = ConversionContext.begin(identity)
    found = [
        msgspec.json.decode(encode_line(each))
        for each in convert_elements(reader.elements(chunks), context, Counter())
    ]
    return found, reader


def read_lines(path: Path, **options: int) -> tuple[list[dict[str, object]], Conversion]:
    with open_export(path) as export:
        conversion = Conversion(export, **options)
        return [msgspec.json.decode(encode_line(each)) for each in conversion.samples()], conversion


def convert_one(*elements: str, identity: int = 2) -> dict[str, object]:
    """Convert elements that result in exactly one line, and return it."""
    (found,), reader = convert(xml(*elements), identity=identity)
    assert reader.tags_left_out == 0
    return found


ECG = """Name,Ada Lovelace
Date of Birth,"Dec 10, 1815"
Recorded Date,2026-03-14 09:15:00 -0400
Classification,Sinus Rhythm
Symptoms,"Chest pain, dizziness"
Software Version,1.90
Device,"Watch7,12"
Sample Rate,512 hertz


Lead,Lead I
Unit,µV

-12.3
0
40.125
"""
POINT = (
    '<trkpt lon="-2.538323" lat="53.252917"><ele>21.476473</ele>'
    "<time>2020-07-29T13:{minute:02}:{second:02}Z</time><extensions><speed>1.642115</speed>"
    "<course>-1.000000</course><hAcc>3.723220</hAcc><vAcc>2.774929</vAcc></extensions></trkpt>\n"
)


def gpx(count: int, head: str = "") -> bytes:
    points = (POINT.format(minute=number // 60 % 60, second=number % 60) for number in range(count))
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n{head}<gpx version="1.1" creator="Apple Health '
        'Export" xmlns="http://www.topografix.com/GPX/1/1"><metadata><time>2020-08-23T17:40:02Z'
        f"</time></metadata><trk><name>Route</name><trkseg>{''.join(points)}</trkseg></trk></gpx>"
    ).encode()
