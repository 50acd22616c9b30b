"""Synthetic health data: the lines that one invented person's iPhone and Apple Watch would send.

The fields, the units, the names with U+2019 and U+00A0, "\\/" for "/" and whole doubles without
".0" are those of the iOS app. A day has some 320 samples, fewer than a real one: a night's sleep,
walks, blood pressure, and on some days a workout or the weight. The person lives in Iceland, where
the time is UTC all year.

A seed is a person. A day depends on the seed and its date alone, so two periods that overlap have
the same lines, with the same uuids, for the days that they share.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from random import Random
from uuid import UUID, uuid5

import msgspec

NAMESPACE = UUID("5a6d1e0c-3f3b-4b52-9d0e-7f0c6b1a2d11")  # of the samples' uuids
DAY = timedelta(days=1)
OWNERS = ["Ada", "Zoë", "Mika", "Jón", "Noor", "李"]
WATCH = {
    "name": "Apple Watch",
    "manufacturer": "Apple Inc.",
    "model": "Watch",
    "hardwareVersion": "Watch7,3",
    "softwareVersion": "11.6",
}
PHONE = WATCH | {"name": "iPhone", "model": "iPhone", "hardwareVersion": "iPhone16,1"}
# how much a person moves in each hour of a day
ACTIVITY_BY_HOUR = [0, 0, 0, 0, 0, 0, 0, 1, 5, 4, 2, 2, 4, 5, 2, 2, 3, 6, 7, 4, 2, 1, 1, 0]
STAGES = {2: "awake", 3: "asleepCore", 4: "asleepDeep", 5: "asleepREM"}
STAGES_OF_A_NIGHT = [3, 4, 3, 5, 3, 4, 3, 5, 2, 3, 5, 3]
# name, least and most minutes, kilocalories a minute, metres a minute, heart rate above rest
WORKOUTS = [
    ("Running", 20, 50, 11, 160, 85),
    ("Cycling", 25, 80, 8, 320, 65),
    ("Yoga", 20, 45, 3, 0, 20),
    ("TraditionalStrengthTraining", 25, 50, 5, 0, 45),
]
CUMULATIVE = ("Energy", "Distance", "Time", "Climbed", "Count", "Water")  # parts of their names

Fields = dict[str, object]
Sample = tuple[datetime, Fields]  # its end and its fields


def generate_lines(days: int, seed: int, end: datetime) -> Iterator[bytes]:
    """Yield the NDJSON lines of the `days` times 24 hours before `end`, ordered by their end dates.

    Every line ends with a newline. `end` has a time zone.
    """
    end = end.astimezone(UTC)
    begin = end - days * DAY
    midnight = begin.replace(hour=0, minute=0, second=0, microsecond=0)
    while midnight < end:
        for sample_end, fields in sorted(SyntheticDay(seed, midnight).samples(), key=itemgetter(0)):
            if begin < sample_end <= end:
                yield msgspec.json.encode(fields).replace(b"/", b"\\/") + b"\n"
        midnight += DAY


class SyntheticDay:
    """One day of a person, from midnight to midnight."""

    def __init__(self, seed: int, midnight: datetime) -> None:
        self.midnight = midnight
        self.name = f"{seed}/{midnight:%Y-%m-%d}"
        self.samples_made = 0
        person = Random(f"person {seed}")  # noqa: S311 - to be repeated
        self.owner = OWNERS[int(person.random() * len(OWNERS))]
        self.resting_rate = 50 + int(person.random() * 16)
        self.weight = 55 + 35 * person.random()
        self.systolic = 108 + 22 * person.random()
        self.chance = Random(self.name)  # noqa: S311 - to be repeated
        self.vigour = self.draw(0.6, 1.4)
        self.bedtime = self.draw(0.1, 1.1)
        self.waking = self.draw(6.6, 8)

    # random.Random promises the same numbers in every version of Python for random() only

    def draw(self, least: float, most: float) -> float:
        return least + (most - least) * self.chance.random()

    def happens(self, probability: float) -> bool:
        return self.chance.random() < probability

    def samples(self) -> Iterator[Sample]:
        """Yield all samples of the day, in no particular order."""
        yield from self.sleep()
        yield from self.rates()
        yield from self.energy()
        yield from self.movement()
        yield from self.surroundings()
        yield from self.measurements()
        if self.happens(0.5):
            yield from self.workout()

    def sleep(self) -> Iterator[Sample]:
        yield self.category("SleepAnalysis", 0, self.bedtime, self.waking, "inBed", by_watch=False)
        hour = self.bedtime + self.draw(0.05, 0.4)  # falls asleep
        stage_hours = (self.waking - hour) / len(STAGES_OF_A_NIGHT)
        for stage in STAGES_OF_A_NIGHT:
            until = min(hour + stage_hours * self.draw(0.7, 1.2), self.waking)
            yield self.category("SleepAnalysis", stage, hour, until, STAGES[stage])
            hour = until
        for number in range(6):
            at = self.bedtime + 0.5 + number + self.draw(0, 0.4)
            yield self.quantity("RespiratoryRate", "count/min", self.draw(12, 17), 1, at)
            yield self.quantity("OxygenSaturation", "%", self.draw(0.94, 1), 2, at)

    def rates(self) -> Iterator[Sample]:
        for number in range(96):  # each quarter of an hour
            at = (number + self.draw(0, 0.9)) / 4
            raised = 3 * self.move(at) + self.draw(-4, 9)
            motion: Fields = {"HKMetadataKeyHeartRateMotionContext": 2 if self.move(at) > 3 else 1}
            value = self.resting_rate + raised
            yield self.quantity("HeartRate", "count/min", value, 0, at, metadata=motion)
        for hour in (3, 6, 12, 17, 21):
            at = hour + self.draw(0, 0.9)
            yield self.quantity("HeartRateVariabilitySDNN", "ms", self.draw(25, 90), 4, at)
        rate = self.resting_rate + self.draw(-2, 3)
        yield self.quantity("RestingHeartRate", "count/min", rate, 0, 0.1, 23.8)
        yield self.quantity("WalkingHeartRateAverage", "count/min", rate + 38, 0, 8, 23.8)

    def move(self, hour: float) -> float:
        """Return how much the person moves at this hour, from 0 to 10."""
        return ACTIVITY_BY_HOUR[int(hour)] * self.vigour if hour >= self.waking else 0

    def energy(self) -> Iterator[Sample]:
        for hour in range(24):
            basal = self.weight * self.draw(0.9, 1.05)
            yield self.quantity("BasalEnergyBurned", "kcal", basal, 3, hour, hour + 1)
            for part in range(3 if self.move(hour) else 0):
                start = hour + part / 3
                burned = self.move(start) * self.draw(0, 6)
                yield self.quantity("ActiveEnergyBurned", "kcal", burned, 15, start, start + 0.3)

    def movement(self) -> Iterator[Sample]:
        for hour in range(int(self.waking) + 1, 24):
            steps = int(self.move(hour) * self.draw(0, 260))
            start = hour + self.draw(0, 0.4)
            walk = start, start + 0.05 + steps / 6000
            for by_watch in (True, False):
                share = steps if by_watch else int(steps * self.draw(0, 0.9))
                yield self.quantity("StepCount", "count", share, 0, *walk, by_watch=by_watch)
            metres = steps * self.draw(0.68, 0.76)
            yield self.quantity("DistanceWalkingRunning", "km", metres / 1000, 7, *walk)
            stood = 0 if steps else 1  # HKCategoryValueAppleStandHour: 0 is stood, 1 is idle
            yield self.category("AppleStandHour", stood, hour, hour + 0.999)
            if steps > 700:
                minutes = steps // 110
                yield self.quantity("AppleExerciseTime", "min", minutes, 0, *walk)
                yield self.quantity("FlightsClimbed", "count", self.draw(1, 4), 0, *walk)
            if steps:
                yield self.quantity("AppleStandTime", "min", self.draw(1, 15), 0, *walk)

    def surroundings(self) -> Iterator[Sample]:
        for hour in range(8, 23):
            level = self.draw(42, 86)
            yield self.quantity("EnvironmentalAudioExposure", "dBASPL", level, 4, hour, hour + 0.5)
        if self.happens(0.6):
            start = self.draw(8, 20)
            level = self.draw(60, 88)
            yield self.quantity("HeadphoneAudioExposure", "dBASPL", level, 4, start, start + 0.4)
        yield self.category("MindfulSession", 0, 21.5, 21.5 + self.draw(0.05, 0.3))

    def measurements(self) -> Iterator[Sample]:
        """Yield measurements that the person takes and enters after getting up."""
        at = self.waking + self.draw(0.1, 0.4)
        entered: Fields = {"HKWasUserEntered": 1}
        yield from self.blood_pressure(at, entered)
        if self.happens(0.4):
            weight = self.weight + self.draw(-0.8, 0.8)
            yield self.quantity("BodyMass", "kg", weight, 1, at, metadata=entered, by_watch=False)
        if self.happens(0.3):
            water = self.draw(150, 400)
            yield self.quantity(
                "DietaryWater", "mL", water, 0, at, metadata=entered, by_watch=False
            )

    def blood_pressure(self, at: float, metadata: Fields) -> Iterator[Sample]:
        """Yield two quantities, and the correlation that names them."""
        pressures = {"Systolic": self.systolic + self.draw(-8, 8)}
        pressures["Diastolic"] = pressures["Systolic"] * self.draw(0.62, 0.7)
        parts = [
            self.quantity(
                f"BloodPressure{name}", "mmHg", value, 0, at, metadata=metadata, by_watch=False
            )
            for name, value in pressures.items()
        ]
        yield from parts
        kind = "HKCorrelationTypeIdentifierBloodPressure"
        end, fields = self.build(kind, "HKCorrelation", "correlation", (at, at), by_watch=False)
        children = [part["uuid"] for _, part in parts]
        fields |= {"correlationType": kind, "childSampleUUIDs": children, "metadata": metadata}
        yield end, fields

    def workout(self) -> Iterator[Sample]:
        name, least, most, burned, speed, raised = WORKOUTS[int(self.draw(0, len(WORKOUTS)))]
        minutes = self.draw(least, most)
        start = 18 + self.draw(0, 1.5)
        period = start, start + minutes / 60
        energy, metres = burned * minutes, speed * minutes
        end, fields = self.build("HKWorkoutTypeIdentifier", "HKWorkout", "workout", period)
        fields |= {
            "activityType": name,
            "durationSeconds": shorten(minutes * 60, 3),
            "activeEnergyKilocalories": shorten(energy, 6),
            "totalEnergyKilocalories": shorten(energy, 6),
            "totalDistanceMeters": shorten(metres, 3),
            "workoutEventCount": int(minutes // 10),
            "metadata": {"HKIndoorWorkout": int(not speed), "HKTimeZone": "Atlantic/Reykjavik"},
        }
        yield end, fields
        if speed:
            distance = "DistanceCycling" if name == "Cycling" else "DistanceWalkingRunning"
            yield self.quantity(distance, "km", metres / 1000, 7, *period)
        for minute in range(0, int(minutes), 2):
            rate = self.resting_rate + raised * self.draw(0.7, 1.1)
            motion: Fields = {"HKMetadataKeyHeartRateMotionContext": 2}
            at = start + minute / 60
            yield self.quantity("HeartRate", "count/min", rate, 0, at, metadata=motion)

    def quantity(
        self,
        name: str,
        unit: str,
        value: float,
        places: int,
        start: float,
        until: float | None = None,
        *,
        metadata: Fields | None = None,
        by_watch: bool = True,
    ) -> Sample:
        """Build a quantity. Its hours are those of the day; without `until` it is a moment."""
        kind = f"HKQuantityTypeIdentifier{name}"
        style = "Cumulative" if any(part in name for part in CUMULATIVE) else "Discrete"
        period = start, start if until is None else until
        end, fields = self.build(kind, f"HK{style}QuantitySample", "quantity", period, by_watch)
        fields |= {"quantityType": kind, "valueDouble": shorten(value, places), "unit": unit}
        return end, fields | ({"metadata": metadata} if metadata else {})

    def category(
        self,
        name: str,
        value: int,
        start: float,
        until: float,
        stage: str | None = None,
        by_watch: bool = True,
    ) -> Sample:
        kind = f"HKCategoryTypeIdentifier{name}"
        end, fields = self.build(kind, "HKCategorySample", "category", (start, until), by_watch)
        fields |= {"categoryType": kind, "valueInteger": value}
        return end, fields | ({"sleepStage": stage} if stage else {})

    def build(
        self,
        kind: str,
        sample_class: str,
        data_type: str,
        period: tuple[float, float],
        by_watch: bool = True,
    ) -> Sample:
        """Build the fields that all samples have."""
        self.samples_made += 1
        model = "Apple\u00a0Watch" if by_watch else "iPhone"
        start, end = (self.midnight + timedelta(hours=min(hour, 23.999)) for hour in period)
        return end, {
            "sampleType": kind,
            "sourceName": f"{self.owner}\u2019s {model}",
            "sampleClass": sample_class,
            "sourceVersion": "18.6",
            "sourceBundleId": "com.apple.health",
            "device": WATCH if by_watch else PHONE,
            "dataType": data_type,
            "uuid": str(uuid5(NAMESPACE, f"{self.name}/{self.samples_made}")).upper(),
            "startDate": format_time(start),
            "endDate": format_time(end),
        }


def shorten(value: float, places: int) -> float:
    """Round a number as Swift writes it: 60.0 becomes 60."""
    rounded = round(value, places)
    return int(rounded) if rounded == int(rounded) else rounded


def format_time(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03}Z"
