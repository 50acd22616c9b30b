"""The status of the service, as the operator listener sends it and `atlas top` reads it.

Counts are since the start. Times are UTC, as ISO 8601 text.
"""

from collections.abc import Mapping
from datetime import datetime

from msgspec import Struct

from atlas.core.events import GroupTrigger
from atlas.core.messages import Status

COMMITS_MAX = 120
HISTORY_STEP_SECONDS = 10.0
HISTORY_MAX = int(3600 / HISTORY_STEP_SECONDS)


class JournalTotals(Struct, frozen=True):
    """The number and size of exports in the journal, by status.

    `oldest` is the time of the export that has waited longest. `free_bytes` is the free space on
    the journal's disk, None in memory. `imbalance` is the number of exports by which the ledger was
    wrong when it was last checked, a minute ago at most. `failed` of the accepted exports have
    failed and are retried apart, the last of them for `failed_reason`.
    """

    exports: Mapping[Status, int]
    bytes: Mapping[Status, int]
    oldest: datetime | None = None
    free_bytes: int | None = None
    imbalance: int = 0
    failed: int = 0
    failed_reason: str | None = None

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


class RuntimeGauges(Struct, frozen=True):
    """Current values that no event carries.

    `totals` is None while the journal does not respond. `queues` has, for each stage, the number of
    waiting messages, and its maximum. `tasks` are those of the event loop.
    """

    totals: JournalTotals | None = None
    queues: Mapping[str, tuple[int, int]] = {}
    is_draining: bool = False
    admission: AdmissionLoad = AdmissionLoad()
    tasks: int = 0


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


class FoundryStatus(Struct, frozen=True):
    """The reason why uploads are paused, if they are, and the time of the last commit."""

    paused_reason: str | None = None
    paused_at: str | None = None
    last_commit_at: str | None = None


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
    """The whole status. In a stream, later ones have only new commits and history."""

    at: str
    version: str
    started: str
    dataset: str
    branch: str
    is_draining: bool
    stages: tuple[StageStatus, ...]
    counts: StatusCounts
    rejects: Mapping[str, int]
    refusals: Mapping[str, int]
    journal: JournalStatus
    foundry: FoundryStatus
    commits: tuple[RecentCommit, ...]
    history: tuple[HistoryPoint, ...]
