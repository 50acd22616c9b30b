"""Events of exports and groups on their way to Foundry, and of calls to Foundry."""

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
    "publish",
]


class GroupStarted(Event, frozen=True):
    """A transaction is open, and these exports are being uploaded into it.

    `trigger`: the uploader was idle, the commit interval had passed, or a whole group had gathered.
    """

    transaction: str
    exports: int
    bytes: int
    trigger: GroupTrigger


class GroupCommitted(Event, frozen=True):
    """A Foundry transaction with these exports, of these users, is committed."""

    transaction: str
    exports: int
    bytes: int
    seconds: float
    rows: int
    trigger: GroupTrigger
    users: tuple[str, ...] = ()


class ExportCommitted(Event, frozen=True):
    """The rows of an export are in a committed transaction.

    `seconds` is the time since its acceptance. `user` is "" if it is unknown.
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
    """An export was not committed. It waits, and is retried apart from the others.

    `cause`: Foundry refused its file, its group failed, or Foundry answered about other files but
    never about this one. `tries` is the number of failures so far that count. `is_alone`: its group
    had no other export. `reason` has the status, the error name and the instance id of Foundry's
    answer.
    """

    id: str
    correlation_id: str
    tries: int
    is_alone: bool
    cause: FailureCause
    reason: str


class ExportSetAside(Event, frozen=True):
    """An export failed too often and is set aside, so that it does not hold up others.

    `reason` is that of its last failure.
    """

    id: str
    correlation_id: str
    tries: int
    reason: str


class GroupRecovered(Event, frozen=True):
    """The unknown outcome of a transaction was determined. Uncommitted exports are sent again."""

    exports: int
    committed: int
    transaction: str | None = None


class UploadPaused(Event, frozen=True):
    """None of a group's exports could be committed. They wait in the journal.

    `is_outage`: nothing shows that Foundry accepts other files. It is False if Foundry blamed each
    file of the group by name.
    """

    reason: str
    seconds: float
    is_outage: bool = True


class OrphanAborted(Event, frozen=True):
    """A transaction that Atlas opened, but whose response was lost, was found and aborted."""

    transaction: str


class OrphanSuspected(Event, frozen=True):
    """A transaction may be ours or another writer's. It is left alone, and uploads wait."""

    transaction: str


class ForeignWriterDetected(Event, frozen=True):
    """The branch is busy again and again, each time with another transaction of another writer."""

    transactions: int


class FoundryCalled(Event, frozen=True):
    """A call to Foundry ended. `status` is 0 if there was no response.

    `error_name` and `instance_id` are those of Foundry's error, "" if it gave none.
    """

    operation: Operation
    status: int
    seconds: float
    is_retry: bool
    error_name: str = ""
    instance_id: str = ""


class FoundryTokenFetched(Event, frozen=True):
    """Foundry issued an access token."""

    seconds: float


class FoundryTokenRefused(Event, frozen=True):
    """Foundry issued no access token."""

    reason: str
