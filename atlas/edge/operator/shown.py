"""What is in the picture: its JSON, as types. Counts are since the start; times are UTC."""

from collections.abc import Mapping
from dataclasses import dataclass

from msgspec import Struct

from atlas.core.events import Because


@dataclass(frozen=True, slots=True)
class About:
    """What does not change while we run. The bounds are the journal's."""

    version: str
    dataset: str
    branch: str
    bytes_max: int
    exports_max: int


class Worked(Struct):
    """What a stage has done: so many messages, so many crashes, so many seconds in all."""

    handled: int = 0
    crashes: int = 0
    seconds: float = 0.0


class Stage(Struct, frozen=True):
    """A stage, and what waits before it: so many of at most so many."""

    name: str
    handled: int
    queue: int
    size: int
    crashes: int
    seconds: float


class Counts(Struct):
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


class Waiting(Struct, frozen=True):
    """The journal: what waits for Foundry, what was set aside, and what there is room for."""

    exports: int
    bytes: int
    oldest_seconds: float
    set_aside: int
    free_bytes: int | None
    bytes_max: int
    exports_max: int


class Foundry(Struct):
    """Why we hold off, if we do, and when something was committed last."""

    paused_reason: str | None = None
    paused_at: str | None = None
    last_commit_at: str | None = None


class Commit(Struct, frozen=True):
    """A transaction."""

    at: str
    transaction: str
    exports: int
    rows: int
    bytes: int
    seconds: float
    because: Because


class Moment(Struct, frozen=True):
    """How much waited at a moment, in seconds since 1970."""

    at: int
    exports: int
    oldest_seconds: float


class Shown(Struct, frozen=True):
    """The picture, as JSON."""

    at: str
    version: str
    started: str
    dataset: str
    branch: str
    is_draining: bool
    stages: tuple[Stage, ...]
    counts: Counts
    rejects: Mapping[str, int]
    refusals: Mapping[str, int]
    journal: Waiting
    foundry: Foundry
    commits: tuple[Commit, ...]
    history: tuple[Moment, ...]


class Since(Struct, frozen=True):
    """How many commits and moments somebody has been shown already."""

    commits: int = 0
    moments: int = 0
