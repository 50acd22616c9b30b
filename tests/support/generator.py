"""Exports as phones send them, from a seed: a Watch owner's mix, with its oddities.

The shares, lengths and oddities are those of real exports. Nearly every line is non-ASCII, because
iOS itself puts U+2019 and U+00A0 into default names; the order of keys changes from export to
export; "/" is written "\\/"; whole doubles lose their ".0", others have up to 17 digits; zero is an
ordinary value; other apps save samples that are weeks old, under arbitrary names.

Every line has a uuid and dates of its own; apart from these, the lines after the first `POOL`
repeat earlier ones. A first sync of six years is therefore generated faster than it is read, in
little memory.
"""

import json
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache
from itertools import islice

from atlas.core.records import LINE_BYTES_MAX

POOL = 4_000
ZEROS, DUPLICATES, FOREIGN, LATE = 0.05, 0.001, 0.02, 0.3
BLOCK_LINES = 1_000
BEGAN = 1_586_469_600_000  # in milliseconds, like all times here
MINUTE, DAY, WEEKS = 60_000, 86_400_000, 1_800_000_000
EPOCH = date(1970, 1, 1).toordinal()
VOLTAGES, LOCATIONS = 15_360, 17_000  # of an ECG of some 119 KB, of a route of 3.6 MB
FRESH = {"uuid": "%(uuid)b", "startDate": "%(start)b", "endDate": "%(end)b"}
SHORT = {"sampleType": "type", "sourceName": "source", "startDate": "start", "endDate": "end"}

OWNERS = ["Ada’s {}", "Zoë’s {}", "李的 {}", "{} لليلى"]
APPS = ["Zepp Life", "Schlaf 😴 & Ruhe", "体重\u2028记录 ", "Pillow\u0085", 'My "Fit" App ']
WATCH = {
    "name": "Apple Watch",
    "manufacturer": "Apple Inc.",
    "model": "Watch",
    "hardwareVersion": "Watch5,3",
    "softwareVersion": "6.1.3",
}
PHONE = WATCH | {"name": "iPhone", "model": "iPhone", "hardwareVersion": "iPhone12,1"}

# share in percent, name, unit, largest value, decimal places, duration
QUANTITIES = [
    (35.0, "ActiveEnergyBurned", "kcal", 12.0, 17, MINUTE),
    (23.0, "BasalEnergyBurned", "kcal", 25.0, 3, MINUTE),
    (16.0, "HeartRate", "count/min", 180.0, 0, 0),
    (9.0, "DistanceWalkingRunning", "km", 1.0, 7, 9 * MINUTE),
    (6.0, "StepCount", "count", 1500.0, 0, 9 * MINUTE),
    (1.0, "EnvironmentalAudioExposure", "dBASPL", 90.0, 4, 30 * MINUTE),
    (0.5, "RespiratoryRate", "count/min", 20.0, 1, 0),
    (0.3, "OxygenSaturation", "%", 1.0, 2, 0),
    (0.1, "BloodGlucose", "mmol<180.1558800000541>/L", 9.0, 17, 0),
]
OTHERS = {"sleep": 6, "stand": 2, "variability": 0.3, "workout": 0.2, "deleted": 0.4, "short": 0.2}
CUMULATIVE = {"ActiveEnergyBurned", "BasalEnergyBurned", "DistanceWalkingRunning", "StepCount"}
KINDS = [kind for _, *kind in QUANTITIES] + [*OTHERS]
SHARES = [share for share, *_ in QUANTITIES] + [*OTHERS.values()]

Record = dict[str, object]


@dataclass(frozen=True, slots=True)
class Template:
    """A line without its uuid and dates, with its duration and the delay before it was saved."""

    text: bytes
    lasts: int
    late: int


def lines(count: int, seed: int = 1, *, is_ascii: bool = False) -> Iterator[bytes]:
    """Yield this many valid lines. For ASCII, "?" replaces every other character."""
    chance = random.Random(seed)
    phone = Phone(chance, chance.choice(OWNERS), is_ascii, str(seed))
    templates: list[Template] = []
    at = BEGAN + seed % 3_000 * DAY
    line = b""
    for _ in range(count):
        if line and chance.random() < DUPLICATES:
            yield line
            continue
        if len(templates) < POOL:
            templates.append(phone.template())
            template = templates[-1]
        else:
            template = templates[int(chance.random() * POOL)]
        at += int(chance.random() * 3 * MINUTE)
        line = template.text % fresh(chance, at - template.late, template.lasts)
        yield line


def export(count: int, seed: int = 1) -> bytes:
    """Return NDJSON of this many lines."""
    return b"".join(stream(count, seed))


