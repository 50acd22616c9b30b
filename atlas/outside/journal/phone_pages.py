"""Pages of phones with their latest reports, the same in both engines."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from atlas.core import identifiers
from atlas.core.phones import PhoneAge, PhonePage, PhoneQuery, sum_ages
from atlas.outside.journal.cipher import Cipher
from atlas.outside.journal.phones import PhoneCodec, PhoneRow
from atlas.outside.journal.reports import ReportCodec, ReportRow

NEVER = 2**62


@dataclass(frozen=True, slots=True)
class PageBuilder:
    """Builds a page of phones from their rows, with the latest report of each."""

    cipher: Cipher
    quiet_days: int
    now: datetime

    def build(
        self,
        rows: Sequence[tuple[PhoneRow, int]],
        reports: Iterable[ReportRow],
        ages: Iterable[PhoneAge],
        limit: int | None,
    ) -> PhonePage:
        """Decrypt the rows. A row more than `limit` shows that there is another page."""
        codec, report_codec = PhoneCodec(self.cipher), ReportCodec(self.cipher)
        latest = {(each.user, each.device): report_codec.open(each) for each in reports}
        shown = rows[:limit]
        phones = [
            codec.build_phone(row, self.now, self.quiet_days, latest.get((row.user, row.device)))
            for row, _ in shown
        ]
        has_more = limit is not None and len(rows) > limit
        before = build_cursor(*shown[-1]) if has_more else None
        totals = sum_ages(ages, self.quiet_days)
        return PhonePage(tuple(phones), totals, self.quiet_days, before)


class PhoneRange(NamedTuple):
    """The range of `at` that a query selects, and its cursor, at and number of the last row."""

    first: int
    last: int
    before_at: int
    before_number: int


def build_range(query: PhoneQuery, now: datetime) -> PhoneRange:
    now_ms = identifiers.count_milliseconds(now)
    first = 0 if query.seen_seconds is None else now_ms - query.seen_seconds * 1_000
    last = NEVER if query.quiet_seconds is None else now_ms - query.quiet_seconds * 1_000
    before = (NEVER, NEVER) if query.before is None else map(int, query.before.split("."))
    return PhoneRange(first, last, *before)


def build_cursor(row: PhoneRow, number: int) -> str:
    return f"{row.at}.{number}"
