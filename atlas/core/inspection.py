"""What an inspection sees of each system, in the order of the flow."""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

from msgspec import Struct

from atlas.core.messages import JournalEntry


class IssuerKeys(Struct, frozen=True):
    """The keys of an issuer: those that can have signed a token for us, and all others."""

    usable: int
    others: int
    seconds: float


class TokenClaim(Struct, frozen=True):
    """One thing that a token says, and whether that is what we take; the sub is a keyed hash."""

    name: str
    value: str
    verdict: Literal["good", "bad", "unknown"]
    reason: str = ""
    to_do: str = ""


class ServiceHealth(Struct, frozen=True):
    """Atlas behind an address; each of its checks, with why it fails, or None."""

    version: str
    seconds: float
    checks: Mapping[str, str | None]


class Certificate(Struct, frozen=True):
    """What an address shows who it is with."""

    names: tuple[str, ...]
    expires: datetime


class BlockedBody(Struct, frozen=True):
    """A body of so many bytes that did not come as far as Atlas: who answered what instead."""

    bytes: int
    status: int | None
    server: str


class ExportTotals(Struct, frozen=True):
    """So many exports, with so many bytes before compression."""

    exports: int
    bytes: int


class JournalHealth(Struct, frozen=True, kw_only=True):
    """How a journal is. `noted` and `counted` are of what waits, and of what is set aside.

    `aside` counts what is set aside by its reason, and `failed` what has failed, waits and is tried
    apart; a reason has the instance id of its newest export. `begun` are the transactions that it
    notes as ours and not ended; `attempts` to begin one have no answer. `last` is the last export
    that is committed.
    """

    place: str
    bytes: int
    waiting: ExportTotals
    set_aside: ExportTotals
    counted: tuple[ExportTotals, ExportTotals]
    room: ExportTotals
    disk_free: int | None
    disk_free_min: int
    oldest: datetime | None
    aside: Mapping[str, int]
    failed: Mapping[str, int] = {}
    begun: tuple[str, ...]
    attempts: int
    last: JournalEntry | None
    copies: tuple[str, ...] = ()
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
        """When it was ended, or begun if it is open."""
        return self.created if self.closed is None else self.closed


class SchemaColumn(Struct, frozen=True):
    name: str
    kind: str
