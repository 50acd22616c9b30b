"""What becomes of an export on its way to the journal, and of the stages that it passes."""

import traceback
from collections.abc import Mapping

from atlas.core.events.event import Event
from atlas.core.traces import Trace


class StageCompleted(Event, frozen=True):
    """A stage has handled a message, be it with an error for an answer."""

    stage: str
    seconds: float
    trace: Trace | None = None


class LinesRejected(Event, frozen=True):
    """No line of an export is good: how many are bad, by the reason. Nothing of it is kept."""

    correlation_id: str
    reasons: Mapping[str, int]


class ExportAccepted(Event, frozen=True):
    """An export is safe with us for the first time; `reasons` are why so many were rejected."""

    id: str
    correlation_id: str
    user: str
    records: int
    rejected: int
    bytes: int
    reasons: Mapping[str, int] = {}


class ExportReplayed(Event, frozen=True):
    """An export came again, and joined the first: nothing new was kept."""

    id: str
    correlation_id: str
    user: str


class ExportQuarantined(Event, frozen=True):
    """An export has crashed a stage: it is kept as it came, and no twin of it gets there again."""

    id: str
    correlation_id: str
    user: str


class StageCrashed(Event, frozen=True):
    """A stage, or the edge, met a bug. `where` names its code, innermost last, without values."""

    stage: str
    error: str
    where: tuple[str, ...]


def build_crash_event(stage: str, error: Exception) -> StageCrashed:
    """Build the event of a crash: where it was, without values, which may be health data."""
    frames = traceback.extract_tb(error.__traceback__)
    where = tuple(f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames)
    return StageCrashed(stage, type(error).__name__, where)


class ParquetPerExport(Event, frozen=True):
    """Parquet saves much where many rows stand together, and little in a file for each export."""


class ServiceStarted(Event, frozen=True):
    """The service accepts exports from now on, for this dataset and branch."""

    version: str
    dataset: str
    branch: str


class DrainStarted(Event, frozen=True):
    """We were told to end."""


class DrainEnded(Event, frozen=True):
    """The flow is empty; this many exports wait in the journal for the next start."""

    waiting: int
