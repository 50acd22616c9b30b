"""Everything that happens and is worth a log line or a metric; readers decide which.

No event carries a value from the data, a token, or Foundry's own words. `user` is a sub: readers
show a keyed hash of it.
"""

from collections.abc import Callable

from msgspec import Struct


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


class ExportAccepted(Struct, frozen=True):
    """An export is safe with us for the first time."""

    id: str
    correlation_id: str
    user: str
    records: int
    rejected: int
    bytes: int


class ExportReplayed(Struct, frozen=True):
    """An export came again, and joined the first: nothing new was kept."""

    id: str
    correlation_id: str
    user: str


class CountsDiffer(Struct, frozen=True):
    """The sender has counted other lines than came."""

    id: str
    correlation_id: str
    received: int


class ClientStuck(Struct, frozen=True):
    """The same device of the same user has sent the same bytes so many times since we run."""

    correlation_id: str
    user: str
    times: int


class ExportCommitted(Struct, frozen=True):
    """The rows of an export stand in a committed transaction."""

    id: str
    correlation_id: str
    transaction: str
    path: str
    records: int
    bytes: int


class ExportSetAside(Struct, frozen=True):
    """It was tried too often; it is kept, and no longer in the way."""

    id: str
    correlation_id: str
    tries: int


class ExportQuarantined(Struct, frozen=True):
    """An export has crashed a stage: it is kept as it came, and no twin of it gets there again."""

    id: str
    correlation_id: str
    user: str


class GroupStarted(Struct, frozen=True):
    """A transaction is open, and these exports are on their way into it."""

    transaction: str
    exports: int
    bytes: int


class GroupCommitted(Struct, frozen=True):
    """One Foundry transaction holds these exports for good."""

    transaction: str
    exports: int
    bytes: int
    seconds: float


class GroupRecovered(Struct, frozen=True):
    """We did not know how a transaction had ended; now we do. What is not committed goes again."""

    exports: int
    committed: int
    transaction: str | None = None


class UploadPaused(Struct, frozen=True):
    """Foundry is not to be had, or holds us off; the exports wait in the journal."""

    reason: str
    seconds: float


class KeyBesideJournal(Struct, frozen=True):
    """No key is set: the journal is sealed with one that lies beside it. Who has both reads it."""

    file: str


class ParquetOfEach(Struct, frozen=True):
    """Parquet saves much where many rows stand together, and little in a file for each export."""


class JournalDamaged(Struct, frozen=True):
    """Something kept in the journal has changed on the disk: what cannot be read is not sent.

    A copy of the journal as it was found is kept, if this was seen at the start.
    """

    what: str
    id: str | None = None
    correlation_id: str | None = None
    copy: str | None = None


class LedgerUnbalanced(Struct, frozen=True):
    """The ledger said another number of exports than there are. It says the right one now."""

    status: str
    noted: int
    counted: int


class OrphanAborted(Struct, frozen=True):
    """A transaction that we began without hearing the answer was found, and ended."""

    transaction: str


class OrphanSuspected(Struct, frozen=True):
    """A transaction may be ours and may be another's: it is left alone, and we wait."""

    transaction: str


class SecondWriter(Struct, frozen=True):
    """The branch is busy again and again, with ever other transactions: somebody writes there."""

    transactions: int


class UserForgotten(Struct, frozen=True):
    """An operator had a person forgotten: so many files are out of the dataset, and rows purged."""

    user: str
    files: int
    purged: int


class KeysFetched(Struct, frozen=True):
    """The issuer told its signing keys."""

    keys: int


class KeysUnavailable(Struct, frozen=True):
    """The issuer's keys could not be fetched; those we have go on being used."""

    reason: str
    keys: int


class FoundryTokenFetched(Struct, frozen=True):
    """Foundry gave us a token."""

    seconds: float


class ActorCrashed(Struct, frozen=True):
    """A stage met a bug. `where` names its code, innermost last; the values are left out."""

    actor: str
    error: str
    where: tuple[str, ...]


class DrainStarted(Struct, frozen=True):
    """We were told to end."""


class DrainEnded(Struct, frozen=True):
    """The flow is empty; this many exports wait in the journal for the next start."""

    waiting: int


Event = (
    RequestRead
    | RequestRefused
    | ExportAccepted
    | ExportReplayed
    | CountsDiffer
    | ClientStuck
    | ExportCommitted
    | ExportSetAside
    | ExportQuarantined
    | GroupStarted
    | GroupCommitted
    | GroupRecovered
    | UploadPaused
    | KeyBesideJournal
    | ParquetOfEach
    | JournalDamaged
    | LedgerUnbalanced
    | OrphanAborted
    | OrphanSuspected
    | SecondWriter
    | UserForgotten
    | KeysFetched
    | KeysUnavailable
    | FoundryTokenFetched
    | ActorCrashed
    | DrainStarted
    | DrainEnded
)
Watch = Callable[[Event], None]
