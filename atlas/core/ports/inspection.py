"""What a diagnosis asks of the outside, in the order of the flow.

Whatever is found amiss is raised as Amiss, which says what it is and what to do.
"""

from collections.abc import Sequence
from typing import Protocol

from atlas.core.sights import (
    Certificate,
    Claim,
    Column,
    Condition,
    FileSeen,
    FilesSeen,
    Grant,
    Health,
    Issued,
    Stopped,
    TransactionSeen,
)


class Issuer(Protocol):
    """Who issues tokens."""

    async def look(self) -> Issued:
        """Its keys."""
        ...

    def ahead_seconds(self) -> float | None:
        """How far its clock is before ours, by its last answer; None if there was none."""

    def apart(self, token: str, scope: str, pseudonym: str) -> Sequence[Claim]:
        """Claim by claim, in the order in which one explains the next.

        `scope` is required, if any; `pseudonym` is shown for the sub.
        """
        ...

    def sub_in(self, token: str) -> str | None:
        """The sub as the token says it, whoever signed that."""


class Front(Protocol):
    """The address that phones use."""

    async def health(self) -> Health: ...

    async def certificate(self) -> Certificate | None:
        """None where there is no TLS."""

    async def stopped(self, bytes: int) -> Stopped | None:
        """Sends a body of so many bytes without a token; None when Atlas itself turned it away."""


class Checkup(Protocol):
    """The journal."""

    async def condition(self) -> Condition | None:
        """None when there is none yet. May raise Unavailable, too."""

    def pseudonym(self, sub: str) -> str:
        """What a user is called in the log."""
        ...


class Access(Protocol):
    """Foundry, as our client may ask it."""

    async def grant(self) -> Grant:
        """A fresh token."""
        ...

    def ahead_seconds(self) -> float | None:
        """How far its clock is before ours, by its last answer; None if there was none."""

    async def scopes(self) -> None:
        """Returns when the token may read and write datasets, wherever we have a role."""


class Branches(Protocol):
    """The dataset, and what has become of its branch."""

    async def dataset(self) -> str:
        """Its name."""
        ...

    async def head(self) -> str:
        """The RID of the transaction at the head of the branch; "" if there is none."""
        ...

    async def transaction(self, rid: str) -> TransactionSeen: ...

    async def transactions(self) -> Sequence[TransactionSeen]:
        """The last ones of the branch, newest first."""
        ...


class Contents(Protocol):
    """What stands on the branch."""

    async def files(self) -> FilesSeen: ...

    async def files_in(self, transaction: str) -> Sequence[FileSeen]:
        """Those of ours."""
        ...

    async def old_json(self) -> Sequence[str]:
        """The paths of all files that the service before Atlas wrote."""
        ...

    async def content(self, file: FileSeen) -> bytes | None:
        """What a reader of the branch gets; None when it is there no more."""


class Schemas(Protocol):
    """What the files of the branch are read by."""

    async def schema(self) -> Sequence[Column] | None: ...

    async def put_schema(self, columns: Sequence[Column]) -> None:
        """For files that are Parquet. Nothing else of an inspection changes anything."""

    async def is_readable(self) -> bool:
        """Whether Foundry makes a table of the files by the schema."""
        ...
