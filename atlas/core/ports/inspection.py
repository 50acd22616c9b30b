"""What a diagnosis asks of the outside, in the order of the flow.

Whatever is found amiss is raised as Amiss, which says what it is and what to do.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from atlas.core.inspection import (
    BlockedBody,
    Certificate,
    IssuerKeys,
    JournalHealth,
    SchemaColumn,
    ServiceHealth,
    TokenClaim,
    TransactionInfo,
)
from atlas.core.personal_data import DatasetFile


class IssuerInspector(Protocol):
    """Who issues tokens."""

    async def fetch_keys(self) -> IssuerKeys:
        """Its keys."""
        ...

    def measure_clock_skew(self) -> float | None:
        """How far its clock is before ours, by its last answer; None if there was none."""

    def explain(
        self, token: str, scope: str, pseudonym: Callable[[str], str]
    ) -> Sequence[TokenClaim]:
        """Return the claims, in the order in which one explains the next.

        `scope` is required, if any; the sub is shown as its pseudonym.
        """
        ...


class PublicEndpoint(Protocol):
    """The address that phones use."""

    async def health(self) -> ServiceHealth: ...

    async def certificate(self) -> Certificate | None:
        """None where there is no TLS."""

    async def probe_body(self, bytes: int) -> BlockedBody | None:
        """Sends a body of so many bytes without a token; None when Atlas itself turned it away."""


class JournalInspector(Protocol):
    """The journal."""

    async def inspect(self) -> JournalHealth | None:
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

    async def transaction(self, rid: str) -> TransactionInfo: ...

    async def transactions(self) -> Sequence[TransactionInfo]:
        """Return the last ones of the branch, newest first."""
        ...

    async def files_of(self, transaction: str, prefix: str) -> Sequence[DatasetFile]:
        """Return the first files of a transaction whose paths have this prefix."""
        ...

    async def schema(self) -> Sequence[SchemaColumn] | None: ...

    async def put_schema(self, columns: Sequence[SchemaColumn]) -> None:
        """Set the schema, for Parquet files. No other method here changes anything."""

    async def is_readable(self) -> bool:
        """Return whether Foundry makes a table of the files by the schema."""
        ...
