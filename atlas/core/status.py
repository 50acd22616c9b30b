"""The status of the service, as the operator listener sends it and `atlas top` reads it.

Counts are since the start. Times are UTC, as ISO 8601 text.
"""

from collections import deque
from collections.abc import Mapping
from datetime import datetime
from itertools import islice
from typing import Literal, TypeVar

from msgspec import Struct

from atlas.core.events import GroupTrigger
from atlas.core.identifiers import format_timestamp
from atlas.core.messages import Status
from atlas.core.phones import PhoneTotals

T = TypeVar("T")

COMMITS_MAX = 120
HISTORY_STEP_SECONDS = 10.0
HISTORY_MAX = int(3600 / HISTORY_STEP_SECONDS)


class Replica(Struct, frozen=True):
    """A replica of the service. `epoch`: of its lease if it leads, else None.

    `is_this`: it is the one that reports. `clock_skew_seconds`: by which its clock is ahead of the
    database's.
    """

    name: str
    version: str
    seen_at: datetime
    epoch: int | None = None
    is_this: bool = False
    clock_skew_seconds: float = 0.0


class DatabaseState(Struct, frozen=True):
    """The database of a journal that several replicas share, and these replicas.

    `epoch` counts their leaders so far. `are_notifications_delayed`: none arrive at this replica.
    `oldest_transaction_seconds` is the age of the oldest transaction that keeps deleted rows alive,
    0 without one. `replication_lag_bytes` is that of the standby that is farthest behind, None
    without one. A number that our role may not read is None, too.
    """

    epoch: int
    replicas: tuple[Replica, ...] = ()
    are_notifications_delayed: bool = False
    bytes: int | None = None
    dead_rows: int | None = None
    oldest_transaction_seconds: float | None = None
    replication_lag_bytes: int | None = None


class JournalTotals(Struct, frozen=True):
    """The number and size of exports in the journal, by status.

    `oldest` is the time of the export that has waited longest. `free_bytes` is the free space on
    the journal's disk, None in memory. `imbalance` is the number of exports by which the ledger was
    wrong when it was last checked, a minute ago at most. `failed` of the accepted exports have
    failed and are retried apart, the last of them for `failed_reason`. `database` is None if no
    other replica can share the journal.
    """

    exports: Mapping[Status, int]
    bytes: Mapping[Status, int]
    oldest: datetime | None = None
    free_bytes: int | None = None
    imbalance: int = 0
    failed: int = 0
    failed_reason: str | None = None
    database: DatabaseState | None = None

    def oldest_seconds(self, now: datetime) -> float:
        """Return the age of the oldest waiting export; 0 if none waits."""
        return 0.0 if self.oldest is None else max((now - self.oldest).total_seconds(), 0.0)


class AdmissionLoad(Struct, frozen=True):
    """The load of the edge.

    `inside`: exports between the request body and the journal. `waiting`: bodies that wait to be
    read. `bytes`: the weighted size of the bodies in flight.
    """

    inside: int = 0
    waiting: int = 0
    bytes: int = 0


class StreamLag(Struct, frozen=True):
    """The rows that the stream lacks, and the age of the oldest of them.

    `is_paused`: the last attempt to publish failed.
    """

    rows: int = 0
    oldest_seconds: float = 0.0
    is_paused: bool = False


class RuntimeGauges(Struct, frozen=True):
    """Current values that no event carries.

    `totals` is None while the journal does not respond. `queues` has, for each stage, the number of
    waiting messages, and its maximum. `tasks` are those of the event loop. `not_ready` has the
    readiness checks that fail, each with its reason. `stream` is None if this replica publishes to
    no stream.
    """

    totals: JournalTotals | None = None
    queues: Mapping[str, tuple[int, int]] = {}
    is_draining: bool = False
    admission: AdmissionLoad = AdmissionLoad()
    tasks: int = 0
    not_ready: Mapping[str, str] = {}
    stream: StreamLag | None = None


class ServiceVerdict(Struct, frozen=True):
    """The verdict on the whole service, with its reasons as sentences; verdict.py has the rule."""

    state: Literal["ok", "degraded", "down"]
    reasons: tuple[str, ...] = ()


