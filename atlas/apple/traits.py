"""What every element of Apple's has: a source, a device, dates, metadata."""

from functools import lru_cache
from math import isfinite
from typing import Any, NamedTuple

from msgspec import Raw

from atlas.apple.dates import utc
from atlas.apple.devices import NONE, device
from atlas.apple.identity import BETWEEN, uuid_of
from atlas.apple.markup import Element, named
from atlas.apple.samples import Number
from atlas.apple.vocabulary import FLAGS

ENTERED = "HKWasUserEntered"
PLACES = 15  # that a double keeps
NUMBER_MAX = len("-2.2250738585072014e-308")  # no number is written longer

# All that stands in an attribute of iOS 9 and later. iOS 8 wrote metadata there, too.
ATTRIBUTES = """
type unit value source sourceName sourceVersion device creationDate startDate endDate
workoutActivityType duration durationUnit totalDistance totalDistanceUnit
totalEnergyBurned totalEnergyBurnedUnit
"""
KNOWN = frozenset(ATTRIBUTES.split())


class Origin(NamedTuple):
    """Where a sample comes from; nearly all samples of an export share a few of these."""

    source: str | None
    version: str | None
    device: Raw | None
    identity: str


@lru_cache(maxsize=4_096)
def origin(source: str | None, version: str | None, device_text: str | None) -> Origin:
    made_by = NONE if device_text is None else device(device_text)
    identity = BETWEEN.join((source or "", version or "", made_by.identity))
    return Origin(source, version, made_by.json, identity)


def traits(element: Element, sample_type: str, unit: str = "", value: str = "") -> dict[str, Any]:
    """The fields that all samples share. The last two only tell one sample from another."""
    get = element.attributes.get
    source = get("sourceName")
    if source is None:
        source = get("source")  # iOS 8
    made = origin(source, get("sourceVersion"), get("device"))
    start, end = utc(get("startDate", "")), utc(get("endDate", ""))
    metadata = told(element)
    return {
        "sample_type": sample_type,
        "uuid": uuid_of(sample_type, made.identity, start, end, unit, value),
        "start_date": start,
        "end_date": end,
        "source_name": made.source,
        "source_version": made.version,
        "device": made.device,
        "metadata": metadata,
        "user_provided_flag": metadata.get(ENTERED) if metadata else None,
    }


def told(element: Element) -> dict[str, object] | None:
    """Its metadata, wherever they stand; None if it has none."""
    found = {}
    if not KNOWN.issuperset(element.attributes):
        for name, text in element.attributes.items():
            if name not in KNOWN:
                key = named(name)
                found[key] = understood(key, text)
    for child in element.children:
        if child.name == "MetadataEntry":
            key = child.attributes.get("key", "")
            found[key] = understood(key, child.attributes.get("value", ""))
    return found or None


def understood(key: str, text: str) -> object:
    """What is long is text, and not remembered: some apps put whole documents there."""
    return text if len(text) > NUMBER_MAX else meant(key, text)


@lru_cache(maxsize=4_096)
def meant(key: str, text: str) -> object:
    """Apple writes all metadata as text. A number is one only if it would be written so again."""
    if key in FLAGS and text in {"0", "1"}:
        return text == "1"
    value = number(text)
    return value if value is not None and str(value) == text else text


def number(text: str) -> Number | None:
    """60 for 60 and for 60.0, as Swift writes it; None for what is no finite number."""
    try:
        value = float(text)
    except ValueError:
        return None
    if not isfinite(value) or "_" in text:  # Python's floats may have one
        return None
    return int(value) if value.is_integer() and abs(value) < 10**PLACES else value
