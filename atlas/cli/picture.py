"""What a running service tells of itself each second, as a terminal keeps it.

The operator listener sends all of it first, and then of commits and history only what is new.
"""

from collections.abc import Mapping
from datetime import datetime

import msgspec
from msgspec import Struct

RATE_SECONDS = 5.0
COMMITS_KEPT, MOMENTS_KEPT = 100, 360

Samples = list[tuple[datetime, Mapping[str, int]]]


class Stage(Struct, frozen=True):
    name: str
    handled: int
    queue: int
    size: int
    crashes: int


class Counts(Struct, frozen=True):
    requests: int
    refused: int
    accepted: int
    committed: int
    set_aside: int
    rows: int
    rejected: int
    foundry_calls: int
    foundry_retries: int


class Journal(Struct, frozen=True):
    exports: int
    bytes: int
    oldest_seconds: float | None
    set_aside: int
    free_bytes: int | None
    bytes_max: int
    exports_max: int


class Foundry(Struct, frozen=True):
    paused_reason: str | None = None
    last_commit_at: str | None = None


class Commit(Struct, frozen=True):
    at: datetime
    transaction: str
    exports: int
    rows: int
    bytes: int
    seconds: float
    because: str


class Moment(Struct, frozen=True):
    """How many exports waited; `at` is in seconds since 1970."""

    at: float
    exports: int


class Picture(Struct, frozen=True):
    at: datetime
    version: str
    started: datetime
    dataset: str
    branch: str
    is_draining: bool
    stages: tuple[Stage, ...]
    counts: Counts
    rejects: Mapping[str, int]
    refusals: Mapping[str, int]
    journal: Journal
    foundry: Foundry
    commits: tuple[Commit, ...]
    history: tuple[Moment, ...]

    def handled(self) -> Mapping[str, int]:
        """By everyone who stands in the flow."""
        ends = {"edge": self.counts.requests, "Foundry": self.counts.foundry_calls}
        return {stage.name: stage.handled for stage in self.stages} | ends

    def grown_from(self, before: "Picture") -> "Picture":
        """With what was told before of that which is told only once."""
        return msgspec.structs.replace(
            self,
            commits=(*before.commits, *self.commits)[-COMMITS_KEPT:],
            history=(*before.history, *self.history)[-MOMENTS_KEPT:],
        )


class Rates:
    """How many a second, over the last five; of a first picture, since the start."""

    def __init__(self, first: Picture) -> None:
        self._samples: Samples = [(first.started, dict.fromkeys(first.handled(), 0))]
        self.add(first)

    def add(self, picture: Picture) -> None:
        self._samples.append((picture.at, picture.handled()))
        while (
            len(self._samples) > 2
            and (picture.at - self._samples[0][0]).total_seconds() > RATE_SECONDS
        ):
            del self._samples[0]

    def of(self, name: str) -> float:
        (began, before), (ended, now) = self._samples[0], self._samples[-1]
        seconds = (ended - began).total_seconds()
        return max(0, now[name] - before[name]) / seconds if seconds > 0 else 0.0
