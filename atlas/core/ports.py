"""What Atlas asks of the outside, in the order of the flow. `atlas/outside` answers.

Any call to the journal may raise Unavailable, while its disk fails.
"""

from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from datetime import datetime
from typing import Literal, Protocol, TypeVar, TypeVarTuple, overload

from atlas.core.messages import (
    Entry,
    File,
    FileFormat,
    Flattened,
    Group,
    Head,
    Held,
    LeftOpen,
    Limits,
    Listing,
    Original,
    Page,
    Receipt,
    Replayed,
    Seen,
    Status,
    User,
)

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

SEEN_SECONDS_MAX = 5.0  # how old a look at the branch may be when a transaction is begun

Bytes = bytes | bytearray
Clock = Callable[[], datetime]
TransactionState = Literal["OPEN", "COMMITTED", "ABORTED"]


class Identities(Protocol):
    """Who sends."""

    async def user_of(self, token: str) -> User:
        """Whose token this is.

        Raises TokenExpired, InvalidToken, MissingIdentity, AuthUnavailable.
        """

    async def ready(self) -> None:
        """Raises AuthUnavailable while no token can be checked."""


class Compute(Protocol):
    """Runs work that only needs the processor: here, in a thread, in another process.

    What the work returns or raises; `bytes` tells how much of it there is. Work in steps yields
    where it may pause.
    """

    @overload
    async def __call__(
        self, bytes: int, work: Callable[[*Ts], Generator[None, None, T]], /, *args: *Ts
    ) -> T: ...

    @overload
    async def __call__(self, bytes: int, work: Callable[[*Ts], T], /, *args: *Ts) -> T: ...


class Intake(Protocol):
    """The journal as the flow fills it. Every answer is durable before it is given."""

    async def recall(self, head: Head, id: str) -> Receipt | None:
        """The receipt of an export that is here; else None, or when it is to come again."""

    async def append(self, export: Flattened) -> Receipt:
        """Keep the export for good, or answer how far the same one got before: `replayed`.

        Raises KeyReused when its Idempotency-Key names another sequence, JournalFull.
        """


class Receipts(Protocol):
    """The journal as a sender sees it: nothing but his own exports."""

    async def find(self, user: User, id: str) -> Receipt | None:
        """How far an export of this user got; None for one that he never sent."""

    async def parts(self, user: User, whole: str) -> Sequence[Receipt]:
        """Those of a stream, in their order; none of one that is not known."""
        ...

    async def page(self, user: User, key: str | None, limit: int, cursor: str | None) -> Page:
        """His receipts, newest first; with a key, those that this Idempotency-Key names.

        Raises Rejected for a cursor that no page gave.
        """


class Mailbox(Protocol):
    """The journal as the uploader empties it.

    An export is accepted, then claimed for a group, then committed. At most one group is claimed
    at a time, because Foundry allows one open transaction on a branch.
    """

    async def waiting(self) -> int:
        """How many exports are neither committed nor set aside."""

    async def claim(self, limits: Limits, seen: Seen, *, suspects: bool = False) -> Group | None:
        """Claim the oldest accepted exports, and note the attempt to begin a transaction.

        In one step, so that no transaction is ever begun that the journal does not know of. None
        means that the mailbox is empty. An export in which two groups have failed is a suspect:
        those go by themselves, in ever smaller groups, when they are preferred or nothing else is
        there.
        """

    async def claimed(self) -> Group | None:
        """The group that is claimed now, if any; no file, if only its transaction is left of it.

        Each export has a file of its own, as it came, unless `filed` says otherwise.
        """

    async def ndjson(self, id: str) -> bytes:
        """The bytes of a claimed export. Raises Damaged when they are not what was accepted."""

    async def packed(self, ids: Collection[str]) -> Mapping[str, bytes]:
        """The same of several, in their order, still compressed; without what is Damaged."""
        ...

    async def filed(
        self, ids: Collection[str], format: FileFormat, size: int, *, is_shared: bool
    ) -> File:
        """These claimed exports are put as one file of this format and of so many bytes.

        Until they are released, or have failed. The file, which has a path of its own if it is
        shared, and the export's otherwise.
        """
        ...

    async def is_full(self, limits: Limits) -> bool:
        """Whether a whole group of exports waits that never failed."""
        ...

    async def note(self, transaction: str, limits: Limits) -> Group:
        """Remember the transaction of the claimed group; the try counts. It resolves the attempts.

        The group as it is now: what has come meanwhile is claimed, too, and goes along, unless it
        is a group of suspects.
        """
        ...

    async def complete(self, ids: Collection[str], transaction: str) -> Sequence[Receipt]:
        """These exports of the claimed group stand in this transaction. Their receipts."""

    async def damaged(self, id: str) -> Receipt | None:
        """Nobody can read this claimed export any more: set it aside. Its receipt."""

    async def move(self, id: str) -> None:
        """The path of a claimed export is taken: give it another."""

    async def release(self) -> None:
        """What is claimed still is not in the dataset, and will not be: accept it again.

        Foundry was not to be had, so the try does not count.
        """

    async def fail(self, named: Collection[str], tries_max: int) -> Sequence[Receipt]:
        """The same, and the try counts: it was not Foundry that was not to be had.

        After so many tries an export is set aside, if Foundry has named it, or if it was alone and
        others have been committed since its first. The receipts of those.
        """
        ...


