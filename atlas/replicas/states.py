"""The states of the leadership protocol, and its commands."""

from typing import Literal, NamedTuple

from msgspec import Struct

Phase = Literal[
    "following",  # another replica leads, or none
    "leading",  # uploads, and renews the lease
    "finishing",  # uploads the rest of its group: another replica asked for the lease
    "unconfirmed",  # may still lead: the database does not answer, so nothing is uploaded
    "releasing",  # releases the lease
]

Command = Literal[
    "start",  # start to upload
    "resume",  # start to upload again, what this replica has in hand first
    "finish",  # let the uploader end after its group: Finished
    "cancel",  # stop the uploader at once
    "abandon",  # stop the uploader at once, and abort the transaction that it has begun
]


class Term(Struct, frozen=True):
    """The state. Times are in seconds on a monotonic clock.

    `epoch` is that of the lease. `confirmed_at`: start of the last call that confirmed it.
    """

    phase: Phase = "following"
    epoch: int = 0
    confirmed_at: float = 0.0


class Decision(NamedTuple):
    """The next state, the command, and the seconds until the lease is asked for or renewed."""

    term: Term
    command: Command | None = None
    seconds: float | None = 0.0


class Acquired(Struct, frozen=True):
    """The lease is ours. `asked_at`: the start of the call."""

    epoch: int
    asked_at: float


class Occupied(Struct, frozen=True):
    """Another replica holds the lease."""


class Renewed(Struct, frozen=True):
    """The lease is still ours. `is_wanted`: another replica asks for it."""

    asked_at: float
    is_wanted: bool = False


class Lost(Struct, frozen=True):
    """Another replica has taken the lease."""


class Unanswered(Struct, frozen=True):
    """The database did not answer until `now`."""

    now: float


class Finished(Struct, frozen=True):
    """The uploader has ended after its group, as it was asked to."""


class Released(Struct, frozen=True):
    """The lease was released."""


Input = Acquired | Occupied | Renewed | Lost | Unanswered | Finished | Released
