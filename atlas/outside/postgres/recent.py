"""Exports that this replica accepted lately, in case a failover of the database loses them.

A standby that is replicated asynchronously lacks the last commits when it takes over. So a replica
holds what it accepted in the last minute, encrypted, and stores it again after a failover. Such an
export is doubtful: its rows may have been committed to the dataset before the failover.
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
    """The exports of the last `seconds`, `bytes_max` at most; 0 seconds holds none."""

    def __init__(
        self, seconds: float, monotonic: Callable[[], float], bytes_max: int = BYTES_MAX
    ) -> None:
        self._seconds = seconds
        self._monotonic = monotonic
        self._bytes_max = bytes_max
        self._bytes = 0
        self._exports: deque[tuple[float, RecentExport]] = deque()

    def add(self, exports: Sequence[RecentExport]) -> None:
        now = self._monotonic()
        for each in exports:
            self._exports.append((now, each))
            self._bytes += each.memory
        self._drop_old()

    def forget_sender(self, sender: str) -> None:
        """Forget the exports of an erased person. `sender` is the keyed hash."""
        self._exports = deque(each for each in self._exports if each[1].sender != sender)
        self._bytes = sum(each.memory for _, each in self._exports)

    def list(self) -> list[RecentExport]:
        """Return the exports, oldest first."""
        self._drop_old()
        return [each for _, each in self._exports]

    def _drop_old(self) -> None:
        oldest = self._monotonic() - self._seconds
        while self._exports and (self._exports[0][0] <= oldest or self._bytes > self._bytes_max):
            self._bytes -= self._exports.popleft()[1].memory