class StageStatus(Struct, frozen=True):
    """A stage; `queue` messages wait for it, of at most `size`."""

    name: str
    handled: int
    queue: int
    size: int
    crashes: int
    seconds: float


class StatusCounts(Struct):
    """Totals since the start. `rejected` counts lines, `rows` committed rows.

    `accepted`, `replayed`, `committed` and `set_aside` count exports.
    """

    requests: int = 0
    refused: int = 0
    accepted: int = 0
    replayed: int = 0
    committed: int = 0
    set_aside: int = 0
    rows: int = 0
    rejected: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    foundry_calls: int = 0
    foundry_retries: int = 0


class JournalStatus(Struct, frozen=True):
    """The journal: exports that wait for Foundry, exports set aside, and the limits.

    `failed` of the waiting exports have failed and are retried apart from the others.
    `database_bytes` is the size of a journal that replicas share, if it is known.
    """

    exports: int
    bytes: int
    oldest_seconds: float
    set_aside: int
    free_bytes: int | None
    bytes_max: int
    exports_max: int
    failed: int = 0
    failed_reason: str | None = None
    database_bytes: int | None = None


class FoundryStatus(Struct, frozen=True):
    """The reason why uploads are paused, if they are, and the time of the last commit."""

    paused_reason: str | None = None
    paused_at: str | None = None
    last_commit_at: str | None = None


class CallStatistics(Struct, frozen=True):
    """Calls of the last five minutes. The percentiles of their durations are None without any."""

    calls: int = 0
    failed: int = 0
    p50_seconds: float | None = None
    p99_seconds: float | None = None


class LatencyStatus(Struct, frozen=True):
    """Calls of phones and to Foundry in the last five minutes.

    `phones`: exports that were accepted, or failed with a 5xx. Their duration lasts from the head
    of the request to the answer, and is that of the accepted ones. `foundry`: all calls; those
    without an answer, and with an error other than 404, have failed.
    """

    phones: CallStatistics = CallStatistics()
    foundry: CallStatistics = CallStatistics()


class RecentCommit(Struct, frozen=True):
    """A committed transaction."""

    at: str
    transaction: str
    exports: int
    rows: int
    bytes: int
    seconds: float
    trigger: GroupTrigger


class HistoryPoint(Struct, frozen=True):
    """The waiting exports at a time, in seconds since 1970."""

    at: int
    exports: int
    oldest_seconds: float


class StatusSnapshot(Struct, frozen=True):
    """The whole status. In a stream, later ones have only new commits and history.

    The journal and its history are those of all `replicas`, everything else is of this one.
    `dataset_url` is the address of the dataset in Foundry's web interface, None for an emulator.
    """

    at: str
    version: str
    started: str
    dataset: str
    branch: str
    is_draining: bool
    verdict: ServiceVerdict
    stages: tuple[StageStatus, ...]
    counts: StatusCounts
    rejects: Mapping[str, int]
    refusals: Mapping[str, int]
    journal: JournalStatus
    foundry: FoundryStatus
    commits: tuple[RecentCommit, ...]
    history: tuple[HistoryPoint, ...]
    replicas: tuple[Replica, ...] = ()
    latency: LatencyStatus = LatencyStatus()
    dataset_url: str | None = None
    phones: PhoneTotals = PhoneTotals()


def build_journal_status(
    totals: JournalTotals, bytes_max: int, exports_max: int, now: datetime
) -> JournalStatus:
    return JournalStatus(
        exports=totals.exports.get("accepted", 0),
        bytes=totals.bytes.get("accepted", 0),
        oldest_seconds=totals.oldest_seconds(now),
        set_aside=totals.exports.get("set_aside", 0),
        free_bytes=totals.free_bytes,
        bytes_max=bytes_max,
        exports_max=exports_max,
        failed=totals.failed,
        failed_reason=totals.failed_reason,
        database_bytes=None if totals.database is None else totals.database.bytes,
    )


def format_optional(at: datetime | None) -> str | None:
    return None if at is None else format_timestamp(at)


def take_last(items: deque[T], count: int) -> tuple[T, ...]:
    """Return the last items, or all that are stored, the oldest first."""
    return tuple(islice(items, max(len(items) - count, 0), None))
