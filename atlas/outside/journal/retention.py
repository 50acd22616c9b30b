"""Retention of receipts and digests.

An expired receipt is reduced to its id, the digest, by which a repeated export is still recognized
until that expires as well. Each commit reduces and deletes a few of the oldest, so that no
operation ever waits for many.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

PRUNE_MAX = 200
DAYS_MIN = 8  # a phone that was offline for a week still gets its receipt
DAY_SECONDS = 86_400
NEIGHBOUR_DAYS = 31  # the days of the exports of a transaction differ by less


@dataclass(frozen=True, slots=True)
class ReceiptRetention:
    """Receipts of committed exports are kept for `days`, and at most `exports_max` of them.

    Their digests are kept until the export was accepted `digests_days` ago; 0 keeps them for ever.
    """

    clock: Callable[[], datetime]
    days: int = 30
    exports_max: int = 2_000_000
    digests_days: int = 730


def count_days(at: datetime) -> int:
    """Return the days since 1970-01-01."""
    return int(at.timestamp()) // DAY_SECONDS
