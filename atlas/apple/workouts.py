"""Converts workouts to samples. Totals are attributes before iOS 16, and statistics since then."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from unicodedata import normalize

from atlas.apple.common_fields import build_common_fields
from atlas.apple.context import TOTALS, VALUES, ConversionContext
from atlas.apple.numerals import parse_any_number
from atlas.apple.samples import Number, Workout
from atlas.apple.vocabulary import ACTIVITY, KILOCALORIES, METERS, QUANTITY, SECONDS, WORKOUT
from atlas.apple.xml_reader import Element

ENERGY, DISTANCE = QUANTITY + "ActiveEnergyBurned", QUANTITY + "Distance"
FIGURES = ("sum", "average", "minimum", "maximum")


def convert_workout(context: ConversionContext, element: Element) -> Workout:
    """Convert a workout. Its energy is the active energy, which Apple's total always was."""
    attributes = element.attributes
    activity = attributes.get("workoutActivityType", "").removeprefix(ACTIVITY)
    totals = WorkoutTotals(element, context.unread)
    energy = round_optional(totals.find("totalEnergyBurned", ENERGY, KILOCALORIES), 6)
    return Workout(
        **build_common_fields(context, element, WORKOUT, ("", activity)),
        sample_class="HKWorkout",
        data_type="workout",
        activity_type=activity,
        duration_seconds=round_optional(
            totals.convert(attributes, "duration", "durationUnit", SECONDS), 3
        ),
        active_energy_kilocalories=energy,
        total_energy_kilocalories=energy,
        total_distance_meters=round_optional(totals.find("totalDistance", DISTANCE, METERS), 3),
        workout_event_count=sum(child.name == "WorkoutEvent" for child in element.children),
        statistics=convert_statistics(element, context.unread),
        route_files=list_route_files(element),
    )


@dataclass(slots=True)
class WorkoutTotals:
    """Reads the totals of a workout, and counts those that it cannot read."""

    element: Element
    unread: Counter[str]

    def find(self, name: str, kind: str, units: Mapping[str, float]) -> float | None:
        """Read the attribute, else sum the statistics: a triathlon has several distances."""
        attribute = self.convert(self.element.attributes, name, f"{name}Unit", units)
        if attribute is not None:
            return attribute
        sums = [
            self.convert(child.attributes, "sum", "unit", units)
            for child in self.element.children
            if child.name == "WorkoutStatistics"
            and child.attributes.get("type", "").startswith(kind)
        ]
        known = [each for each in sums if each is not None]
        return sum(known) if known else None

    def convert(
        self, attributes: Mapping[str, str], name: str, unit: str, units: Mapping[str, float]
    ) -> float | None:
        """Read and convert an attribute. None if it is absent, or its unit is unknown."""
        text = attributes.get(name, "")
        value = parse_any_number(text)
        factor = units.get(attributes.get(unit, "").strip())
        if value is not None and factor is not None:
            return value * factor
        self.unread[TOTALS] += bool(text)
        return None


def round_optional(value: float | None, places: int) -> float | None:
    return None if value is None else round(value, places)


def convert_statistics(element: Element, unread: Counter[str]) -> list[dict[str, object]] | None:
    """Convert the statistics of the whole workout, which include those of its activities."""
    converted = [
        convert_statistic(child.attributes, unread)
        for child in element.children
        if child.name == "WorkoutStatistics"
    ]
    return converted or None


def convert_statistic(attributes: Mapping[str, str], unread: Counter[str]) -> dict[str, object]:
    """Convert a statistic. A figure that is not a number stays text, and is counted."""
    texts = {name: attributes[name] for name in FIGURES if name in attributes}
    figures = {name: read_figure(text) for name, text in texts.items()}
    unread[VALUES] += sum(isinstance(each, str) and bool(each) for each in figures.values())
    labels = {name: attributes[name] for name in ("type", "unit") if name in attributes}
    return {**labels, **figures}


def read_figure(text: str) -> Number | str:
    value = parse_any_number(text)
    return text if value is None else value


def list_route_files(element: Element) -> list[str] | None:
    """List the names of the route files, composed as those of the files are."""
    paths = [
        each.attributes.get("path", "")
        for child in element.children
        if child.name == "WorkoutRoute"
        for each in child.children
        if each.name == "FileReference"
    ]
    return [normalize("NFC", path.rpartition("/")[2]) for path in paths] or None
