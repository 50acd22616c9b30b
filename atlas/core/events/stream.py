"""Events of the stream beside the dataset."""

from typing import Literal

from atlas.core.events.event import Event

SkipReason = Literal["refused", "unreadable"]


class RowsPublished(Event, frozen=True):
    """The rows of these exports are in the stream. `delays` are the seconds since acceptance."""

    exports: int
    rows: int
    delays: tuple[float, ...] = ()


class StreamRowsSkipped(Event, frozen=True):
    """Rows of an export never get into the stream; in the dataset they are, or will be.

    Foundry refused them alone while it accepted others, or the journal has lost them.
    """

    id: str
    rows: int
    reason: SkipReason


class StreamRowsDropped(Event, frozen=True):
    """The oldest rows never get into the stream, because it is too far behind."""

    rows: int
    reason: Literal["dropped"] = "dropped"


class StreamRequestFailed(Event, frozen=True):
    """A request to the stream failed, and is repeated or divided."""

    reason: str


class StreamPaused(Event, frozen=True):
    """Nothing can be published for now. It is tried again; repetitions are not reported."""

    reason: str
    seconds: float


class StreamResumed(Event, frozen=True):
    """Rows are published again."""