def stream(count: int, seed: int = 1, *, is_ascii: bool = False) -> Iterator[bytes]:
    """Yield NDJSON of any number of lines, in blocks. 2,200,000 are a first sync of 1.2 GB."""
    found = lines(count, seed, is_ascii=is_ascii)
    while block := list(islice(found, BLOCK_LINES)):
        yield b"\n".join([*block, b""])


def bulky(seed: int = 1) -> Iterator[bytes]:
    """Yield the longest records: an electrocardiogram and the route of a long ride."""
    chance = random.Random(seed)
    phone = Phone(chance, chance.choice(OWNERS), False, str(seed))
    voltages = [round(chance.gauss(0, 0.1), 4) for _ in range(VOLTAGES)]
    ecg = {"sampleType": "HKDataTypeIdentifierElectrocardiogram", "voltages": voltages}
    locations = [location(chance, BEGAN + number * 1_000) for number in range(LOCATIONS)]
    route = {"sampleType": "HKWorkoutRouteTypeIdentifier", "locations": locations}
    for record in ecg, route:
        yield phone.written(FRESH | phone.ours() | record) % fresh(chance, BEGAN, 60 * MINUTE)


def bad(seed: int = 1) -> Iterator[tuple[bytes, str]]:
    """Yield lines damaged in transit, with the reason why each is rejected."""
    for line in lines(20, seed):
        body = line[:-1]
        yield line[: len(line) * 2 // 3], "not valid JSON"
        yield line + line, "not valid JSON"
        yield body + b',"valueText":"\\ud83d"}', "not valid JSON"
        yield body + b',"valueText":"\x01"}', "not valid JSON"
        yield body + b',"speed":NaN}', "not valid JSON"
        yield body + b',"valueText":"\xe2\x80"}', "not UTF-8"
        yield body + b',"valueText":"Z\xfcrich"}', "not UTF-8"
        yield body + b',"speed":1e400}', "a number is out of range"
        yield body + b',"totalDistanceMeters":-' + b"9" * 400 + b"}", "a number is out of range"
        yield body + b',"metadata":' + b'{"":' * 64 + b"1" + b"}" * 65, "nested deeper than 64"
        yield b"[" + line + b"]", "not a JSON object"
        yield b"null", "not a JSON object"
    yield body + b',"valueText":"' + b" " * LINE_BYTES_MAX + b'"}', "longer than 8388608 bytes"


def interleave(found: Iterable[bytes], among: Iterable[bytes], every: int = 7) -> Iterator[bytes]:
    """Insert one of `among` after every few of `found`; the remainder comes last."""
    others = iter(among)
    for number, line in enumerate(found, 1):
        yield line
        if number % every == 0:
            yield from islice(others, 1)
    yield from others


@dataclass(frozen=True, slots=True)
class Phone:
    """A phone that sends, with a paired Watch."""

    chance: random.Random
    owner: str
    is_ascii: bool
    hash_seed: str
    ranks: dict[str, float] = field(default_factory=dict)

    def template(self) -> Template:
        (kind,) = self.chance.choices(KINDS, SHARES)
        if kind == "deleted":
            sync = {"HKSyncIdentifier": str(self.chance.getrandbits(40)), "HKSyncVersion": 1}
            record = {"metadata": sync} if self.chance.random() < 0.5 else {}
            return Template(self.written(record | {"uuid": FRESH["uuid"]}), 0, 0)
        what, lasts = particular(self.chance, kind)
        is_foreign = self.chance.random() < FOREIGN
        record = FRESH | (self.foreign() if is_foreign else self.ours()) | what
        if kind == "short":
            record = {SHORT.get(key, key): value for key, value in record.items()}
        is_late = is_foreign and self.chance.random() < LATE
        return Template(self.written(record), lasts, WEEKS if is_late else 0)

    def ours(self) -> Record:
        device = PHONE if self.chance.random() < 0.1 else WATCH
        return {
            "sourceName": self.owner.format(str(device["name"]).replace(" ", "\u00a0")),
            "sourceVersion": "6.1.3",
            "sourceBundleId": "com.apple.health",
            "device": device,
        }

    def foreign(self) -> Record:
        name = self.chance.choice(APPS)
        return {"sourceName": name, "sourceVersion": "3", "sourceBundleId": "com.example.app"}

    def written(self, record: Record) -> bytes:
        text = json.dumps(self.shuffle_keys(record), ensure_ascii=False, separators=(",", ":"))
        escaped = text.replace("/", "\\/").replace("%", "%%").replace("%%(", "%(")
        return escaped.encode("ascii", "replace") if self.is_ascii else escaped.encode()

    def shuffle_keys(self, record: Record) -> Record:
        """Return the record in another order of keys for every export, as Swift does."""
        return {
            key: self.shuffle_keys(value) if isinstance(value, dict) else value
            for key, value in sorted(record.items(), key=lambda item: self.rank(item[0]))
        }

    def rank(self, key: str) -> float:
        if key not in self.ranks:
            self.ranks[key] = random.Random(key + self.hash_seed).random()
        return self.ranks[key]


def particular(chance: random.Random, kind: object) -> tuple[Record, int]:
    """Return the properties specific to a kind of record, and its duration."""
    match kind:
        case "workout":
            return workout(chance), int(chance.uniform(600, 5_000)) * 1_000
        case "sleep":
            stages = [(0, "inBed"), (2, "awake"), (3, "asleepCore"), (5, "asleepREM")]
            value, stage = chance.choices(stages, [1, 4, 8, 4])[0]
            found = category("SleepAnalysis", value) | {"sleepStage": stage}
            return found | {"metadata": {"HKTimeZone": "Europe/Berlin"}}, 20 * MINUTE
        case "stand":
            return category("AppleStandHour", int(chance.random() < 0.2)), 60 * MINUTE
        case "variability":
            beats = [{"bpm": chance.randint(50, 90), "time": f"23:47:{n},5"} for n in range(90)]
            value = round(chance.uniform(10, 120), 4)
            found = quantity("HeartRateVariabilitySDNN", "ms", value)
            return found | {"heartbeats": beats[: chance.randint(20, 90)]}, MINUTE
        case "short":
            found = quantity("BodyMass", "kg", round(chance.uniform(50, 90), 1))
            return found | {"value": found.pop("valueDouble")}, 0
        case [str(name), str(unit), float(largest), int(places), int(lasts)]:
            value = 0 if chance.random() < ZEROS else round(chance.uniform(0, largest), places)
            found = quantity(name, unit, value)
            context = {"metadata": {"HKMetadataKeyHeartRateMotionContext": chance.randint(0, 2)}}
            return found | (context if name == "HeartRate" else {}), lasts
    raise AssertionError(kind)


def workout(chance: random.Random) -> Record:
    return {
        "sampleType": "HKWorkoutTypeIdentifier",
        "sampleClass": "HKWorkout",
        "dataType": "workout",
        "activityType": "Yoga",
        "durationSeconds": round(chance.uniform(600, 5_000), 3),
        "totalEnergyKilocalories": round(chance.uniform(0, 500), 6),
        "totalDistanceMeters": 0,
        "workoutEventCount": 0,
        "metadata": {"HKAverageMETs": "3.77421 kcal/hr·kg", "HKWeatherHumidity": "8100 %"},
    }


def category(name: str, value: int) -> Record:
    kind = f"HKCategoryTypeIdentifier{name}"
    return {
        "sampleType": kind,
        "categoryType": kind,
        "sampleClass": "HKCategorySample",
        "dataType": "category",
        "valueInteger": value,
    }


def quantity(name: str, unit: str, value: float) -> Record:
    """Return a quantity as Swift writes it: 60.0 becomes 60."""
    kind = f"HKQuantityTypeIdentifier{name}"
    return {
        "sampleType": kind,
        "quantityType": kind,
        "sampleClass": f"HK{'Cumulative' if name in CUMULATIVE else 'Discrete'}QuantitySample",
        "dataType": "quantity",
        "unit": unit,
        "valueDouble": int(value) if value == int(value) else value,
    }


def location(chance: random.Random, at: int) -> Record:
    return {
        "latitude": chance.uniform(-34, -33),
        "longitude": chance.uniform(18, 19),
        "altitude": chance.uniform(-5, 900),
        "speed": chance.choice([-1, chance.uniform(0, 9)]),
        "course": chance.uniform(0, 360),
        "horizontalAccuracy": chance.uniform(1, 9),
        "timestamp": stamp(at).decode(),
    }


def fresh(chance: random.Random, start: int, lasts: int) -> dict[bytes, bytes]:
    """Return the fields that differ in every line."""
    return {b"uuid": uuid(chance), b"start": stamp(start), b"end": stamp(start + lasts)}


def uuid(chance: random.Random) -> bytes:
    bits = chance.getrandbits
    parts = bits(32), bits(16), bits(12), bits(12), bits(48)
    return b"%08X-%04X-4%03X-A%03X-%012X" % parts


def stamp(at: int) -> bytes:
    days, within = divmod(at, DAY)
    minutes, rest = divmod(within, MINUTE)
    return b"%bT%02d:%02d:%02d.%03dZ" % (day(days), *divmod(minutes, 60), *divmod(rest, 1_000))


@lru_cache
def day(number: int) -> bytes:
    return date.fromordinal(EPOCH + number).isoformat().encode()
