"""Limits what a journal accepts, so that it can always complete what it has accepted."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from atlas.core.errors import JournalFull
from atlas.outside.journal.group_rules import SMALL_BYTES, SMALL_SHARE

MIB = 1024 * 1024
MEASURED_SECONDS = 60.0
RETRY_SECONDS, RETRY_SECONDS_MAX = 5.0, 300.0
RETRY_FREE_SHARE = 100  # a rejected sender retries when a hundredth of the limit is free again


@dataclass(frozen=True, slots=True)
class CapacityLimits:
    """Limits for uncommitted exports: `bytes` before compression, `free_bytes` on the disk."""

    bytes: int = 4096 * MIB
    exports: int = 1_000_000
    free_bytes: int = 256 * MIB


def count_excess(limits: CapacityLimits, exports: int, stored: int, more_bytes: int) -> int | None:
    """Return the bytes by which another export of this size is too large; None if it fits.

    0 if only the number of exports is too large. The last quarter of the journal is reserved for
    small exports: a phone that sends years of data waits first.
    """
    share = 1.0 if more_bytes < SMALL_BYTES else SMALL_SHARE
    excess = max(stored + more_bytes - int(limits.bytes * share), 0)
    return excess if excess or exports >= limits.exports else None


class CommitRate:
    """The bytes committed per second in the last minute."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._committed: deque[tuple[float, int]] = deque()

    def record(self, size: int) -> None:
        """Record that exports of this total size were committed just now."""
        if size:  # or the rate may be zero
            self._committed.append((self._monotonic(), size))
        self._drop_old()

    def measure(self) -> float:
        self._drop_old()
        return sum(size for _, size in self._committed) / MEASURED_SECONDS

    def _drop_old(self) -> None:
        while self._committed and self._monotonic() - self._committed[0][0] > MEASURED_SECONDS:
            self._committed.popleft()


def build_full_error(limits: CapacityLimits, excess: int, rate: float) -> JournalFull:
    """Build the error for a sender. `rate`: bytes committed per second, 0 if unknown."""
    if not rate:
        return JournalFull()
    seconds = max(excess, limits.bytes // RETRY_FREE_SHARE) / rate
    return JournalFull("", min(max(seconds, RETRY_SECONDS), RETRY_SECONDS_MAX))
