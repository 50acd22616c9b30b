"""Ports for the diagnosis, in the order of the flow. They raise CheckFailed for any defect."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from atlas.core.dataset_schema import SchemaColumn
from atlas.core.inspection import (
    BlockedBody,
    Certificate,
    IssuerKeys,
    JournalHealth,
    RowCount,
    SchemaReader,
    ServiceHealth,
    StreamInfo,
    TokenClaim,
    TransactionInfo,
)
from atlas.core.personal_data import DatasetFile


class IssuerInspector(Protocol):
    """The issuers of tokens."""

    async def fetch_keys(self, issuer: str) -> IssuerKeys:
        """Fetch the keys of an issuer."""

    def measure_clock_skew(self) -> float | None:
        """Return the seconds by which the clock of the first that answered is ahead, else None."""

    def explain(
        self, token: str, scope: str, pseudonym: Callable[[str], str]
    ) -> Sequence[TokenClaim]:
        """Return the claims, in the order in which one explains the next.

        `scope` is the required one, "" if none is. The sub is shown as its pseudonym.
        """

    def explain_proof(self, proof: str, token: str, base: str) -> Sequence[TokenClaim]:
        """Return the claims of a DPoP proof for this token. `base` is the URL that phones use."""


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


class JournalFile(Protocol):
    """The file of a journal, which another process reads while it is in use."""

    def hold(self) -> AbstractAsyncContextManager[None]:
        """Keep the main file unchanged, and everything accepted so far in it. Raises Unavailable.

        Meanwhile exports are accepted as always. The reader checks that it did not change.
        """


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


class SchemaInspection(Protocol):
    """The schema of the dataset. Also raises FoundryError."""

    async def get_columns(self) -> Sequence[SchemaColumn] | None:
        """Return the columns; None if there is no schema."""

    async def get_reader(self, transaction: str) -> SchemaReader:
        """Return the kind of files that the schema is for, as of a committed transaction."""

    async def find_read_problem(self) -> str:
        """Return the reason why Foundry cannot read the files as a table, or "".

        Raises FoundryError if that is not known, for example because our client may not read.
        """


class RowCounter(Protocol):
    """The rows of the dataset, as a reader sees them."""

    async def count(self, rows_max: int) -> RowCount:
        """Count the rows, or as many of them as `rows_max`.

        Raises FoundryError if no way of counting is open to us.
        """


class StreamInspection(Protocol):
    """The stream beside the dataset. Raises FoundryError."""

    async def inspect(self) -> StreamInfo:
        """Return its columns and its key."""

    async def check_writable(self) -> None:
        """Raise FoundryError if our client may not publish. Publishes nothing."""
