"""The port of the phones: the journal's record of each, and the reports that they send."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from atlas.core.messages import User
from atlas.core.phones import PhoneAge, PhonePage, PhoneQuery, PhoneReport, ReportPage


class PhoneBook(Protocol):
    """The phones whose exports the journal has accepted. The intake keeps them up to date."""

    async def list_phones(
        self, query: PhoneQuery, now: datetime, quiet_days: int, user: User | None = None
    ) -> PhonePage:
        """Return a page of phones, those with the latest exports first; or those of a user."""

    async def count_ages(self, now: datetime) -> Sequence[PhoneAge]:
        """Count the phones with an export in the last 30 days, by the age of the latest one."""

    async def store_report(self, user: User, report: PhoneReport, received_at: datetime) -> None:
        """Store a report. The oldest of too many of one user is dropped. Raises JournalFull."""

    async def list_counts(self, after: str, user: User | None = None) -> ReportPage:
        """Return the reports with counts of one user: of this one, or of the one after `after`.

        `after` is `next_user` of the last page, "" for the first user.
        """

    async def prune(self, now: datetime, phones_max: int) -> int:
        """Delete old reports, phones that have been silent for long, and the oldest of too many.

        Deletes a thousand rows of each kind at most, and returns their number.
        """
