"""Electrocardiograms: a head of names and values, and then a voltage a line.

    Name,Ada Lovelace
    Date of Birth,"Dec 10, 1815"
    Recorded Date,2026-03-14 09:15:00 -0400
    Classification,Sinus Rhythm
    Symptoms,
    Software Version,1.90
    Device,"Watch7,12"
    Sample Rate,512 hertz

The names are of the phone's language, and so is the comma of a number: what counts is the order.
All that stands before the moment of the recording is who it was, and is dropped. A voltage that
cannot be read is no reason to close the gap: then there is no electrocardiogram.
"""

import csv
import re
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

import msgspec
from msgspec import Raw

from atlas.apple.dates import utc
from atlas.apple.errors import Unreadable
from atlas.apple.identity import uuid_of
from atlas.apple.samples import Electrocardiogram, Number
from atlas.apple.traits import number
from atlas.core import names

TYPE = "HKDataTypeIdentifierElectrocardiogram"
BYTES_MAX = 2 * 1024 * 1024  # of a file; the voltages of 30 seconds have 120 KB
FIRST = "2018"  # was the first year of such recordings, and nobody is born since who may make one
FIELDS = 7  # of the head, behind the moment
HARDWARE = re.compile(r"[A-Za-z]+\d+,\d+")
NO_ECG = "is no electrocardiogram of Apple's"


def electrocardiogram(chunks: Iterable[bytes]) -> Electrocardiogram:
    """Raises Unreadable."""
    head: list[str] = []
    voltages: list[Number] = []
    try:
        for row in csv.reader(text_of(chunks).splitlines()):
            voltage = measured(",".join(row))
            if voltage is not None:
                voltages.append(voltage)
            elif any(row) and voltages:
                raise Unreadable(NO_ECG)
            elif row:
                head.append(",".join(row[1:]))
    except csv.Error as error:
        raise Unreadable(NO_ECG) from error
    if not voltages:
        raise Unreadable(NO_ECG)
    return of(behind_the_person(head), voltages)


def measured(text: str) -> Number | None:
    """In whatever language: of a comma and a point, the first one only groups the thousands."""
    digits = "".join(text.split()).replace("\N{MINUS SIGN}", "-")
    if "," in digits and "." in digits:
        digits = digits.replace(min(",.", key=digits.rfind), "")
    return number(digits.replace(",", "."))


def text_of(chunks: Iterable[bytes]) -> str:
    gathered = b""
    for chunk in chunks:
        gathered += chunk
        if len(gathered) > BYTES_MAX:
            raise Unreadable("is larger than an electrocardiogram of Apple's ever is")
    return gathered.decode("utf-8-sig", "replace")


def behind_the_person(head: Sequence[str]) -> list[str]:
    """From the moment of the recording on: the last value that is one. Raises Unreadable."""
    moments = [place for place, value in enumerate(head) if FIRST < utc(value) != value]
    if not moments:
        raise Unreadable(NO_ECG)
    known = [*head[moments[-1] :], *[""] * FIELDS]
    return known[: FIELDS + 1]


def of(head: Sequence[str], voltages: list[Number]) -> Electrocardiogram:
    recorded, classified, symptoms, version, device, rate, lead, unit = head
    start, hertz = utc(recorded), number(rate.partition(" ")[0].replace(",", "."))
    end = after(start, len(voltages) / hertz) if hertz else start
    told = {"classification": classified, "symptoms": symptoms, "lead": lead}
    return Electrocardiogram(
        sample_type=TYPE,
        sample_class="HKElectrocardiogram",
        data_type="electrocardiogram",
        uuid=uuid_of(TYPE, version, device, start, end),
        start_date=start,
        end_date=end,
        source_version=version or None,
        device=made_by(device) if device else None,
        metadata={name: text for name, text in told.items() if text},
        value_text=classified or None,
        sampling_frequency_hertz=hertz,
        unit=unit or "µV",
        voltages=voltages,
    )


def after(start: str, seconds: float) -> str:
    """Raises Unreadable."""
    try:
        return names.timestamp(datetime.fromisoformat(start) + timedelta(seconds=seconds))
    except OverflowError as error:
        raise Unreadable(NO_ECG) from error


def made_by(device: str) -> Raw:
    name = "hardwareVersion" if HARDWARE.fullmatch(device) else "name"
    return Raw(msgspec.json.encode({name: device}))