class Attempts(Protocol):
    """Transactions that we may have begun without hearing the answer."""

    async def ended(self) -> None:
        """The transaction that was noted is open no more."""

    async def attempts(self) -> Sequence[Seen]:
        """What the branch was like before each that is not resolved; a release forgets none."""

    async def resolve(self) -> None:
        """Nothing that we began is left open: forget the attempts."""


class Aside(Protocol):
    """What was set aside, in the journal."""

    async def keep(self, original: Original, id: str, at: datetime) -> Receipt:
        """Keep what crashes a stage. Its receipt; `replayed` if it was kept before.

        Raises JournalFull.
        """
        ...

    async def originals(self) -> Collection[str]:
        """The ids of what is kept so."""
        ...

    async def original(self, id: str) -> Original | None:
        """One of them. Raises Damaged."""

    async def forget(self, id: str) -> None:
        """It went through the flow after all, and stands in the journal as any other."""

    async def accept(self, id: str | None) -> int:
        """Let the uploader try again what Foundry did not take: this one, or all; how many."""
        ...

    async def abandon(self, id: str | None) -> int:
        """Give up what is set aside, this one or all, and keep its entry only; how many."""
        ...


class Replays(Protocol):
    """What was set aside, through the flow once more."""

    async def one(self, id: str) -> Replayed:
        """Raises Rejected when it is none that the flow accepts."""
        ...

    async def all(self) -> Replayed: ...


class Ledger(Protocol):
    """The journal as an operator sees it."""

    async def listing(self, status: Status | None, limit: int, before: int | None) -> Listing:
        """A page of exports, newest first; `before` is what the page before this one told."""
        ...

    async def entry(self, id: str) -> Entry | None:
        """One export, by its receipt id or the beginning of it; None if several begin so, too."""

    async def ready(self) -> None:
        """Raises JournalFull, or Unavailable while the journal cannot be written."""


class Dataset(Protocol):
    """One branch of one dataset, to write to.

    Any call may raise FoundryError, and what raised may have happened all the same.
    """

    async def look(self) -> Seen:
        """The branch as it is now: what is to be noted before we begin."""

    async def begin(self) -> str:
        """Open a transaction; its RID. Raises BranchBusy while another is open on the branch."""

    def calls_left(self) -> int:
        """How often Foundry may be asked just now before its limit of requests holds us up."""
        ...

    async def put(self, transaction: str, path: str, content: Bytes) -> None:
        """Put a file into an open transaction. Raises FileRefused when only this file is wrong."""

    async def commit(self, transaction: str) -> Seen:
        """What the branch is like now: this transaction is its head. Raises CommitRefused."""

    async def abort(self, transaction: str) -> None:
        """Returns only when the transaction is open no more; it may turn out to be committed."""


class History(Protocol):
    """The same branch, to ask what became of what we did. Raises FoundryError."""

    async def state_of(self, transaction: str) -> TransactionState:
        """A transaction that Foundry does not know is ABORTED: nothing of it can be seen."""

    async def files_of(self, transaction: str) -> Mapping[str, int]:
        """What lies in a transaction: each path, and how many bytes."""

    async def holder_of(self, path: str) -> Held | None:
        """Who holds this path on the branch."""

    async def content(self, path: str, size: int) -> bytes:
        """The bytes of the committed file at this path: so many, says Foundry."""

    async def left_open(self, seen: Seen, paths: Collection[str]) -> LeftOpen | None:
        """The open transaction that an attempt after `seen` may have begun.

        That is: the head has moved, to an open APPEND, created while the attempt can have lasted,
        with no file in it but of these paths.
        """


class Outbox(Mailbox, Attempts, Protocol):
    """All that the uploader needs of the journal."""


class Branch(Dataset, History, Protocol):
    """All that the uploader needs of Foundry."""
