"""Converts records and correlations to samples."""

from collections.abc import Mapping

from atlas.apple.common_fields import build_common_fields, parse_number
from atlas.apple.identity import SEPARATOR
from atlas.apple.samples import Category, Correlation, Quantity
from atlas.apple.vocabulary import NUMBERS, SLEEP, SLEEP_STAGES, find_quantity_class
from atlas.apple.xml_reader import Element

CATEGORY = "HKCategoryType"
HEARTBEATS = "HeartRateVariabilityMetadataList"


def convert_record(element: Element) -> Quantity | Category:
    if element.attributes.get("type", "").startswith(CATEGORY):
        return convert_category(element)
    return convert_quantity(element)


def convert_quantity(element: Element) -> Quantity:
    kind = element.attributes.get("type", "")
    unit, text = element.attributes.get("unit"), element.attributes.get("value")
    value = parse_number(text) if text is not None else None
    return Quantity(
        **build_common_fields(element, kind, unit or "", text or ""),
        sample_class=find_quantity_class(kind),
        data_type="quantity",
        quantity_type=kind,
        value_double=value,
        unit=unit,
        value_text=text if value is None else None,
        heartbeats=convert_heartbeats(element) if element.children else None,
    )


def convert_category(element: Element) -> Category:
    """Convert labels to Apple's numbers, which iOS 8 wrote itself. Unknown labels stay text."""
    kind = element.attributes.get("type", "")
    unit, text = element.attributes.get("unit"), element.attributes.get("value")
    value = NUMBERS.get(text or "")
    if value is None and text is not None and text.isdecimal() and len(text) < 10:
        value = int(text)
    return Category(
        **build_common_fields(element, kind, unit or "", text or ""),
        sample_class="HKCategorySample",
        data_type="category",
        category_type=kind,
        value_integer=value,
        sleep_stage=find_sleep_stage(value) if kind == SLEEP else None,
        value_text=text if value is None else None,
        unit=unit,
    )


def find_sleep_stage(value: int | None) -> str | None:
    return SLEEP_STAGES[value] if value is not None and value < len(SLEEP_STAGES) else None


def convert_heartbeats(element: Element) -> list[dict[str, object]] | None:
    beats = [
        convert_heartbeat(each.attributes)
        for child in element.children
        if child.name == HEARTBEATS
        for each in child.children
    ]
    return beats or None


def convert_heartbeat(attributes: Mapping[str, str]) -> dict[str, object]:
    """Convert one heartbeat. Its time is local and without a date, so it stays as it is."""
    rate = parse_number(attributes.get("bpm", ""))
    return {"bpm": attributes.get("bpm") if rate is None else rate, "time": attributes.get("time")}


def convert_correlation(element: Element) -> Correlation:
    """Convert a correlation. The export repeats its children as records, which are converted there.

    Their uuids serve as its value: two meals may have the same time and source.
    """
    kind = element.attributes.get("type", "")
    uuids = [convert_record(child).uuid for child in element.children if child.name == "Record"]
    return Correlation(
        **build_common_fields(element, kind, value=SEPARATOR.join(sorted(uuids))),
        sample_class="HKCorrelation",
        data_type="correlation",
        correlation_type=kind,
        child_sample_uuids=uuids,
    )
