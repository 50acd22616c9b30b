"""Builds the fields that all samples share: source, device, dates, metadata."""

from functools import lru_cache
from typing import Any, NamedTuple

from msgspec import Raw

from atlas.apple.context import DATES, ConversionContext
from atlas.apple.dates import Z_POSITION, to_utc
from atlas.apple.devices import NO_DEVICE, PRINTED, parse_device
from atlas.apple.identity import SEPARATOR
from atlas.apple.numerals import parse_number
from atlas.apple.vocabulary import FLAGS
from atlas.apple.xml_reader import Element, unescape_name

WAS_USER_ENTERED = "HKWasUserEntered"
NUMBER_MAX = len("-2.2250738585072014e-308")  # the longest double

# The attributes of iOS 9 and later. Those of iOS 8 may also be metadata.
ATTRIBUTES = """
type unit value source sourceName sourceVersion device creationDate startDate endDate
workoutActivityType duration durationUnit totalDistance totalDistanceUnit
totalEnergyBurned totalEnergyBurnedUnit
"""
KNOWN = frozenset(ATTRIBUTES.split())


class Origin(NamedTuple):
    """The source of a sample. An export has only a few different ones."""

    source: str | None
    version: str | None
    device: Raw | None
    identity: str


@lru_cache(maxsize=4_096)
def find_origin(source: str | None, version: str | None, device_text: str | None) -> Origin:
    parsed = NO_DEVICE if device_text is None else parse_device(device_text)
    identity = SEPARATOR.join((source or "", version or "", parsed.identity))
    return Origin(source, version, parsed.json, identity)


def build_common_fields(
    context: ConversionContext,
    element: Element,
    sample_type: str,
    printed: tuple[str, str],
) -> dict[str, Any]:
    """Build the shared fields. `printed` are unit and value, for version 1 of the identity."""
    attributes = element.attributes
    get = attributes.get
    source = get("sourceName")
    if source is None:
        source = get("source")  # iOS 8
    device = get("device")
    if device and device.startswith(PRINTED):  # the pointer differs, even within an export
        device = device[device.find(",") :]
    origin = find_origin(source, get("sourceVersion"), device)
    start, end = to_utc(get("startDate", "")), to_utc(get("endDate", ""))
    created = to_utc(get("creationDate", ""))  # "" in iOS 8
    dates = (start, end, created) if created else (start, end)
    if any(each[Z_POSITION:] != "Z" for each in dates):
        context.unread[DATES] += sum(each[Z_POSITION:] != "Z" for each in dates)
    metadata = None
    if element.children or not KNOWN.issuperset(attributes):
        metadata = read_metadata(element)
    fields: dict[str, Any] = {
        "sample_type": sample_type,
        "uuid": context.identity.identify(
            attributes, (sample_type, origin.identity), (start, end, created), metadata, printed
        ),
        "start_date": start,
        "end_date": end,
        "source_name": origin.source,
        "source_version": origin.version,
        "device": origin.device,
    }
    if metadata:
        fields["metadata"] = metadata
        fields["user_provided_flag"] = metadata.get(WAS_USER_ENTERED)
    return fields


def read_metadata(element: Element) -> dict[str, object] | None:
    """Read the metadata from the attributes (iOS 8) and the children. None if there is none."""
    metadata = {}
    for name, text in element.attributes.items():
        if name not in KNOWN:
            key = unescape_name(name)
            metadata[key] = parse_any_metadata_value(key, text)
    for child in element.children:
        if child.name == "MetadataEntry":
            key = child.attributes.get("key", "")
            metadata[key] = parse_any_metadata_value(key, child.attributes.get("value", ""))
    return metadata or None


def parse_any_metadata_value(key: str, text: str) -> object:
    """Parse a value. Long text is returned as it is, uncached: some apps store documents."""
    return text if len(text) > NUMBER_MAX else parse_short_metadata_value(key, text)


@lru_cache(maxsize=4_096)
def parse_short_metadata_value(key: str, text: str) -> object:
    """Parse a value, which Apple always writes as text. Numbers must round-trip exactly."""
    if key in FLAGS and text in {"0", "1"}:
        return text == "1"
    value = parse_number(text)
    return value if value is not None and str(value) == text else text
