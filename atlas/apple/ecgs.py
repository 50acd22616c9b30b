"""Parses electrocardiograms: header lines of names and values, then one voltage a line.

    Name,Ada Lovelace
    Date of Birth,"Dec 10, 1815"
    Recorded Date,2026-03-14 09:15:00 -0400
    Classification,Sinus Rhythm
    Symptoms,
    Software Version,1.90
    Device,"Watch7,12"
    Sample Rate,512 hertz

Names, units, digits and decimal marks depend on the phone's language; the order of the lines does
not. Everything before the recorded date identifies the person and is dropped. A voltage that cannot
be parsed makes the whole file invalid, because leaving it out would shift the time axis. A sampling
rate that cannot be parsed is counted, and leaves the sample without its end.
"""

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from io import StringIO

import msgspec
from msgspec import Raw

from atlas.apple.context import RATES, UNITS, ConversionContext
from atlas.apple.dates import to_utc
from atlas.apple.errors import Unreadable
from atlas.apple.numerals import is_number, parse_numbers, parse_quantity
from atlas.apple.samples import Electrocardiogram, Number
from atlas.core import identifiers

TYPE = "HKDataTypeIdentifierElectrocardiogram"
BYTES_MAX = 2 * 1024 * 1024  # of a file; the voltages of 30 seconds have 120 KB
# The first year of such recordings. Nobody born since then may make one, so no later date is a
# date of birth.
FIRST_YEAR = "2018"
HEADER = ("recorded", "classification", "symptoms", "version", "device", "rate", "lead", "unit")
HERTZ = (10, 10_000)  # Apple's is 512; nothing outside is the rate of an electrocardiogram
MICROVOLTS = {"", "µv", "μv", "uv", "mcv", "мкв", "微伏", "마이크로볼트"}
NO_DATE = "has no date of an electrocardiogram that can be read"
HARDWARE = re.compile(r"[A-Za-z]+\d+,\d+")
NOT_AN_ECG = "is not an electrocardiogram from Apple Health"


def parse_electrocardiogram(
    chunks: Iterable[bytes], context: ConversionContext
) -> Electrocardiogram:
    """Raises Unreadable."""
    header: list[str] = []
    texts: list[str] = []
    try:
        for row in csv.reader(StringIO(read_text(chunks), newline="")):
            text = ",".join(row)
            if is_number(text):
                texts.append(text)
            elif any(row) and texts:
                raise Unreadable(NOT_AN_ECG)
            elif row:
                header.append(",".join(row[1:]))
    except csv.Error as error:
        raise Unreadable(NOT_AN_ECG) from error
    voltages = parse_numbers(texts)
    if not voltages:
        raise Unreadable(NOT_AN_ECG)
    return build_electrocardiogram(drop_personal_header(header), voltages, context)


def read_text(chunks: Iterable[bytes]) -> str:
    content = b""
    for chunk in chunks:
        content += chunk
        if len(content) > BYTES_MAX:
            raise Unreadable("is larger than an electrocardiogram of Apple's ever is")
    return content.decode("utf-8-sig", "replace")


def drop_personal_header(header: Sequence[str]) -> dict[str, str]:
    """Return the header from the recorded date on: the last value that is a date.

    Raises Unreadable.
    """
    moments = [index for index, value in enumerate(header) if FIRST_YEAR < to_utc(value) != value]
    if not moments:
        raise Unreadable(NO_DATE if len(header) >= len(HEADER) else NOT_AN_ECG)
    padded = [*header[moments[-1] :], *[""] * len(HEADER)]
    return dict(zip(HEADER, padded, strict=False))


def build_electrocardiogram(
    header: Mapping[str, str], voltages: list[Number], context: ConversionContext
) -> Electrocardiogram:
    start = to_utc(header["recorded"])
    hertz = parse_quantity(header["rate"], *HERTZ)
    context.unread[RATES] += hertz is None
    count = len(voltages)
    names = ("classification", "symptoms", "lead")
    return Electrocardiogram(
        sample_type=TYPE,
        sample_class="HKElectrocardiogram",
        data_type="electrocardiogram",
        uuid=context.identity.identify_electrocardiogram(TYPE, header, start, count),
        start_date=start,
        end_date=add_seconds(start, count / hertz) if hertz else start,
        source_version=header["version"] or None,
        device=encode_device(header["device"]) if header["device"] else None,
        metadata={name: header[name] for name in names if header[name]},
        value_text=header["classification"] or None,
        sampling_frequency_hertz=hertz,
        unit=read_unit(header["unit"], context),
        voltages=voltages,
    )


def read_unit(text: str, context: ConversionContext) -> str:
    """Return microvolts in Apple's spelling. Another unit stays as it is, and is counted."""
    if text.strip().casefold() in MICROVOLTS:
        return "µV"
    context.unread[UNITS] += 1
    return text


def add_seconds(start: str, seconds: float) -> str:
    return identifiers.format_timestamp(datetime.fromisoformat(start) + timedelta(seconds=seconds))


def encode_device(device: str) -> Raw:
    name = "hardwareVersion" if HARDWARE.fullmatch(device) else "name"
    return Raw(msgspec.json.encode({name: device}))
