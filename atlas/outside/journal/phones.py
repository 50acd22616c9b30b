"""The table of phones: one row for each user and device, the same in both engines.

In plaintext: keyed hashes of the user and the device, the time of the last acceptance, and if the
phone is stuck, so that phones are counted and sorted without decrypting them. Everything else is in
`sealed`, which is bound to these columns. Exports are counted when they are stored: those of
some seconds are merged in memory, and then added to the row.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import NamedTuple

import msgspec
from msgspec import Struct

from atlas.core import identifiers
from atlas.core.errors import CorruptEntry
from atlas.core.messages import FlattenedExport
from atlas.core.personal_data import KnownPhone
from atlas.core.phones import (
    DEVICE_CHARACTERS_MAX,
    SEEN_DAYS,
    TYPES_MAX,
    Phone,
    StoredReport,
    find_state,
)
from atlas.outside.journal.cipher import Cipher
from atlas.outside.journal.compression import FRAME_MAGIC, compress, decompress
from atlas.outside.journal.retention import DAY_SECONDS, count_days

DAYS_KEPT, DAYS_SHOWN = 8, 7
FORGET_DAYS = 400  # without an export
DEVICES_MAX = 50  # of a user; with more, the least recent one is dropped
PRUNE_MAX = 1_000
PLAIN_BYTES_MAX = 1_024  # of some 15 types; compression would double the cost of a change
DAY_MILLISECONDS = DAY_SECONDS * 1_000


class PhoneDay(Struct, array_like=True, gc=False):
    """The exports of a phone that were accepted on a day, since 1970-01-01."""

    day: int
    exports: int = 0
    rows: int = 0
    rejected: int = 0


class PhoneFields(Struct, array_like=True, gc=False):
    """The fields of a phone that are encrypted. `days` is empty until there is an export."""

    sub: str
    device: str
    samples: dict[str, str] = {}
    days: list[PhoneDay] = []
    source_version: str = ""
    os_version: str = ""


# `days` is not empty, so that `at` is shown as the time of an export, as it is for most phones
CORRUPT_FIELDS = PhoneFields("", "", days=[PhoneDay(0)])


class PhoneRow(NamedTuple):
    """A row of the table. `at`: time of the last export, or else of the first report, in ms."""

    user: str
    device: str
    at: int
    stuck: int
    sealed: bytes


class PhoneKey(NamedTuple):
    """Keyed hashes of the user and the device."""

    user: str
    device: str


@dataclass(slots=True)
class PhoneChange:
    """The exports of a phone that are not in its row yet. `at` is 0 if nothing was accepted."""

    sub: str
    device: str
    at: int = 0
    is_stuck: bool = False
    fields: PhoneFields = field(default_factory=lambda: PhoneFields("", ""))

    def add(self, export: FlattenedExport) -> None:
        """Count an export that was stored now."""
        table, summary, fields = export.table, export.table.summary, self.fields
        at = identifiers.count_milliseconds(export.at)
        self.at, self.is_stuck = max(self.at, at), export.is_stuck
        day = at // DAY_MILLISECONDS
        if fields.days and (latest := fields.days[-1]).day == day:  # the usual case
            latest.exports += 1
            latest.rows += table.ingested
            latest.rejected += table.rejected
        else:
            add_day(fields, PhoneDay(day, 1, table.ingested, table.rejected))
        add_samples(fields, summary.samples)
        fields.source_version = summary.source_version or fields.source_version
        fields.os_version = summary.os_version or fields.os_version


@dataclass(slots=True)
class PendingPhones:
    """Changes that are not stored yet, by user and device: they are hashed when they are stored."""

    codec: "PhoneCodec"
    changes: dict[tuple[str, str], PhoneChange] = field(default_factory=dict)

    def add(self, export: FlattenedExport) -> None:
        """Count an export that is stored now."""
        self._find(export).add(export)

    def add_replay(self, export: FlattenedExport) -> None:
        """Note that a phone is stuck. A replay is not counted otherwise."""
        if export.is_stuck:
            self._find(export).is_stuck = True

    def take(self, limit: int | None = None) -> list[PhoneChange]:
        """Remove and return the first changes; without a limit, all of them."""
        names = list(islice(self.changes, limit))
        return [self.changes.pop(name) for name in names]

    def restore(self, changes: Iterable[PhoneChange]) -> None:
        """Put back changes that could not be stored; later ones are merged into them."""
        later = self.take()
        for change in (*changes, *later):
            self.merge(change)

    def merge(self, change: PhoneChange) -> None:
        """Add a later change."""
        earlier = self.changes.setdefault((change.sub, change.device), change)
        if earlier is not change:
            merge_change(earlier, change)

    def forget(self, hashed_user: str) -> None:
        hash_user = self.codec.cipher.hash_user
        for change in self.take():
            if hash_user(change.sub) != hashed_user:
                self.merge(change)

    def _find(self, export: FlattenedExport) -> PhoneChange:
        name = export.head.user.sub, export.head.device[:DEVICE_CHARACTERS_MAX]
        change = self.changes.get(name)
        if change is None:
            change = self.changes[name] = PhoneChange(*name)
        return change


_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(PhoneFields)


@dataclass(frozen=True, slots=True)
class PhoneCodec:
    """Encrypts and decrypts rows of phones."""

    cipher: Cipher

    def build_key(self, sub: str, device: str) -> PhoneKey:
        user = self.cipher.hash_user(sub)
        return PhoneKey(user, self.cipher.hash_text(f"{user} {device[:DEVICE_CHARACTERS_MAX]}"))

    def sort(self, changes: Iterable[PhoneChange]) -> list[tuple[PhoneKey, PhoneChange]]:
        """Return the changes in the order of their keys, in which the index has them, too."""
        keyed = [(self.build_key(each.sub, each.device), each) for each in changes]
        return sorted(keyed, key=lambda each: each[0])

    def apply(self, row: PhoneRow | None, key: PhoneKey, change: PhoneChange) -> PhoneRow | None:
        """Return the row with the change; None if a replay concerns no known phone.

        A row that is corrupt is replaced.
        """
        fields = None if row is None else self.open(row)
        if not change.at:
            return None if row is None or fields is None else self.seal(key, row.at, 1, fields)
        if fields is None:
            fields = PhoneFields(change.sub, change.device)
        exported_at = row.at if row is not None and fields.days else 0
        merge_fields(fields, change.fields)
        at = max(change.at, exported_at)
        return self.seal(key, at, int(change.is_stuck), fields)

    def build_reporter(self, sub: str, device: str, at: int) -> PhoneRow:
        """Return the row of a phone that has sent a report, and no export yet."""
        fields = PhoneFields(sub, device[:DEVICE_CHARACTERS_MAX])
        return self.seal(self.build_key(sub, device), at, 0, fields)

    def seal(self, key: PhoneKey, at: int, stuck: int, fields: PhoneFields) -> PhoneRow:
        content = _encode(fields)
        if len(content) > PLAIN_BYTES_MAX:
            content = compress(content)
        sealed = self.cipher.encrypt(content, build_aad(*key, at, stuck))
        return PhoneRow(*key, at, stuck, sealed)

    def open(self, row: PhoneRow) -> PhoneFields | None:
        """Decrypt the fields; None if they are corrupt."""
        try:
            content = self.cipher.decrypt(row.sealed, build_aad(*row[:4]))
            is_compressed = content.startswith(FRAME_MAGIC)
            return _decoder.decode(decompress(content) if is_compressed else content)
        except (CorruptEntry, msgspec.MsgspecError):
            return None

    def describe(self, row: PhoneRow) -> KnownPhone:
        """Describe a phone to the person that it belongs to."""
        fields = self.open(row) or CORRUPT_FIELDS
        return KnownPhone(fields.device, find_export_time(row, fields), len(fields.samples))

    def build_phone(
        self,
        row: PhoneRow,
        now: datetime,
        quiet_days: int,
        latest: StoredReport | None = None,
    ) -> Phone:
        """Build a phone as operators see it; without the fields if they are corrupt."""
        fields = self.open(row) or CORRUPT_FIELDS
        first = count_days(now) - DAYS_SHOWN + 1
        recent = [each for each in fields.days if each.day >= first]
        report = None if latest is None else latest.report
        age_days = (identifiers.count_milliseconds(now) - row.at) / DAY_MILLISECONDS
        return Phone(
            user=row.user[: identifiers.PSEUDONYM_CHARACTERS],
            device=fields.device,
            state=find_state(age_days, quiet_days, is_stuck=bool(row.stuck)),
            last_export_at=find_export_time(row, fields),
            exports=sum(each.exports for each in recent),
            rows=sum(each.rows for each in recent),
            rejected=sum(each.rejected for each in recent),
            samples=fields.samples,
            source_version=fields.source_version,
            app_version="" if report is None else report.app_version,
            os_version=(report.os_version if report else "") or fields.os_version,
            report=msgspec.UNSET if report is None else msgspec.structs.replace(report, counts=()),
            reported_at=None if latest is None else latest.received_at,
        )


def find_export_time(row: PhoneRow, fields: PhoneFields) -> datetime | None:
    """Return the time of the last export; None if there was none."""
    return datetime.fromtimestamp(row.at / 1_000, UTC) if fields.days else None


def build_aad(user: str, device: str, at: int, stuck: int) -> bytes:
    return f"phone {user} {device} {at} {stuck}".encode()


def merge_change(change: PhoneChange, later: PhoneChange) -> None:
    """Merge a later change of the same phone."""
    change.at = max(change.at, later.at)
    change.is_stuck = later.is_stuck
    merge_fields(change.fields, later.fields)


def merge_fields(fields: PhoneFields, later: PhoneFields) -> None:
    for day in later.days:
        add_day(fields, day)
    add_samples(fields, later.samples)
    fields.source_version = later.source_version or fields.source_version
    fields.os_version = later.os_version or fields.os_version


def add_day(fields: PhoneFields, added: PhoneDay) -> None:
    """Add the counts of a day, and drop days that are not shown any more."""
    for each in fields.days:
        if each.day == added.day:
            each.exports += added.exports
            each.rows += added.rows
            each.rejected += added.rejected
            return
    fields.days = [each for each in fields.days if each.day > added.day - DAYS_KEPT]
    fields.days.append(PhoneDay(added.day, added.exports, added.rows, added.rejected))


def add_samples(fields: PhoneFields, samples: Mapping[str, str]) -> None:
    """Raise the latest start dates. Of too many types, the first ones are kept."""
    known = fields.samples
    for type, start in samples.items():
        latest = known.get(type)
        if (latest is None and len(known) < TYPES_MAX) or (latest is not None and start > latest):
            known[type] = start


def find_horizons(now: datetime) -> tuple[int, int]:
    """Return the times in ms from which phones count, and before which they are forgotten."""
    seen, forget = now - timedelta(days=SEEN_DAYS), now - timedelta(days=FORGET_DAYS)
    return identifiers.count_milliseconds(seen), identifiers.count_milliseconds(forget)
