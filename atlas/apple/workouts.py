"""Workouts, as samples: totals as attributes before iOS 16, as statistics since then."""

from collections.abc import Mapping

from atlas.apple.markup import Element
from atlas.apple.samples import Workout
from atlas.apple.traits import number, traits
from atlas.apple.vocabulary import ACTIVITY, KILOCALORIES, METERS, QUANTITY, SECONDS, WORKOUT

ENERGY, DISTANCE = QUANTITY + "ActiveEnergyBurned", QUANTITY + "Distance"
FIGURES = ("sum", "average", "minimum", "maximum")


def workout(element: Element) -> Workout:
    """Energy is the active one, which is what Apple's total always was."""
    attributes = element.attributes
    activity = attributes.get("workoutActivityType", "").removeprefix(ACTIVITY)
    energy = rounded(total(element, "totalEnergyBurned", ENERGY, KILOCALORIES), 6)
    seconds = in_units(attributes, "duration", "durationUnit", SECONDS)
    return Workout(
        **traits(element, WORKOUT, "", activity),
        sample_class="HKWorkout",
        data_type="workout",
        activity_type=activity,
        duration_seconds=rounded(seconds, 3),
        active_energy_kilocalories=energy,
        total_energy_kilocalories=energy,
        total_distance_meters=rounded(total(element, "totalDistance", DISTANCE, METERS), 3),
        workout_event_count=sum(child.name == "WorkoutEvent" for child in element.children),
        statistics=statistics(element),
        route_files=routes(element),
    )


def total(element: Element, name: str, kind: str, units: Mapping[str, float]) -> float | None:
    """Of the attribute, else of the statistics of such types: who swims and runs has two."""
    attribute = in_units(element.attributes, name, f"{name}Unit", units)
    if attribute is not None:
        return attribute
    sums = [
        in_units(child.attributes, "sum", "unit", units)
        for child in element.children
        if child.name == "WorkoutStatistics" and child.attributes.get("type", "").startswith(kind)
    ]
    known = [each for each in sums if each is not None]
    return sum(known) if known else None


def in_units(
    attributes: Mapping[str, str], name: str, unit: str, units: Mapping[str, float]
) -> float | None:
    """None where nothing stands, or nothing in a unit that is known."""
    value = number(attributes.get(name, ""))
    factor = units.get(attributes.get(unit, ""))
    return value * factor if value is not None and factor is not None else None


def rounded(value: float | None, places: int) -> float | None:
    return None if value is None else round(value, places)


def statistics(element: Element) -> list[dict[str, object]] | None:
    """As Apple wrote them; those of the parts of a workout are in those of the whole."""
    found = [
        statistic(child.attributes)
        for child in element.children
        if child.name == "WorkoutStatistics"
    ]
    return found or None


def statistic(attributes: Mapping[str, str]) -> dict[str, object]:
    figures = {name: number(attributes[name]) for name in FIGURES if name in attributes}
    labels = {name: attributes[name] for name in ("type", "unit") if name in attributes}
    return {**labels, **figures}


def routes(element: Element) -> list[str] | None:
    """The names of the files that hold where it went."""
    paths = [
        each.attributes.get("path", "")
        for child in element.children
        if child.name == "WorkoutRoute"
        for each in child.children
        if each.name == "FileReference"
    ]
    return [path.rpartition("/")[2] for path in paths] or None
