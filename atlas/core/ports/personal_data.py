"""Ports to the data of one person: those in the journal, and the tasks of operators."""

from collections.abc import Sequence
from typing import Protocol

from atlas.core.messages import User
from atlas.core.personal_data import (
    ErasureReceipt,
    JournalHoldings,
    PersonalDataReport,
    PurgeResult,
    SharedFile,
)


class PersonalDataStore(Protocol):
    """The journal's records of one person."""

    async def read_holdings(self, user: User) -> JournalHoldings:
        """Return the records of this person."""

    async def purge(self, user: User, shared: Sequence[SharedFile]) -> PurgeResult:
        """Delete the person's exports, receipts, idempotency keys and digests.

        `shared` are shared files that still hold rows of the person; the journal remembers their
        paths. Raises Unavailable while an export of this person is claimed, because it may be
        committed at any moment.
        """

    async def rewrite(self) -> None:
        """Rewrite the journal's file after a purge, so that no purged byte stays on the disk.

        Raises JournalFull when the disk has no space for a second copy.
        """


class PersonalDataTasks(Protocol):
    """Operators' tasks on the data of one person. Raises FoundryError."""

    async def report(self, user: User, *, lists: bool = False) -> PersonalDataReport:
        """Return a report of all data of a person; with `lists`, each file by its path."""

    async def erase(self, user: User) -> ErasureReceipt:
        """Erase all data that can be separated from other people's. It can be repeated."""
