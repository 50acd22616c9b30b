"""What becomes of an export, and of the group that it goes with, on its way to Foundry."""

from typing import Literal

from msgspec import Struct

from atlas.core.traces import Trace

Because = Literal["idle", "interval", "full"]
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


class GroupStarted(Struct, frozen=True):
    """A transaction is open, and these exports are on their way into it.

    `because` the uploader was idle, the commit interval was over, or a whole group had gathered.
    """

    transaction: str
    exports: int
    bytes: int
    because: Because


class GroupCommitted(Struct, frozen=True):
    """One Foundry transaction holds these exports for good."""

    transaction: str
    exports: int
    bytes: int
    seconds: float
    rows: int
    because: Because


class ExportCommitted(Struct, frozen=True):
    """The rows of an export stand in a committed transaction."""

    id: str
    correlation_id: str
    transaction: str
    path: str
    records: int
    bytes: int
    trace: Trace | None = None


class ExportSetAside(Struct, frozen=True):
    """It was tried too often; it is kept, and no longer in the way."""

    id: str
    correlation_id: str
    tries: int


class GroupRecovered(Struct, frozen=True):
    """We did not know how a transaction had ended; now we do. What is not committed goes again."""

    exports: int
    committed: int
    transaction: str | None = None


class UploadPaused(Struct, frozen=True):
    """Foundry is not to be had, or holds us off; the exports wait in the journal."""

    reason: str
    seconds: float


class OrphanAborted(Struct, frozen=True):
    """A transaction that we began without hearing the answer was found, and ended."""

    transaction: str


class OrphanSuspected(Struct, frozen=True):
    """A transaction may be ours and may be another's: it is left alone, and we wait."""

    transaction: str


class SecondWriter(Struct, frozen=True):
    """The branch is busy again and again, with ever other transactions: somebody writes there."""

    transactions: int


class FoundryCalled(Struct, frozen=True):
    """Foundry was asked, over HTTP; a status of 0 if it did not answer."""

    operation: Operation
    status: int
    seconds: float
    is_retry: bool


class FoundryTokenFetched(Struct, frozen=True):
    """Foundry gave us a token."""

    seconds: float


class FoundryTokenRefused(Struct, frozen=True):
    """No token is to be had of Foundry."""

    reason: str


Event = (
    GroupStarted
    | GroupCommitted
    | ExportCommitted
    | ExportSetAside
    | GroupRecovered
    | UploadPaused
    | OrphanAborted
    | OrphanSuspected
    | SecondWriter
    | FoundryCalled
    | FoundryTokenFetched
    | FoundryTokenRefused
)
