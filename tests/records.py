"""Records as phones send them, by a seed: the mix of a Watch owner, and what is awkward in it.

The shares, lengths and oddities are those of real exports: nearly every line is non-ASCII, because
iOS itself puts U+2019 and U+00A0 into default names; the order of keys changes from export to
export; "/" is written "\\/"; whole doubles lose their ".0"; and zero is a value like any other.
"""

import itertools
import json
import random
import re
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

ZEROS = 0.05
UUID = re.compile(rb'"uuid":"[^"]*"')
BEGAN = datetime(2020, 4, 9, 22, tzinfo=UTC)
WATCH = {
    "name": "Apple Watch",
    "manufacturer": "Apple Inc.",
    "model": "Watch",
    "hardwareVersion": "Watch5,3",
    "softwareVersion": "6.1.3",
}
PHONE = WATCH | {"name": "iPhone", "model": "iPhone", "hardwareVersion": "iPhone12,1"}
NAMES = ["Ada’s Apple\u00a0Watch", "Zoë’s Apple\u00a0Watch", "李的 Apple\u00a0Watch", "⌚️ "]

# share, name, class, unit, largest value, decimal places
QUANTITIES = [
    (36, "ActiveEnergyBurned", "HKCumulativeQuantitySample", "kcal", 12.0, 3),
    (26, "BasalEnergyBurned", "HKCumulativeQuantitySample", "kcal", 25.0, 15),
    (16, "HeartRate", "HKDiscreteQuantitySample", "count/min", 180.0, 0),
    (8, "DistanceWalkingRunning", "HKCumulativeQuantitySample", "km", 1.0, 7),
    (5, "StepCount", "HKCumulativeQuantitySample", "count", 1500.0, 0),
    (1, "EnvironmentalAudioExposure", "HKDiscreteQuantitySample", "dBASPL", 90.0, 4),
]
CATEGORIES_SHARE, WORKOUTS_SHARE, VARIABILITY_SHARE = 8.0, 0.2, 0.3


def lines(count: int, seed: int = 1) -> Iterator[bytes]:
    """That many records, none of them bad."""
    chance = random.Random(seed)
    name, keys = chance.choice(NAMES), chance.random()
    at = BEGAN + timedelta(days=seed % 3_000)
    kinds = [*QUANTITIES, "category", "workout", "variability"]
    weights = [share for share, *_ in QUANTITIES]
    weights += [CATEGORIES_SHARE, WORKOUTS_SHARE, VARIABILITY_SHARE]
    for kind in chance.choices(kinds, weights, k=count):
        at += timedelta(seconds=chance.randint(1, 90))
        record = shared(chance, name, at) | particular(chance, kind)
        shuffled = sorted(record, key=lambda key: hash_of(key, keys))
        yield written({key: record[key] for key in shuffled})


def export(count: int, seed: int = 1) -> bytes:
    """NDJSON of that many records."""
    return b"".join(line + b"\n" for line in lines(count, seed))


def first_sync(path: Path, count: int, seed: int = 1) -> int:
    """A file of that many records, each with a uuid of its own; how many bytes that is."""
    chance = random.Random(seed)
    pool = [UUID.split(line, maxsplit=1) for line in lines(20_000, seed)]
    with path.open("wb") as file:
        for before, after in itertools.islice(itertools.cycle(pool), count):
            new = b'"uuid":"%032X"' % chance.getrandbits(128)
            file.write(before + new + after + b"\n")
        return file.tell()


def shared(chance: random.Random, name: str, at: datetime) -> dict[str, object]:
    """What every record has."""
    ends = at + timedelta(seconds=chance.choice([0, 1, 20, 540]))
    return {
        "uuid": str(uuid.UUID(int=chance.getrandbits(128), version=4)).upper(),
        "startDate": stamp(at),
        "endDate": stamp(ends),
        "sourceName": name,
        "sourceVersion": "6.1.3",
        "sourceBundleId": "com.apple.health",
        "device": PHONE if chance.random() < 0.1 else WATCH,
    }


def particular(chance: random.Random, kind: object) -> dict[str, object]:
    """What makes a record one of its kind."""
    if kind == "workout":
        return {
            "sampleType": "HKWorkoutTypeIdentifier",
            "sampleClass": "HKWorkout",
            "dataType": "workout",
            "activityType": "Yoga",
            "durationSeconds": round(chance.uniform(600, 5_000), 3),
            "totalEnergyKilocalories": round(chance.uniform(0, 500), 6),
            "totalDistanceMeters": 0,
            "workoutEventCount": 0,
            "metadata": {"HKIndoorWorkout": False, "HKAverageMETs": "3.77421 kcal/hr·kg"},
        }
    if kind == "category":
        return {
            "sampleType": "HKCategoryTypeIdentifierSleepAnalysis",
            "sampleClass": "HKCategorySample",
            "categoryType": "HKCategoryTypeIdentifierSleepAnalysis",
            "dataType": "category",
            "valueInteger": chance.randint(0, 5),
            "sleepStage": "asleepCore",
            "metadata": {"HKTimeZone": "Europe/Berlin"},
        }
    if kind == "variability":
        beats = [{"bpm": chance.randint(50, 90), "time": f"23:47:{n},5"} for n in range(45)]
        return quantity("HeartRateVariabilitySDNN", "HKDiscreteQuantitySample", "ms") | {
            "valueDouble": round(chance.uniform(10, 120), 4),
            "heartbeats": beats,
        }
    assert isinstance(kind, tuple)
    _, name, sample_class, unit, largest, places = kind
    value = 0 if chance.random() < ZEROS else round(chance.uniform(0, largest), places)
    record = quantity(name, sample_class, unit) | {"valueDouble": whole(value)}
    return record | ({"metadata": {"HKMetadataKeyHeartRateMotionContext": 1}} if not places else {})


def quantity(name: str, sample_class: str, unit: str) -> dict[str, object]:
    kind = f"HKQuantityTypeIdentifier{name}"
    return {
        "sampleType": kind,
        "quantityType": kind,
        "sampleClass": sample_class,
        "dataType": "quantity",
        "unit": unit,
    }


def whole(value: float) -> float:
    """Swift writes 60.0 as 60."""
    return int(value) if value == int(value) else value


def stamp(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def hash_of(key: str, seed: float) -> float:
    """An order of keys that is another for every seed, as Swift's is."""
    return random.Random(f"{key}{seed}").random()


def written(record: dict[str, object]) -> bytes:
    text = json.dumps(record, ensure_ascii=False, separators=(",", ":"))
    return text.replace("/", "\\/").encode()
