"""Results of inspecting each system, in the order of the flow."""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

from msgspec import Struct

from atlas.core.messages import JournalEntry
from atlas.core.phones import PhoneAge
from atlas.core.status import Replica
from atlas.core.stream import StreamBacklog

CLOCK_SKEW_SECONDS_MAX = 30.0  # between a replica and the database
COUNTED_EXPORTS_MAX = 100_000  # so that an inspection of a large journal delays no export


class IssuerKeys(Struct, frozen=True):
    """The keys of an issuer: those that can verify tokens for Atlas, and all others."""

    usable: int
    others: int
    seconds: float


class TokenClaim(Struct, frozen=True):
    """One claim of a token, and the verdict of Atlas on it; the sub is shown as a keyed hash."""

    name: str
    value: str
    verdict: Literal["good", "bad", "unknown"]
    reason: str = ""
    to_do: str = ""


class ServiceHealth(Struct, frozen=True):
    """The health of Atlas at a URL. Each check has the reason why it fails, or None."""

    version: str
    seconds: float
    checks: Mapping[str, str | None]


class Certificate(Struct, frozen=True):
    """The TLS certificate of a URL."""

    names: tuple[str, ...]
    expires: datetime


class BlockedBody(Struct, frozen=True):
    """A body of this size that did not reach Atlas, and the server that answered instead."""

    bytes: int
    status: int | None
    server: str


class ExportTotals(Struct, frozen=True):
    """A number of exports, and their size before compression."""

    exports: int
    bytes: int


class DatabaseHealth(Struct, frozen=True, kw_only=True):
    """The condition of the database of a journal that replicas share, and of these replicas.

    `defect` is a setting that could lose exports, "" if there is none. `standbys` are the
    synchronous ones. `connections` is the number that our role may open, None if a pooler decides
    it; a replica needs `connections_of_replica`. `clock_skew_seconds`: by which our clock is ahead.
    `is_led`: a replica holds the lease. `are_notifications_delayed`: a notification did not arrive.
    """

    version: int
    defect: str
    standbys: str
    has_checksums: bool
    connections: int | None
    connections_of_replica: int
    clock_skew_seconds: float
    oldest_transaction_seconds: float | None
    are_notifications_delayed: bool
    is_led: bool
    replicas: tuple[Replica, ...]


class CommittedRows(Struct, frozen=True):
    """The newest committed exports of a journal, and `oldest`, the first of their transactions."""

    exports: int = 0
    rows: int = 0
    oldest: str = ""


class JournalHealth(Struct, frozen=True, kw_only=True):
    """The condition of a journal.

    `path` may be "memory". `waiting` and `set_aside` are the recorded totals, `actual` the counted
    ones of both; `capacity` is the configured maximum. `set_aside_reasons` counts set-aside exports
    by reason, `failed` the waiting ones that have failed and are retried separately; a reason has
    the instance id of its newest export. `open_transactions` are recorded as open; `attempts` is
    the number of attempts to begin one that have no answer. `last` is the last committed export,
    `committed` the newest ones. `damaged_copies` are the names of copies made when the journal was
    damaged. `database` is None if no replicas can share the journal. `unpublished` are the rows
    that the stream lacks. `phones` counts those of the last 30 days by age.
    """

    path: str
    bytes: int
    waiting: ExportTotals
    set_aside: ExportTotals
    actual: tuple[ExportTotals, ExportTotals]
    capacity: ExportTotals
    disk_free: int | None
    disk_free_min: int
    oldest: datetime | None
    set_aside_reasons: Mapping[str, int]
    failed: Mapping[str, int] = {}
    open_transactions: tuple[str, ...]
    attempts: int
    last: JournalEntry | None
    committed: CommittedRows = CommittedRows()
    damaged_copies: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    database: DatabaseHealth | None = None
    unpublished: StreamBacklog = StreamBacklog()
    phones: tuple[PhoneAge, ...] = ()

    @property
    def failed_exports(self) -> int:
        return sum(self.failed.values())


class TransactionInfo(Struct, frozen=True):
    rid: str
    kind: str
    status: Literal["OPEN", "COMMITTED", "ABORTED"]
    created: datetime
    closed: datetime | None = None

    @property
    def last_at(self) -> datetime:
        """The time at which it was closed, or created if it is open."""
        return self.created if self.closed is None else self.closed


SchemaReader = Literal["ndjson", "parquet", "other", "unknown"]


class StreamInfo(Struct, frozen=True):
    """A Foundry stream: the type of each column, the columns of its key, and its present view.

    The view is another one after each reset.
    """

    columns: Mapping[str, str]
    key: tuple[str, ...]
    view: str


class RowCount(Struct, frozen=True):
    """A number of rows, and the way in which Foundry counted them."""

    rows: int
    way: str
    is_minimum: bool = False


class ViewRequest(Struct, frozen=True):
    """A View to be created in a folder, over a branch of a dataset."""

    name: str
    folder_rid: str
    branch: str
    dataset_rid: str
    dataset_branch: str
