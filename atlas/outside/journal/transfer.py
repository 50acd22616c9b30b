"""The content of a journal in the form in which it is checked, and moved to another engine.

Encrypted parts are moved as they are: the columns that they are bound to do not change, and the
time of acceptance is spelled in the same way.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol, get_args

from msgspec import Struct

from atlas.outside.journal.row_codec import ExportRow

Table = Literal[
    "export",
    "payload",
    "unpublished",
    "unpublished_payload",
    "binding",
    "digest",
    "phone",
    "report",
]
TABLES: tuple[Table, ...] = get_args(Table)
CLAIMED, ACCEPTED = "claimed", "accepted"
SECRETS_MOVED = ("destination", "horizon")
SHARED_PREFIX = "shared "  # records of shared files that hold rows of erased people

Row = tuple[object, ...]
Counts = tuple[int, int]  # exports and bytes


class MovedExport(NamedTuple):
    """A row of the ledger. The status of an export in the uploader's hand is `claimed`."""

    number: int
    id: str
    user: str
    at: str
    ingested: int
    rejected: int
    size: int
    moment: int
    label: bytes
    tries: int
    status: str
    since: int | None
    reason: str | None
    rid: str | None
    file: str | None
    file_bytes: int | None
    isolation: int
    turn: int

    def build_row(self) -> ExportRow:
        return ExportRow(*self[1:7], self.label, "accepted", None)


class MovedIntent(NamedTuple):
    """An attempt to begin a transaction."""

    kind: str
    head: str
    at: str


class WorkInHandRecord(NamedTuple):
    """The records that are not in one of the tables: secrets, intents, the open transaction."""

    secrets: Mapping[str, bytes]
    intents: Sequence[MovedIntent]
    transaction: str | None


class JournalContents(Struct, frozen=True):
    """Counts by which two journals are compared. `totals` and `exports` are by status.

    `totals` are those that the journal keeps, `exports` are counted; claimed exports count as
    accepted. `unpublished` counts the exports that the stream lacks, and the payloads kept for it.
    """

    newest: int
    exports: Mapping[str, Counts]
    totals: Mapping[str, Counts]
    claimed: int
    payloads: Counts
    unpublished: Counts
    bindings: int
    digests: int
    phones: int = 0
    reports: int = 0

    @property
    def rows(self) -> int:
        exports = sum(count for count, _ in self.exports.values())
        others = self.bindings + self.digests + self.phones + self.reports
        return exports + self.payloads[0] + sum(self.unpublished) + others


class JournalTables(Protocol):
    """The tables of a journal, read as of one moment."""

    shown: str
    data_key: bytes

    async def count(self) -> JournalContents:
        """Count everything."""

    def read(self, table: Table) -> AsyncIterator[Row]:
        """Yield all rows of a table; of `export`, MovedExport in the order of acceptance."""

    async def read_rest(self) -> WorkInHandRecord:
        """Return everything that is not in one of the tables."""

    async def sample(self, limit: int) -> Sequence[tuple[MovedExport, bytes | None]]:
        """Return random exports with their payloads, and as many of those that have one."""

    async def find(self, numbers: Sequence[int]) -> Sequence[tuple[MovedExport, bytes | None]]:
        """Return the exports of these numbers with their payloads, in order."""

    def read_waiting(self) -> AsyncIterator[tuple[MovedExport, bytes | None]]:
        """Yield the exports whose payloads are still needed, with their payloads."""

    async def count_orphans(self) -> int:
        """Count payloads without an export, and those of exports that need none any more."""


class MoveSource(JournalTables, Protocol):
    """A journal that no other process can write."""

    async def retire(self, target: str) -> str:
        """Make the journal unusable, because it was moved. Return the place of its remains."""


class MoveTarget(JournalTables, Protocol):
    """A journal that is filled; nothing of it is visible until `commit`."""

    is_new: bool

    async def write(self, table: Table, rows: Sequence[Row]) -> None:
        """Add rows, as `read` yields them."""

    async def write_rest(self, rest: WorkInHandRecord) -> None:
        """Add everything that is not in one of the tables, after those."""

    async def commit(self) -> None:
        """Make the journal durable and visible."""


def fold_claimed(counts: Mapping[str, Counts]) -> dict[str, Counts]:
    """Count claimed exports as accepted, and leave out what is zero."""
    folded = dict(counts)
    exports, size = folded.pop(CLAIMED, (0, 0))
    waiting, waiting_bytes = folded.get(ACCEPTED, (0, 0))
    folded[ACCEPTED] = waiting + exports, waiting_bytes + size
    return {status: count for status, count in folded.items() if any(count)}


def is_secret_moved(name: str) -> bool:
    """True if this record belongs to the content; the copies of the data key do not."""
    return name in SECRETS_MOVED or name.startswith(SHARED_PREFIX)
