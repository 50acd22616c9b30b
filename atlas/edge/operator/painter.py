"""Paints the service at a glance: what it has done since its start, and how it stands.

A reader of events, as the log is. `atlas/core/picture.py` says what is in the picture.
"""

from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, NamedTuple, TypeVar

from atlas.core import events, names
from atlas.core.events import Event, Watch
from atlas.core.pause import Outcome, Pause
from atlas.core.picture import (
    COMMITS_KEPT,
    MOMENTS_KEPT,
    Commit,
    Counts,
    Depth,
    Foundry,
    Moment,
    Picture,
    Sight,
    Stage,
    Waiting,
)
from atlas.core.ports import Clock

STAGES = "authenticate", "decode", "flatten", "journal", "upload"
NOTHING = Depth({}, {})

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class About:
    """What does not change while we run. The bounds are the journal's."""

    version: str
    dataset: str
    branch: str
    bytes_max: int
    exports_max: int


@dataclass(slots=True)
class Worked:
    """What a stage has done: so many messages, so many crashes, so many seconds in all."""

    handled: int = 0
    crashes: int = 0
    seconds: float = 0.0


class Since(NamedTuple):
    """How many commits and moments somebody has been shown already."""

    commits: int = 0
    moments: int = 0


EVERYTHING = Since()


