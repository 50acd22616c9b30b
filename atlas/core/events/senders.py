"""What senders do, what they are answered, and what Auth0 says of who they are."""

from collections.abc import Mapping
from typing import Literal

from atlas.core.events.event import Event
from atlas.core.traces import Trace

# Why a connection ends without an answer, or before all of one was taken: nothing came in time, an
# answer was not taken, others wanted its place while no request was under way, or all places were
# taken.
AbortReason = Literal["silent", "not_read", "made_room", "too_many"]


class RequestAnswered(Event, frozen=True):
    """A request of the public listener has ended; a status of 0 if nobody heard an answer.

    `route` is as the code has it, or "none": an address is whatever somebody makes up.
    """

    correlation_id: str
    route: str
    method: str
    status: int
    seconds: float
    trace: Trace | None = None


class RequestRead(Event, frozen=True):
    """A sender we know has sent a whole request: `exports` of them, in so many bytes."""

    correlation_id: str
    user: str
    exports: int
    bytes: int
    is_batch: bool


class RequestRefused(Event, frozen=True):
    """A sender was told no, of a whole request or of one chunk in it."""

    correlation_id: str
    code: str
    status: int
    user: str | None = None
    reason: str = ""


class RequestsShed(Event, frozen=True):
    """Uploads were refused for overload in the last second: their number, in all and by route."""

    requests: int
    routes: Mapping[str, int]
    code: str = "OVERLOADED"
    status: int = 503


class ConnectionRejected(Event, frozen=True):
    """A connection was refused, or closed for what came on it, by the server itself."""

    correlation_id: str
    code: str
    status: int
    reason: str


class ConnectionAborted(Event, frozen=True):
    """A connection was ended without an answer, or before all of one was taken."""

    reason: AbortReason


class ClientStuck(Event, frozen=True):
    """The same device of the same user has sent the same bytes so many times since we run."""

    correlation_id: str
    user: str
    times: int


class RecordCountMismatch(Event, frozen=True):
    """The sender has counted other lines than came."""

    id: str
    correlation_id: str
    received: int


class KeysFetched(Event, frozen=True):
    """The issuer told its signing keys."""

    keys: int


class KeysUnavailable(Event, frozen=True):
    """The issuer's keys could not be fetched; those we have go on being used."""

    reason: str
    keys: int
