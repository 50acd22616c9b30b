"""Events of clients' requests and connections, and of the keys that verify their tokens."""

from collections.abc import Mapping
from typing import Literal

from atlas.core.events.event import Event
from atlas.core.traces import Trace

# silent: no bytes arrived in time; not_read: the client does not read the response; made_room: it
# was idle and closed to admit a new connection; too_many: the limit of connections is reached
AbortReason = Literal["silent", "not_read", "made_room", "too_many"]


class RequestAnswered(Event, frozen=True):
    """A request to the public listener has ended. `status` is 0 if no response was delivered.

    `route` is the pattern in the code, or "none". It is never the path, which clients can make up.
    `response_bytes`: of its body. `user` is "" unless the token was accepted.
    """

    correlation_id: str
    route: str
    method: str
    status: int
    seconds: float
    trace: Trace | None = None
    response_bytes: int = 0
    user: str = ""


class OperatorRequestAnswered(Event, frozen=True):
    """A request to the operator listener has ended. The fields are those of RequestAnswered."""

    route: str
    method: str
    status: int
    seconds: float
    response_bytes: int


class RequestRead(Event, frozen=True):
    """An authenticated client has sent a whole request of `exports` exports and `bytes` bytes."""

    correlation_id: str
    user: str
    exports: int
    bytes: int
    is_batch: bool


class RequestRefused(Event, frozen=True):
    """A request, or one chunk of it, was rejected."""

    correlation_id: str
    code: str
    status: int
    user: str | None = None
    reason: str = ""


class RequestsShed(Event, frozen=True):
    """Uploads were rejected for overload in the last second: the number, in total and by route."""

    requests: int
    routes: Mapping[str, int]
    code: str = "OVERLOADED"
    status: int = 503


class ConnectionRejected(Event, frozen=True):
    """The HTTP server rejected a connection, or closed it because of an invalid request."""

    correlation_id: str
    code: str
    status: int
    reason: str


class ConnectionAborted(Event, frozen=True):
    """A connection was closed before a response was delivered completely."""

    reason: AbortReason


class PhonesCounted(Event, frozen=True):
    """The phones of the last 30 days were counted, by state."""

    active: int
    quiet: int
    stuck: int


class ClientStuck(Event, frozen=True):
    """A device of a user has sent the same bytes `times` times since the service started."""

    correlation_id: str
    user: str
    times: int


class RecordCountMismatch(Event, frozen=True):
    """The declared record count of an export differs from the lines received."""

    id: str
    correlation_id: str
    received: int


class KeysFetched(Event, frozen=True):
    """The issuer's signing keys were fetched."""

    keys: int
    issuer: str = ""


class KeysChanged(Event, frozen=True):
    """The list of an issuer's signing keys differs from the one before."""

    keys: int
    issuer: str


class KeysUnavailable(Event, frozen=True):
    """The issuer's keys could not be fetched. The cached ones remain in use."""

    reason: str
    keys: int
    issuer: str = ""
