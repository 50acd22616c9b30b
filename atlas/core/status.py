"""The service at a glance, as the operator listener tells it and `atlas top` reads it.

Counts are since the start. Times are UTC, as text of ISO 8601.
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
    """How much stands in the journal, by status; what has waited longest came at `oldest`.

    `free_bytes` are those of its disk; in memory it has none. `imbalance` is by how many exports
    the ledger was wrong when it was last looked at, a minute ago at most. `failed` of the accepted
    exports have failed and are tried apart, the last of them for `failed_reason`.
    """

    exports: Mapping[Status, int]
    bytes: Mapping[Status, int]
    oldest: datetime | None = None
    free_bytes: int | None = None
    imbalance: int = 0
    failed: int = 0
    failed_reason: str | None = None

    def oldest_seconds(self, now: datetime) -> float:
        """How long the export has waited that has waited for longest; 0 if none waits."""
        return 0.0 if self.oldest is None else max((now - self.oldest).total_seconds(), 0.0)


class AdmissionLoad(Struct, frozen=True):
    """How full the edge is: `inside` exports between body and journal, `waiting` bodies that are
    not read yet, and the `bytes` that those in flight weigh.
    """

    inside: int = 0
    waiting: int = 0
    bytes: int = 0


class RuntimeGauges(Struct, frozen=True):
    """What no event tells: how full everything is just now.

    `depth` is None while the journal does not answer. `queues` are, by stage, how many messages
    wait before it, and how many can; `tasks` are those of the event loop.
    """

    depth: JournalTotals | None = None
    queues: Mapping[str, tuple[int, int]] = {}
    is_draining: bool = False
    press: AdmissionLoad = AdmissionLoad()
    tasks: int = 0


class StageStatus(Struct, frozen=True):
    """A stage, and what waits before it: so many of at most so many."""

    name: str
    handled: int
    queue: int
    size: int
    crashes: int
    seconds: float


class StatusCounts(Struct):
    """`rows` are committed ones; `rejected` are lines, everything before that exports."""

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
    """The journal: what waits for Foundry, what was set aside, and what there is room for.

    `failed` of the exports that wait have failed and are tried apart from the others.
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
    """Why we hold off, if we do, and when something was committed last."""

    paused_reason: str | None = None
    paused_at: str | None = None
    last_commit_at: str | None = None


class RecentCommit(Struct, frozen=True):
    """A transaction."""

    at: str
    transaction: str
    exports: int
    rows: int
    bytes: int
    seconds: float
    trigger: GroupTrigger


class HistoryPoint(Struct, frozen=True):
    """How much waited at a moment, in seconds since 1970."""

    at: int
    exports: int
    oldest_seconds: float


class StatusSnapshot(Struct, frozen=True):
    """All of it; after the first of a stream, of commits and history only what is new."""

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
