"""Events of the service, its stages, and exports on their way to the journal."""

import traceback
from collections.abc import Mapping

from atlas.core.events.event import Event
from atlas.core.traces import Trace


class StageCompleted(Event, frozen=True):
    """A stage has handled a message, with a result or with an error."""

    stage: str
    seconds: float
    trace: Trace | None = None


class LinesRejected(Event, frozen=True):
    """An export has no valid line, and none of it is stored. `reasons` counts lines by reason."""

    correlation_id: str
    reasons: Mapping[str, int]


class ExportAccepted(Event, frozen=True):
    """An export is stored for the first time. `reasons` counts its rejected lines by reason."""

    id: str
    correlation_id: str
    user: str
    records: int
    rejected: int
    bytes: int
    reasons: Mapping[str, int] = {}


class ExportReplayed(Event, frozen=True):
    """An export was sent again. It joined the first one, and nothing new was stored."""

    id: str
    correlation_id: str
    user: str


class ExportQuarantined(Event, frozen=True):
    """An export crashed a stage. It is stored unchanged, and identical exports skip the stages."""

    id: str
    correlation_id: str
    user: str


class StageCrashed(Event, frozen=True):
    """A stage or the edge raised an unexpected exception.

    `where` lists the lines of code that it passed, innermost last, without values.
    """

    stage: str
    error: str
    where: tuple[str, ...]


def build_crash_event(stage: str, error: Exception) -> StageCrashed:
    """Build the event of a crash. It omits all values, because they may be health data."""
    frames = traceback.extract_tb(error.__traceback__)
    where = tuple(f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames)
    return StageCrashed(stage, type(error).__name__, where)


class ParquetPerExport(Event, frozen=True):
    """Parquet is configured with one file for each export, which saves little space."""


class ServiceStarted(Event, frozen=True):
    """The service accepts exports from now on, for this dataset and branch.

    `journal` is its kind: sqlite, postgresql or memory. `waiting` exports are in it, None if it
    does not answer. `settings` differ from the defaults, and contain no secret. `replica` is the
    name of this one of several, else "".
    """

    version: str
    python: str
    dataset: str
    branch: str
    journal: str
    file_format: str
    file_layout: str
    waiting: int | None
    settings: tuple[str, ...] = ()
    replica: str = ""


class ListenersOpened(Event, frozen=True):
    """The public listener and the operator listener accept connections at these URLs."""

    url: str
    operator_url: str


class ReadinessDelayed(Event, frozen=True):
    """The service has started, but accepts no exports yet, for this reason."""

    reason: str


class DrainStarted(Event, frozen=True):
    """The service was asked to shut down."""


class DrainEnded(Event, frozen=True):
    """The flow is empty; `waiting` exports remain in the journal, None if it does not answer."""

    waiting: int | None
