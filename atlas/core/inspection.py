"""Results of inspecting each system, in the order of the flow."""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

from msgspec import Struct

from atlas.core.messages import JournalEntry


class IssuerKeys(Struct, frozen=True):
    """The keys of an issuer: those that can verify tokens for Atlas, and all others."""

    usable: int
    others: int
    seconds: float


class TokenClaim(Struct, frozen=True):
    """One claim of a token, and the verdict of Atlas on it; the sub is shown as a keyed hash."""

    name: str
    value: str
    verdict: Literal["good", "bad", "unknown"]
    reason: str = ""
    to_do: str = ""


class ServiceHealth(Struct, frozen=True):
    """The health of Atlas at a URL. Each check has the reason why it fails, or None."""

    version: str
    seconds: float
    checks: Mapping[str, str | None]


class Certificate(Struct, frozen=True):
    """The TLS certificate of a URL."""

    names: tuple[str, ...]
    expires: datetime


class BlockedBody(Struct, frozen=True):
    """A body of this size that did not reach Atlas, and the server that answered instead."""

    bytes: int
    status: int | None
    server: str


class ExportTotals(Struct, frozen=True):
    """A number of exports, and their size before compression."""

    exports: int
    bytes: int


class JournalHealth(Struct, frozen=True, kw_only=True):
    """The condition of a journal.

    `path` may be "memory". `waiting` and `set_aside` are the recorded totals, `actual` the counted
    ones of both; `capacity` is the configured maximum. `set_aside_reasons` counts set-aside exports
    by reason, `failed` the waiting ones that have failed and are retried separately; a reason has
    the instance id of its newest export. `open_transactions` are recorded as open; `attempts` is
    the number of attempts to begin one that have no answer. `last` is the last committed export,
    `damaged_copies` are the names of copies made when the journal was damaged.
    """

    path: str
    bytes: int
    waiting: ExportTotals
    set_aside: ExportTotals
    actual: tuple[ExportTotals, ExportTotals]
    capacity: ExportTotals
    disk_free: int | None
    disk_free_min: int
    oldest: datetime | None
    set_aside_reasons: Mapping[str, int]
    failed: Mapping[str, int] = {}
    open_transactions: tuple[str, ...]
    attempts: int
    last: JournalEntry | None
    damaged_copies: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def failed_exports(self) -> int:
        return sum(self.failed.values())


class TransactionInfo(Struct, frozen=True):
    rid: str
    kind: str
    status: Literal["OPEN", "COMMITTED", "ABORTED"]
    created: datetime
    closed: datetime | None = None

    @property
    def last_at(self) -> datetime:
        """The time at which it was closed, or created if it is open."""
        return self.created if self.closed is None else self.closed


class SchemaColumn(Struct, frozen=True):
    name: str
    kind: str
