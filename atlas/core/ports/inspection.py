"""Ports for the diagnosis, in the order of the flow. They raise CheckFailed for any defect."""

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
    """The issuer of tokens."""

    async def fetch_keys(self) -> IssuerKeys:
        """Fetch its keys."""

    def measure_clock_skew(self) -> float | None:
        """Return by how many seconds its clock is ahead of ours; None before its first answer."""

    def explain(
        self, token: str, scope: str, pseudonym: Callable[[str], str]
    ) -> Sequence[TokenClaim]:
        """Return the claims, in the order in which one explains the next.

        `scope` is the required one, "" if none is. The sub is shown as its pseudonym.
        """


class PublicEndpoint(Protocol):
    """The URL that phones use."""

    async def health(self) -> ServiceHealth: ...

    async def certificate(self) -> Certificate | None:
        """Return its certificate; None without TLS."""

    async def probe_body(self, bytes: int) -> BlockedBody | None:
        """Send a body of this size without a token; return None if Atlas itself rejected it."""


class JournalInspector(Protocol):
    """The journal."""

    async def inspect(self) -> JournalHealth | None:
        """Inspect the journal; None if it does not exist yet. Also raises Unavailable."""

    def pseudonym(self, sub: str) -> str:
        """Return the name of a user in the log."""


class DatasetInspection(Protocol):
    """The queries to Foundry that only a diagnosis makes. Also raises FoundryError."""

    async def fetch_token(self) -> int:
        """Return the lifetime of our token in seconds."""

    def ahead_seconds(self) -> float | None:
        """Return by how many seconds its clock is ahead of ours; None before its first answer."""

    async def check_scopes(self) -> None:
        """Raise FoundryError if the token lacks the scopes to read and write datasets."""

    async def dataset_name(self) -> str: ...

    async def transaction(self, rid: str) -> TransactionInfo: ...

    async def transactions(self) -> Sequence[TransactionInfo]:
        """Return the latest transactions of the branch, newest first."""

    async def list_files(self, transaction: str, prefix: str) -> Sequence[DatasetFile]:
        """Return the first files of a transaction whose paths have this prefix."""

    async def schema(self) -> Sequence[SchemaColumn] | None: ...

    async def put_schema(self, columns: Sequence[SchemaColumn]) -> None:
        """Set the schema, for Parquet files. This is the only method here that changes anything."""

    async def is_readable(self) -> bool:
        """True if Foundry can read the files as a table with the schema."""
