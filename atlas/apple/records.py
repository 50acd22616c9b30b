"""Converts records and correlations to samples."""

from collections import Counter
from collections.abc import Mapping

from atlas.apple.common_fields import build_common_fields
from atlas.apple.context import VALUES, ConversionContext
from atlas.apple.identity import SEPARATOR
from atlas.apple.numerals import parse_any_number, parse_number
from atlas.apple.samples import Category, Correlation, Quantity
from atlas.apple.vocabulary import NUMBERS, SLEEP, SLEEP_STAGES, find_quantity_class
from atlas.apple.xml_reader import Element

CATEGORY = "HKCategoryType"
HEARTBEATS = "HeartRateVariabilityMetadataList"


def convert_record(context: ConversionContext, element: Element) -> Quantity | Category:
    """Convert a record: most are quantities, and few have text for a value."""
    kind = element.attributes.get("type", "")
    if kind.startswith(CATEGORY):
        return convert_category(context, element)
    unit, text = element.attributes.get("unit"), element.attributes.get("value")
    value = parse_number(text) if text else None
    if value is None and text:
        value = parse_any_number(text)
        context.unread[VALUES] += value is None
    fields = build_common_fields(context, element, kind, (unit or "", text or ""))
    if value is None:
        fields["value_text"] = text
    if element.children:
        fields["heartbeats"] = convert_heartbeats(context, element)
    return Quantity(
        **fields,
        sample_class=find_quantity_class(kind),
        data_type="quantity",
        quantity_type=kind,
        value_double=value,
        unit=unit,
    )


def convert_category(context: ConversionContext, element: Element) -> Category:
    """Convert labels to Apple's numbers, which iOS 8 wrote itself. Unknown labels stay text."""
    kind = element.attributes.get("type", "")
    unit, text = element.attributes.get("unit"), element.attributes.get("value")
    value = NUMBERS.get(text or "")
    if value is None and text is not None and text.isdecimal() and len(text) < 10:
        value = int(text)
    return Category(
        **build_common_fields(context, element, kind, (unit or "", text or "")),
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


def convert_heartbeats(
    context: ConversionContext, element: Element
) -> list[dict[str, object]] | None:
    beats = [
        convert_heartbeat(context, each.attributes)
        for child in element.children
        if child.name == HEARTBEATS
        for each in child.children
    ]
    return beats or None


def convert_heartbeat(
    context: ConversionContext, attributes: Mapping[str, str]
) -> dict[str, object]:
    """Convert one heartbeat. Its time is local and without a date, so it stays as it is."""
    text = attributes.get("bpm")
    rate = parse_any_number(text or "")
    context.unread[VALUES] += rate is None and bool(text)
    return {"bpm": text if rate is None else rate, "time": attributes.get("time")}


def convert_correlation(context: ConversionContext, element: Element) -> Correlation:
    """Convert a correlation. The export repeats its children as records, which are converted there.

    Their uuids served as its value in version 1: two meals may have the same time and source.
    """
    kind = element.attributes.get("type", "")
    inner = context.enter(Counter())  # their copies outside are counted
    uuids = [
        convert_record(inner, child).uuid for child in element.children if child.name == "Record"
    ]
    return Correlation(
        **build_common_fields(context, element, kind, ("", SEPARATOR.join(sorted(uuids)))),
        sample_class="HKCorrelation",
        data_type="correlation",
        correlation_type=kind,
        child_sample_uuids=uuids,
    )
