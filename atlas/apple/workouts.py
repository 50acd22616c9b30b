"""Converts workouts to samples. Totals are attributes before iOS 16, and statistics since then."""

from collections.abc import Mapping

from atlas.apple.common_fields import build_common_fields, parse_number
from atlas.apple.samples import Workout
from atlas.apple.vocabulary import ACTIVITY, KILOCALORIES, METERS, QUANTITY, SECONDS, WORKOUT
from atlas.apple.xml_reader import Element

ENERGY, DISTANCE = QUANTITY + "ActiveEnergyBurned", QUANTITY + "Distance"
FIGURES = ("sum", "average", "minimum", "maximum")


def convert_workout(element: Element) -> Workout:
    """Convert a workout. Its energy is the active energy, which Apple's total always was."""
    attributes = element.attributes
    activity = attributes.get("workoutActivityType", "").removeprefix(ACTIVITY)
    energy = round_optional(find_total(element, "totalEnergyBurned", ENERGY, KILOCALORIES), 6)
    seconds = convert_unit(attributes, "duration", "durationUnit", SECONDS)
    return Workout(
        **build_common_fields(element, WORKOUT, "", activity),
        sample_class="HKWorkout",
        data_type="workout",
        activity_type=activity,
        duration_seconds=round_optional(seconds, 3),
        active_energy_kilocalories=energy,
        total_energy_kilocalories=energy,
        total_distance_meters=round_optional(
            find_total(element, "totalDistance", DISTANCE, METERS), 3
        ),
        workout_event_count=sum(child.name == "WorkoutEvent" for child in element.children),
        statistics=convert_statistics(element),
        route_files=list_route_files(element),
    )


def find_total(element: Element, name: str, kind: str, units: Mapping[str, float]) -> float | None:
    """Read the attribute, else sum the statistics: a triathlon has several distances."""
    attribute = convert_unit(element.attributes, name, f"{name}Unit", units)
    if attribute is not None:
        return attribute
    sums = [
        convert_unit(child.attributes, "sum", "unit", units)
        for child in element.children
        if child.name == "WorkoutStatistics" and child.attributes.get("type", "").startswith(kind)
    ]
    known = [each for each in sums if each is not None]
    return sum(known) if known else None


def convert_unit(
    attributes: Mapping[str, str], name: str, unit: str, units: Mapping[str, float]
) -> float | None:
    """Read and convert an attribute. None if it is absent, or its unit is unknown."""
    value = parse_number(attributes.get(name, ""))
    factor = units.get(attributes.get(unit, ""))
    return value * factor if value is not None and factor is not None else None


def round_optional(value: float | None, places: int) -> float | None:
    return None if value is None else round(value, places)


def convert_statistics(element: Element) -> list[dict[str, object]] | None:
    """Convert the statistics of the whole workout, which include those of its activities."""
    converted = [
        convert_statistic(child.attributes)
        for child in element.children
        if child.name == "WorkoutStatistics"
    ]
    return converted or None


def convert_statistic(attributes: Mapping[str, str]) -> dict[str, object]:
    figures = {name: parse_number(attributes[name]) for name in FIGURES if name in attributes}
    labels = {name: attributes[name] for name in ("type", "unit") if name in attributes}
    return {**labels, **figures}


def list_route_files(element: Element) -> list[str] | None:
    """List the names of the route files."""
    paths = [
        each.attributes.get("path", "")
        for child in element.children
        if child.name == "WorkoutRoute"
        for each in child.children
        if each.name == "FileReference"
    ]
    return [path.rpartition("/")[2] for path in paths] or None
