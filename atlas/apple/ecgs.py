"""Parses electrocardiograms: header lines of names and values, then one voltage a line.

    Name,Ada Lovelace
    Date of Birth,"Dec 10, 1815"
    Recorded Date,2026-03-14 09:15:00 -0400
    Classification,Sinus Rhythm
    Symptoms,
    Software Version,1.90
    Device,"Watch7,12"
    Sample Rate,512 hertz

Names and decimal separators depend on the phone's language; the order of the lines does not.
Everything before the recorded date identifies the person and is dropped. A voltage that cannot be
parsed makes the whole file invalid, because leaving it out would shift the time axis.
"""

import csv
import re
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

import msgspec
from msgspec import Raw

from atlas.apple.common_fields import parse_number
from atlas.apple.dates import to_utc
from atlas.apple.errors import Unreadable
from atlas.apple.identity import make_uuid
from atlas.apple.samples import Electrocardiogram, Number
from atlas.core import identifiers

TYPE = "HKDataTypeIdentifierElectrocardiogram"
BYTES_MAX = 2 * 1024 * 1024  # of a file; the voltages of 30 seconds have 120 KB
# The first year of such recordings. Nobody born since then may make one, so no later date is a
# date of birth.
FIRST_YEAR = "2018"
HEADER_FIELDS = 7  # after the recorded date
HARDWARE = re.compile(r"[A-Za-z]+\d+,\d+")
NOT_AN_ECG = "is not an electrocardiogram from Apple Health"


def parse_electrocardiogram(chunks: Iterable[bytes]) -> Electrocardiogram:
    """Raises Unreadable."""
    header: list[str] = []
    voltages: list[Number] = []
    try:
        for row in csv.reader(read_text(chunks).splitlines()):
            voltage = parse_voltage(",".join(row))
            if voltage is not None:
                voltages.append(voltage)
            elif any(row) and voltages:
                raise Unreadable(NOT_AN_ECG)
            elif row:
                header.append(",".join(row[1:]))
    except csv.Error as error:
        raise Unreadable(NOT_AN_ECG) from error
    if not voltages:
        raise Unreadable(NOT_AN_ECG)
    return build_electrocardiogram(drop_personal_header(header), voltages)


def parse_voltage(text: str) -> Number | None:
    """Parse a number of any language. If it has comma and point, the first groups thousands."""
    digits = "".join(text.split()).replace("\N{MINUS SIGN}", "-")
    if "," in digits and "." in digits:
        digits = digits.replace(min(",.", key=digits.rfind), "")
    return parse_number(digits.replace(",", "."))


def read_text(chunks: Iterable[bytes]) -> str:
    content = b""
    for chunk in chunks:
        content += chunk
        if len(content) > BYTES_MAX:
            raise Unreadable("is larger than an electrocardiogram of Apple's ever is")
    return content.decode("utf-8-sig", "replace")


def drop_personal_header(header: Sequence[str]) -> list[str]:
    """Return the header from the recorded date on: the last value that is a date.

    Raises Unreadable.
    """
    moments = [index for index, value in enumerate(header) if FIRST_YEAR < to_utc(value) != value]
    if not moments:
        raise Unreadable(NOT_AN_ECG)
    padded = [*header[moments[-1] :], *[""] * HEADER_FIELDS]
    return padded[: HEADER_FIELDS + 1]


def build_electrocardiogram(header: Sequence[str], voltages: list[Number]) -> Electrocardiogram:
    recorded, classified, symptoms, version, device, rate, lead, unit = header
    start, hertz = to_utc(recorded), parse_number(rate.partition(" ")[0].replace(",", "."))
    end = add_seconds(start, len(voltages) / hertz) if hertz else start
    metadata = {"classification": classified, "symptoms": symptoms, "lead": lead}
    return Electrocardiogram(
        sample_type=TYPE,
        sample_class="HKElectrocardiogram",
        data_type="electrocardiogram",
        uuid=make_uuid(TYPE, version, device, start, end),
        start_date=start,
        end_date=end,
        source_version=version or None,
        device=encode_device(device) if device else None,
        metadata={name: text for name, text in metadata.items() if text},
        value_text=classified or None,
        sampling_frequency_hertz=hertz,
        unit=unit or "µV",
        voltages=voltages,
    )


def add_seconds(start: str, seconds: float) -> str:
    """Raises Unreadable."""
    try:
        return identifiers.format_timestamp(
            datetime.fromisoformat(start) + timedelta(seconds=seconds)
        )
    except OverflowError as error:
        raise Unreadable(NOT_AN_ECG) from error


def encode_device(device: str) -> Raw:
    name = "hardwareVersion" if HARDWARE.fullmatch(device) else "name"
    return Raw(msgspec.json.encode({name: device}))
