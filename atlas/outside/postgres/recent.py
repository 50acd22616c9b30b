"""Exports that this replica accepted lately, in case a failover of the database loses them.

A standby that is replicated asynchronously lacks the last commits when it takes over. So a replica
holds what it accepted in the last minute in which it reached the database, encrypted, and stores it
again after a failover. Such an export is doubtful: its rows may have been committed to the dataset
before the failover.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from atlas.outside.journal.bindings import Binding
from atlas.outside.postgres.sealing import SealedColumns

BYTES_MAX = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class RecentExport:
    """The columns of an accepted export, and the keys that name it."""

    columns: SealedColumns
    bindings: Sequence[Binding] = ()

    @property
    def id(self) -> str:
        return self.columns.id

    @property
    def sender(self) -> str:
        return self.columns.sender

    @property
    def size(self) -> int:
        """The size of its rows before compression."""
        return self.columns.bytes

    @property
    def memory(self) -> int:
        return len(self.columns.sealed) + len(self.columns.label)


class RecentExports:
    """The exports of the last `seconds`, `bytes_max` at most; 0 seconds holds none.

    The age of an export is measured at the last contact with the primary, not now: while the
    database is away, however long, none grows too old to be stored again.
    """

    def __init__(
        self, seconds: float, monotonic: Callable[[], float], bytes_max: int = BYTES_MAX
    ) -> None:
        self._seconds = seconds
        self._monotonic = monotonic
        self._bytes_max = bytes_max
        self._bytes = 0
        self._exports: deque[tuple[float, RecentExport]] = deque()
        self._is_held = False

    def add(self, exports: Sequence[RecentExport]) -> None:
        """Add exports that the primary has just stored."""
        now = self._monotonic()
        for each in exports:
            self._exports.append((now, each))
            self._bytes += each.memory
        self.confirm()

    def confirm(self) -> None:
        """Forget what is too old now: the primary has just answered, and is still the same."""
        oldest = self._monotonic() - self._seconds
        while self._exports and (
            self._bytes > self._bytes_max or (not self._is_held and self._exports[0][0] <= oldest)
        ):
            self._bytes -= self._exports.popleft()[1].memory

    def hold(self) -> None:
        """Let no export grow too old until `release`: a failover may have lost any of them."""
        self._is_held = True

    def release(self) -> None:
        """Let exports grow old again, from now on: all are stored once more."""
        now, self._is_held = self._monotonic(), False
        self._exports = deque((now, each) for _, each in self._exports)
        self.confirm()

    def forget_sender(self, sender: str) -> None:
        """Forget the exports of an erased person. `sender` is the keyed hash."""
        self._exports = deque(each for each in self._exports if each[1].sender != sender)
        self._bytes = sum(each.memory for _, each in self._exports)

    def list(self) -> list[RecentExport]:
        """Return the exports, oldest first."""
        return [each for _, each in self._exports]
