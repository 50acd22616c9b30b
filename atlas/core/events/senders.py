"""What senders do, what they are answered, and what Auth0 says of who they are."""

from msgspec import Struct

from atlas.core.traces import Trace


class RequestAnswered(Struct, frozen=True):
    """A request of the public listener has ended; a status of 0 if nobody heard an answer.

    `route` is as the code has it, or "none": an address is whatever somebody makes up.
    """

    correlation_id: str
    route: str
    method: str
    status: int
    seconds: float
    trace: Trace | None = None


class RequestRead(Struct, frozen=True):
    """A sender we know has sent a whole request: `exports` of them, in so many bytes."""

    correlation_id: str
    user: str
    exports: int
    bytes: int
    is_batch: bool


class RequestRefused(Struct, frozen=True):
    """A sender was told no, of a whole request or of one chunk in it."""

    correlation_id: str
    code: str
    status: int
    user: str | None = None
    reason: str = ""


class ClientStuck(Struct, frozen=True):
    """The same device of the same user has sent the same bytes so many times since we run."""

    correlation_id: str
    user: str
    times: int


class CountsDiffer(Struct, frozen=True):
    """The sender has counted other lines than came."""

    id: str
    correlation_id: str
    received: int


class KeysFetched(Struct, frozen=True):
    """The issuer told its signing keys."""

    keys: int


class KeysUnavailable(Struct, frozen=True):
    """The issuer's keys could not be fetched; those we have go on being used."""

    reason: str
    keys: int


Event = (
    RequestAnswered
    | RequestRead
    | RequestRefused
    | ClientStuck
    | CountsDiffer
    | KeysFetched
    | KeysUnavailable
)
