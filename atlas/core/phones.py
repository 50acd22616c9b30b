"""The phones of the users, as the journal remembers them and operators see them.

A phone is a user and a device. It is active, quiet (no export for some days) or stuck: it keeps
sending the same export, because it does not receive or understand the response.
"""

from collections.abc import Iterable, Mapping
from datetime import date, datetime
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

PhoneState = Literal["active", "quiet", "stuck"]
ReportEvent = Literal["sync_began", "sync_ended", "sync_failed"]

SEEN_DAYS = 30  # phones without an export for longer are not counted any more
PAGE_MAX = 10_000
TYPES_MAX = 200  # sample types of a phone; Apple defines about 170
DEVICE_CHARACTERS_MAX = 256
CODE_CHARACTERS_MAX, MESSAGE_CHARACTERS_MAX = 64, 500  # of an error
STATE_CHARACTERS_MAX, VERSION_CHARACTERS_MAX = 32, 64


class RowSummary(Struct, frozen=True, gc=False):
    """A summary of an export's rows, as far as they concern the phone.

    `samples` has the latest start date by sample type. `source_version` and `os_version` are those
    of samples that the phone itself recorded.
    """

    samples: Mapping[str, str] = {}
    source_version: str = ""
    os_version: str = ""


NO_SUMMARY = RowSummary()


class SampleCount(Struct, frozen=True):
    """The number of samples of a type that start on a day, as the phone counts them."""

    type: Annotated[str, Meta(min_length=1, max_length=128)]
    day: date
    samples: Annotated[int, Meta(ge=0, le=1_000_000_000)]


SampleCounts = Annotated[tuple[SampleCount, ...], Meta(max_length=2_000)]
TimeZone = Annotated[str, Meta(pattern=r"^(Z|[+-](0[0-9]|1[0-4]):[0-5][0-9])$")]


class ReportedError(Struct, frozen=True):
    """The error of a synchronization, as the app describes it."""

    code: Annotated[str, Meta(max_length=CODE_CHARACTERS_MAX)] = ""
    message: Annotated[str, Meta(max_length=MESSAGE_CHARACTERS_MAX)] = ""


class PhoneReport(Struct, frozen=True):
    """The view of a phone on its own synchronization: counts and conditions, never values."""

    event: ReportEvent
    at: Annotated[datetime, Meta(tz=True)]
    device: Annotated[str, Meta(max_length=DEVICE_CHARACTERS_MAX)] = "unknown"
    counts: SampleCounts = ()
    time_zone: TimeZone | None = None
    error: ReportedError | UnsetType = UNSET
    battery: Annotated[float, Meta(ge=0, le=1)] | None = None
    state: Annotated[str, Meta(max_length=STATE_CHARACTERS_MAX)] = ""
    app_version: Annotated[str, Meta(max_length=VERSION_CHARACTERS_MAX)] = ""
    os_version: Annotated[str, Meta(max_length=VERSION_CHARACTERS_MAX)] = ""


class StoredReport(Struct, frozen=True):
    """A report in the journal. `sub` is the user of its token, `user` a keyed hash of it."""

    user: str
    sub: str
    received_at: datetime
    report: PhoneReport


class Phone(Struct, frozen=True):
    """A phone, as operators see it.

    `user` is a keyed hash of the sub. `samples` has the latest start date by sample type.
    `exports`, `rows` and `rejected` are those of the last seven days. `report` is the one that
    arrived last, without its counts. `last_export_at` is None if the phone has only sent reports;
    then it is quiet some days after the first one.
    """

    user: str
    device: str
    state: PhoneState
    last_export_at: datetime | None
    exports: int
    rows: int
    rejected: int
    samples: Mapping[str, str] = {}
    source_version: str = ""
    app_version: str = ""
    os_version: str = ""
    report: PhoneReport | UnsetType = UNSET
    reported_at: datetime | None = None

    @property
    def last_sample(self) -> str:
        """The latest start date of all types, "" if no date is known."""
        return max(self.samples.values(), default="")

    @property
    def rejected_share(self) -> float:
        """The share of rejected lines in the last seven days."""
        received = self.rows + self.rejected
        return self.rejected / received if received else 0.0


class PhoneQuery(Struct, frozen=True):
    """Selects phones, those with the latest exports first.

    `quiet_seconds`: only phones without an export for that long. `seen_seconds`: only phones with
    an export in that time. `before` is the cursor of the previous page.
    """

    limit: Annotated[int, Meta(ge=1, le=PAGE_MAX)] = 50
    before: Annotated[str, Meta(pattern=r"^[0-9]{1,18}\.[0-9]{1,18}$")] | None = None
    quiet_seconds: Annotated[int, Meta(ge=0, le=2**40)] | None = None
    seen_seconds: Annotated[int, Meta(ge=0, le=2**40)] | None = None


class PhoneAge(Struct, frozen=True):
    """The number of phones whose last export, or else first report, was `days` days ago."""

    days: int
    is_stuck: bool
    phones: int


class PhoneTotals(Struct, frozen=True):
    """The number of phones with an export or a first report in the last 30 days, by state."""

    active: int = 0
    quiet: int = 0
    stuck: int = 0

    @property
    def phones(self) -> int:
        return self.active + self.quiet + self.stuck


class PhonePage(Struct, frozen=True):
    """A page of phones. `before` is the cursor of the next page, None on the last one."""

    phones: tuple[Phone, ...]
    totals: PhoneTotals
    quiet_days: int
    before: str | None = None


class ReportPage(Struct, frozen=True):
    """The reports of one user's phones that contain counts, the oldest first.

    `waiting_rows` are the user's rows that are accepted, and not committed yet. `next_user` asks
    for the next user's; it is "" after the last one.
    """

    reports: tuple[StoredReport, ...]
    next_user: str = ""
    waiting_rows: int = 0


def find_state(days: float, quiet_days: int, *, is_stuck: bool) -> PhoneState:
    """Return the state of a phone whose last export was this number of days ago."""
    if days >= quiet_days:
        return "quiet"
    return "stuck" if is_stuck else "active"


def sum_ages(ages: Iterable[PhoneAge], quiet_days: int) -> PhoneTotals:
    """Count the phones by state."""
    totals: dict[PhoneState, int] = {"active": 0, "quiet": 0, "stuck": 0}
    for each in ages:
        totals[find_state(each.days, quiet_days, is_stuck=each.is_stuck)] += each.phones
    return PhoneTotals(**totals)


def merge_summaries(summaries: Iterable[RowSummary]) -> RowSummary:
    """Merge the summaries of the parts of an export, in their order."""
    samples = dict[str, str]()
    source_version = os_version = ""
    for each in summaries:
        for type, start in each.samples.items():
            known = samples.get(type)
            if known is None and len(samples) >= TYPES_MAX:
                continue
            if known is None or start > known:
                samples[type] = start
        source_version = each.source_version or source_version
        os_version = each.os_version or os_version
    return RowSummary(samples, source_version, os_version)