class Painter:
    """`now` is asked when something is worth a time, and whenever it is shown."""

    def __init__(self, about: About, now: Clock) -> None:
        self._about = about
        self._now = now
        self._started = names.timestamp(now())
        self._counts = Counts()
        self._stages = {name: Worked() for name in STAGES}
        self._rejects: Counter[str] = Counter()
        self._refusals: Counter[str] = Counter()
        self._pause = Pause()
        self._commits: deque[Commit] = deque(maxlen=COMMITS_KEPT)
        self._moments: deque[Moment] = deque(maxlen=MOMENTS_KEPT)
        self._depth = NOTHING
        self.told = Since()
        self._paints: Mapping[type[Event], Callable[[Any], None]] = {
            events.RequestAnswered: self._answered,
            events.RequestRead: self._read,
            events.RequestRefused: self._refused,
            events.RequestsShed: self._shed,
            events.StageWorked: self._worked,
            events.ActorCrashed: self._crashed,
            events.LinesRejected: self._rejected,
            events.ExportAccepted: self._accepted,
            events.ExportReplayed: self._replayed,
            events.ExportQuarantined: self._set_aside,
            events.ExportSetAside: self._given_up,
            events.ExportCommitted: self._committed,
            events.GroupCommitted: self._group,
            events.GroupRecovered: self._went,
            events.UploadPaused: self._went,
            events.FoundryCalled: self._called,
        }

    def reader(self, kind: type[Event]) -> Watch | None:
        """The counter of events of this kind, if there is one."""
        return self._paints.get(kind)

    def watch(self, event: Event) -> None:
        read = self.reader(type(event))
        if read is not None:
            read(event)

    def remember(self, depth: Depth) -> None:
        """How much waits just now, as one moment of the history."""
        at, journal = self._now(), self._waiting(depth)
        moment = Moment(int(at.timestamp()), journal.exports, journal.oldest_seconds)
        self._moments.append(moment)
        self.told = Since(self.told.commits, self.told.moments + 1)

    def picture(self, sight: Sight, since: Since = EVERYTHING) -> Picture:
        """The picture; of commits and history only what came since.

        A journal that does not answer stands as it was when it did.
        """
        if sight.depth is not None:
            self._depth = sight.depth
        journal = self._waiting(self._depth)
        return Picture(
            at=names.timestamp(self._now()),
            version=self._about.version,
            started=self._started,
            dataset=self._about.dataset,
            branch=self._about.branch,
            is_draining=sight.is_draining,
            stages=self._in_order(sight, journal.exports),
            counts=self._counts,
            rejects=self._rejects,
            refusals=self._refusals,
            journal=journal,
            foundry=Foundry(
                paused_reason=self._pause.reason,
                paused_at=stamp(self._pause.since),
                last_commit_at=stamp(self._pause.last_commit),
            ),
            commits=newest(self._commits, self.told.commits - since.commits),
            history=newest(self._moments, self.told.moments - since.moments),
        )

    def _in_order(self, sight: Sight, waiting: int) -> tuple[Stage, ...]:
        queues = {**sight.queues, "upload": (waiting, self._about.exports_max)}
        return tuple(
            Stage(name, done.handled, *queues.get(name, (0, 0)), done.crashes, done.seconds)
            for name, done in self._stages.items()
        )

    def _waiting(self, depth: Depth) -> Waiting:
        return Waiting(
            exports=depth.exports.get("accepted", 0),
            bytes=depth.bytes.get("accepted", 0),
            oldest_seconds=depth.oldest_seconds(self._now()),
            set_aside=depth.exports.get("set_aside", 0),
            free_bytes=depth.free_bytes,
            bytes_max=self._about.bytes_max,
            exports_max=self._about.exports_max,
            failed=depth.failed,
            failed_reason=depth.failed_reason,
        )

    def _answered(self, _event: events.RequestAnswered) -> None:
        self._counts.requests += 1

    def _read(self, event: events.RequestRead) -> None:
        self._counts.bytes_in += event.bytes

    def refusals(self) -> Counter[str]:
        """By their code, since the start."""
        return self._refusals

    def _refused(self, event: events.RequestRefused) -> None:
        self._counts.refused += 1
        self._refusals[event.code] += 1

    def _shed(self, event: events.RequestsShed) -> None:
        self._counts.requests += event.requests
        self._counts.refused += event.requests
        self._refusals[event.code] += event.requests

    def _worked(self, event: events.StageWorked) -> None:
        if (stage := self._stages.get(event.stage)) is not None:
            stage.handled += 1
            stage.seconds += event.seconds

    def _crashed(self, event: events.ActorCrashed) -> None:
        if (stage := self._stages.get(event.stage)) is not None:
            stage.crashes += 1

    def _rejected(self, event: events.LinesRejected | events.ExportAccepted) -> None:
        for reason, lines in event.reasons.items():
            self._counts.rejected += lines
            self._rejects[reason] += lines

    def _accepted(self, event: events.ExportAccepted) -> None:
        self._counts.accepted += 1
        self._rejected(event)

    def _replayed(self, _event: events.ExportReplayed) -> None:
        self._counts.replayed += 1

    def _set_aside(self, _event: events.ExportQuarantined) -> None:
        self._counts.set_aside += 1

    def _given_up(self, event: events.ExportSetAside) -> None:
        self._counts.set_aside += 1
        self._went(event)

    def _committed(self, event: events.ExportCommitted) -> None:
        self._counts.committed += 1
        self._counts.rows += event.records
        self._counts.bytes_out += event.bytes
        self._stages["upload"].handled += 1

    def _group(self, event: events.GroupCommitted) -> None:
        at = self._now()
        size, seconds = (event.exports, event.rows, event.bytes), event.seconds
        self._commits.append(
            Commit(names.timestamp(at), event.transaction, *size, seconds, event.because)
        )
        self.told = Since(self.told.commits + 1, self.told.moments)
        self._stages["upload"].seconds += seconds
        self._pause.watch(event, at)

    def _went(self, event: Outcome) -> None:
        self._pause.watch(event, self._now())

    def _called(self, event: events.FoundryCalled) -> None:
        self._counts.foundry_calls += 1
        self._counts.foundry_retries += event.is_retry


def stamp(at: datetime | None) -> str | None:
    return None if at is None else names.timestamp(at)


def newest(kept: deque[T], count: int) -> tuple[T, ...]:
    """As many of them, or all that are kept, the oldest first."""
    return tuple(islice(kept, max(len(kept) - count, 0), None))
