"""What a diagnosis asks of the outside, in the order of the flow.

Whatever is found amiss is raised as Amiss, which says what it is and what to do.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from atlas.core.people import Standing
from atlas.core.sights import (
    Certificate,
    Claim,
    Column,
    Condition,
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

    def apart(self, token: str, scope: str, pseudonym: Callable[[str], str]) -> Sequence[Claim]:
        """Return the claims, in the order in which one explains the next.

        `scope` is required, if any; the sub is shown as its pseudonym.
        """
        ...


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


class DatasetInspection(Protocol):
    """Foundry, as far as only a diagnosis asks it. Raises FoundryError."""

    async def fetch_token(self) -> int:
        """Return the lifetime of our token in seconds. Raises Amiss."""
        ...

    def ahead_seconds(self) -> float | None:
        """Return by how much its clock is ahead of ours, by its last answer, if there was one."""

    async def check_scopes(self) -> None:
        """Return if the token may read and write datasets, where we have a role."""

    async def dataset_name(self) -> str: ...

    async def transaction(self, rid: str) -> TransactionSeen: ...

    async def transactions(self) -> Sequence[TransactionSeen]:
        """Return the last ones of the branch, newest first."""
        ...

    async def files_of(self, transaction: str, prefix: str) -> Sequence[Standing]:
        """Return the first files of a transaction whose paths have this prefix."""
        ...

    async def schema(self) -> Sequence[Column] | None: ...

    async def put_schema(self, columns: Sequence[Column]) -> None:
        """Set the schema, for Parquet files. No other method here changes anything."""

    async def is_readable(self) -> bool:
        """Return whether Foundry makes a table of the files by the schema."""
        ...
