"""Compares the samples that a phone counts, by type and day, with those in the dataset."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta, timezone
from functools import lru_cache

import msgspec
from msgspec import Struct

from atlas.core.messages import User
from atlas.core.personal_data import DatasetFile
from atlas.core.phones import StoredReport

UTC_ZONE, OWN_ZONE = "Z", "own"  # the offset that the date of a sample is written with
NO_TIME, ONE_HOUR, ONE_DAY = timedelta(), timedelta(hours=1), timedelta(days=1)
EARLIEST_DAY = date(1900, 1, 1)
OFFSET = re.compile(r" ?[+-][01][0-9][0-5][0-9]|[+-][01][0-9]:[0-5][0-9]")
Keys = tuple[tuple[str, str, str], ...]  # type, day and time zone, in each time zone
TYPE_MARK = "TypeIdentifier"  # HKQuantityTypeIdentifierHeartRate is HeartRate


class SampleRow(Struct, gc=False):
    """The columns of a row that are needed to count samples."""

    auth0_user_id: str
    sample_type: str
    uuid: str
    start_date: str
    end_date: str
    value_double: float | None


_decode_rows = msgspec.json.Decoder(SampleRow).decode_lines


def decode_rows(ndjson: bytes | bytearray | memoryview, user: User) -> Sequence[SampleRow]:
    """Decode rows; none of a shared file without rows of this user. Raises ValueError."""
    has_user = msgspec.json.encode(user.sub) in bytes(ndjson)
    return _decode_rows(ndjson) if has_user else ()


class DayCount(Struct, frozen=True):
    """The latest count of a phone for a type and a day, in its time zone."""

    samples: int
    time_zone: str | None


class CountKey(Struct, frozen=True):
    """The device, type and day of a count."""

    device: str
    type: str
    day: date


class DatasetCounts(Struct, frozen=True):
    """The samples of a user by type, day and time zone, without those in the `unread` files."""

    samples: Mapping[tuple[str, str, str], int]
    unread: tuple[DatasetFile, ...] = ()


class SampleGap(Struct, frozen=True):
    """A type and day of which the dataset has fewer samples than the phone."""

    user: str
    device: str
    type: str
    day: date
    phone: int
    dataset: int


class SampleCounter:
    """Counts the distinct samples of one user by type and day, in each of the time zones.

    A sample is known by its uuid, or else by its type, dates and value; a sample that was deleted
    does not count. Of each only a hash of 64 bits is kept, as there may be millions.
    """

    def __init__(self, sub: str, time_zones: Iterable[str | None], first: date) -> None:
        self._sub = sub
        self._time_zones = sorted({each for zone in time_zones for each in list_readings(zone)})
        self._first = (max(first, EARLIEST_DAY) - ONE_DAY).isoformat()  # of any time zone
        self._samples: dict[int, Keys] = {}
        self._deleted = set[int]()
        self._known: dict[str, Keys] = {}
        self._significant = {UTC_ZONE: self._count_significant(UTC_ZONE)}

    def add(self, rows: Iterable[SampleRow]) -> None:
        """Count rows. Those of other users are ignored.

        A date is parsed once for all samples of its day or hour: parsing each would take twice as
        long as decoding the rows.
        """
        sub, first, samples = self._sub, self._first, self._samples
        find_keys, utc_significant = self._known.get, self._significant[UTC_ZONE]
        for row in rows:
            start = row.start_date
            if start < first or row.auth0_user_id != sub:
                if not start and not row.sample_type and row.auth0_user_id == sub:
                    self._deleted.add(hash(row.uuid))
                continue
            if start[-1] == UTC_ZONE:  # the usual case
                group = row.sample_type + start[:utc_significant]
            else:
                group = row.sample_type + self._shorten(start)
            keys = find_keys(group) or self._build_keys(group, row.sample_type, start)
            samples[hash(row.uuid or (group, start, row.end_date, row.value_double))] = keys

    def count(self) -> Counter[tuple[str, str, str]]:
        """Return the number of samples by type, day and time zone."""
        samples, counts = self._samples, Counter[tuple[str, str, str]]()
        groups = Counter(samples.values())
        groups.subtract(samples[id] for id in self._deleted & samples.keys())
        for keys, number in groups.items():
            for key in keys:
                counts[key] += number
        return counts

    def _build_keys(self, group: str, type: str, start: str) -> Keys:
        name = shorten_type(type)
        keys = tuple((name, find_day(start, zone), zone) for zone in self._time_zones)
        self._known[group] = keys
        return keys

    def _shorten(self, start: str) -> str:
        """Shorten a date to what determines its days."""
        offset = start[-6:]
        significant = self._significant.get(offset)
        if significant is None and OFFSET.fullmatch(offset):
            significant = self._significant[offset] = self._count_significant(offset)
        return start if significant is None else start[:significant] + offset

    def _count_significant(self, offset: str) -> int:
        """Return the number of characters of a date with this offset that determine its days."""
        own = parse_offset(offset)
        zones = {parse_offset(zone) for zone in self._time_zones if zone != OWN_ZONE}
        if zones <= {own}:
            return len("2026-01-02")
        is_by_hour = all((zone - own) % ONE_HOUR == NO_TIME for zone in zones)
        return len("2026-01-02T12") if is_by_hour else len("2026-01-02T12:30")


def list_readings(time_zone: str | None) -> tuple[str, ...]:
    """Return the time zones that a report may mean.

    Without one, it means UTC, or the offset with which the phone writes its dates.
    """
    return (UTC_ZONE, OWN_ZONE) if time_zone is None else (time_zone,)


def find_day(start: str, time_zone: str) -> str:
    """Return the day of a date in a time zone; without a time or an offset, the day as it is."""
    if time_zone == OWN_ZONE:
        return start[:10]
    try:
        at = datetime.fromisoformat(start.replace(" +", "+").replace(" -", "-"))
        if at.tzinfo is None:
            return start[:10]
        return at.astimezone(timezone(parse_offset(time_zone))).date().isoformat()
    except (ValueError, OverflowError):
        return start[:10]


@lru_cache(256)
def parse_offset(text: str) -> timedelta:
    """Parse an offset from UTC, such as +02:00, +0200 or Z."""
    if text == UTC_ZONE:
        return NO_TIME
    digits = text.strip(" +-:").replace(":", "")
    offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return -offset if "-" in text else offset


def shorten_type(type: str) -> str:
    """Return the name of a type without its prefix."""
    before, mark, name = type.partition(TYPE_MARK)
    if not mark:
        return type
    return name or before.removeprefix("HK")


def collect_counts(reports: Iterable[StoredReport], first: date) -> dict[CountKey, DayCount]:
    """Return the latest counts of each device, type and day from `first` on.

    `reports` are in the order of their arrival. Reports that were sent in the background may arrive
    late, so the latest is that of the latest time, and of equal times the last one to arrive.
    """
    counts = dict[CountKey, DayCount]()
    for each in sorted(reports, key=find_report_time):
        report = each.report
        for count in report.counts:
            if count.day >= first:
                key = CountKey(report.device, shorten_type(count.type), count.day)
                counts[key] = DayCount(count.samples, report.time_zone)
    return counts


def find_report_time(stored: StoredReport) -> datetime:
    """Return the time of a report: its arrival, if the phone's clock is ahead."""
    return min(stored.report.at, stored.received_at)


def find_gaps(
    user: str, counts: Mapping[CountKey, DayCount], dataset: Mapping[tuple[str, str, str], int]
) -> list[SampleGap]:
    """Return the counts of which the dataset has fewer samples, by day and type."""
    gaps = []
    for key, count in counts.items():
        day, zones = key.day.isoformat(), list_readings(count.time_zone)
        stored = max(dataset.get((key.type, day, zone), 0) for zone in zones)
        if stored < count.samples:
            gaps.append(SampleGap(user, key.device, key.type, key.day, count.samples, stored))
    return sorted(gaps, key=lambda gap: (gap.day, gap.type, gap.device))
