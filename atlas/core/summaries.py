"""Summaries of exports: facts about the phone, recorded while the rows are made."""

import re
from datetime import datetime, timedelta
from functools import lru_cache

from msgspec import Struct

from atlas.core.phones import TYPES_MAX, RowSummary
from atlas.core.records import Record

TYPE_CHARACTERS_MAX, VERSION_CHARACTERS_MAX = 128, 32
DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9:.+\- Z]{0,24})?")
LATEST_DATE = "9999"
PHONE_MODELS = "iPhone", "iPad"  # not of a watch or a scale, whose samples the phone has, too


class SummaryBuilder(Struct):
    """A summary of the rows so far.

    `samples` has the latest start date by sample type, as text; it is compared as text, too, which
    orders dates of one form. Dates from `horizon` on are errors of a clock. The loop over
    the rows updates `samples` itself, because a call for each row would take 3 % of its time.
    """

    horizon: str = LATEST_DATE
    samples: dict[str, str] = {}
    source_version: str = ""
    os_version: str = ""

    def add_type(self, type: str, start: str, record: Record) -> None:
        """Record the first row of a type. Versions are looked for only here, for speed."""
        self.samples[type] = start if start < self.horizon else ""
        device = record.device
        if device is not None and (device.model or "").startswith(PHONE_MODELS):
            self.source_version = record.source_version or self.source_version
            self.os_version = device.software_version or self.os_version

    def build(self) -> RowSummary:
        """Build the summary, without long names and without texts that are not dates."""
        samples = {
            type: start
            for type, start in self.samples.items()
            if type and len(type) <= TYPE_CHARACTERS_MAX and DATE.fullmatch(start)
        }
        limit = VERSION_CHARACTERS_MAX
        if len(samples) > TYPES_MAX:
            latest = sorted(samples.items(), key=lambda each: each[1], reverse=True)
            samples = dict(latest[:TYPES_MAX])
        return RowSummary(samples, self.source_version[:limit], self.os_version[:limit])


@lru_cache(16)
def find_horizon(ingested_at: str) -> str:
    """Return the day after the next one: samples of all time zones begin before it."""
    return (datetime.fromisoformat(ingested_at) + timedelta(days=2)).date().isoformat()
