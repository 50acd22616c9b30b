"""Workouts, as samples: totals as attributes before iOS 16, as statistics since then."""

from collections.abc import Mapping

from atlas.apple.common_fields import build_common_fields, parse_number
from atlas.apple.samples import Workout
from atlas.apple.vocabulary import ACTIVITY, KILOCALORIES, METERS, QUANTITY, SECONDS, WORKOUT
from atlas.apple.xml_reader import Element

ENERGY, DISTANCE = QUANTITY + "ActiveEnergyBurned", QUANTITY + "Distance"
FIGURES = ("sum", "average", "minimum", "maximum")


def convert_workout(element: Element) -> Workout:
    """Energy is the active one, which is what Apple's total always was."""
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
    """Of the attribute, else of the statistics of such types: who swims and runs has two."""
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
    """None where nothing stands, or nothing in a unit that is known."""
    value = parse_number(attributes.get(name, ""))
    factor = units.get(attributes.get(unit, ""))
    return value * factor if value is not None and factor is not None else None


def round_optional(value: float | None, places: int) -> float | None:
    return None if value is None else round(value, places)


def convert_statistics(element: Element) -> list[dict[str, object]] | None:
    """As Apple wrote them; those of the parts of a workout are in those of the whole."""
    found = [
        convert_statistic(child.attributes)
        for child in element.children
        if child.name == "WorkoutStatistics"
    ]
    return found or None


def convert_statistic(attributes: Mapping[str, str]) -> dict[str, object]:
    figures = {name: parse_number(attributes[name]) for name in FIGURES if name in attributes}
    labels = {name: attributes[name] for name in ("type", "unit") if name in attributes}
    return {**labels, **figures}


def list_route_files(element: Element) -> list[str] | None:
    """The names of the files that hold where it went."""
    paths = [
        each.attributes.get("path", "")
        for child in element.children
        if child.name == "WorkoutRoute"
        for each in child.children
        if each.name == "FileReference"
    ]
    return [path.rpartition("/")[2] for path in paths] or None
