"""What becomes of an export, and of the group that it goes with, on its way to Foundry."""

from typing import Literal

from atlas.core.events.event import Event
from atlas.core.traces import Trace

GroupTrigger = Literal["idle", "interval", "full"]
FailureCause = Literal["refused", "group_failed", "unanswered"]
Operation = Literal[
    "token",
    "look",
    "begin",
    "put",
    "commit",
    "abort",
    "transaction",
    "files",
    "file",
    "content",
    "remove",
    "inspect",
]


class GroupStarted(Event, frozen=True):
    """A transaction is open, and these exports are on their way into it.

    `trigger`: the uploader was idle, the commit interval was over, or a whole group had gathered.
    """

    transaction: str
    exports: int
    bytes: int
    trigger: GroupTrigger


class GroupCommitted(Event, frozen=True):
    """One Foundry transaction holds these exports for good."""

    transaction: str
    exports: int
    bytes: int
    seconds: float
    rows: int
    trigger: GroupTrigger


class ExportCommitted(Event, frozen=True):
    """The rows of an export stand in a committed transaction.

    `seconds` is from its acceptance to here; `user` is "" if the journal could not tell.
    """

    id: str
    correlation_id: str
    transaction: str
    path: str
    records: int
    bytes: int
    user: str = ""
    seconds: float = 0.0
    trace: Trace | None = None


class ExportFailed(Event, frozen=True):
    """An export was not committed by its own fault or its group's: it waits, and is tried apart.

    `cause`: Foundry refused its file, its group failed, or Foundry never answered about its file
    but about others. `tries` are the failures that count so far. `is_alone`: nothing else was in
    its group. `reason` has the status, the error name and the instance id of Foundry's answer.
    """

    id: str
    correlation_id: str
    tries: int
    is_alone: bool
    cause: FailureCause
    reason: str


class ExportSetAside(Event, frozen=True):
    """An export failed too often, for this reason at last; it is kept, and no longer in the way."""

    id: str
    correlation_id: str
    tries: int
    reason: str


class GroupRecovered(Event, frozen=True):
    """We did not know how a transaction had ended; now we do. What is not committed goes again."""

    exports: int
    committed: int
    transaction: str | None = None


class UploadPaused(Event, frozen=True):
    """A whole group came to nothing; the exports wait in the journal.

    `is_outage`: nothing shows that Foundry takes other files; False if it blamed each file of the
    group by name.
    """

    reason: str
    seconds: float
    is_outage: bool = True


class OrphanAborted(Event, frozen=True):
    """A transaction that we began without hearing the answer was found, and ended."""

    transaction: str


class OrphanSuspected(Event, frozen=True):
    """A transaction may be ours and may be another's: it is left alone, and we wait."""

    transaction: str


class ForeignWriterDetected(Event, frozen=True):
    """The branch is busy again and again, with ever other transactions: somebody writes there."""

    transactions: int


class FoundryCalled(Event, frozen=True):
    """A call to Foundry ended; the status is 0 if it did not answer.

    `error_name` and `instance_id` are those of Foundry's error, "" if it gave none.
    """

    operation: Operation
    status: int
    seconds: float
    is_retry: bool
    error_name: str = ""
    instance_id: str = ""


class FoundryTokenFetched(Event, frozen=True):
    """Foundry gave us a token."""

    seconds: float


class FoundryTokenRefused(Event, frozen=True):
    """No token is to be had of Foundry."""

    reason: str
