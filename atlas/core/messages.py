"""What travels, in the order it is made. All of it is immutable; its type says how far it got."""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

import msgspec
from msgspec import Struct

from atlas.core.traces import Trace

Status = Literal["accepted", "committed", "set_aside", "abandoned"]
# of which "failed" are accepted exports that have failed and are tried apart
ListedStatus = Literal["accepted", "committed", "set_aside", "abandoned", "failed"]
Isolation = Literal["none", "own_file", "small_group", "alone"]
FileFormat = Literal["ndjson", "parquet"]
FileLayout = Literal["auto", "per-export", "per-group"]
TransactionKind = Literal["APPEND", "UPDATE", "DELETE"]  # those that we begin


class User(Struct, frozen=True):
    """A sender whose token was good."""

    sub: str
    scopes: frozenset[str] = frozenset()


class IdempotencySlot(Struct, frozen=True):
    """The place of an export in the sequence that an Idempotency-Key names."""

    key: str
    position: int
    length: int


class StreamPosition(Struct, frozen=True):
    """The place of an export in a stream. `whole` names the stream, and so does `key`, if any."""

    whole: str
    position: int
    key: str | None = None


class ExportMetadata(Struct, frozen=True):
    """What is known of an export before its body is looked at.

    `timestamp` is as sent, "" if absent: it is part of what makes two exports the same.
    """

    user: User
    device: str
    timestamp: str
    correlation_id: str
    binding: IdempotencySlot | None = None
    place: StreamPosition | None = None
    trace: Trace | None = None


class RawExport(Struct, frozen=True, tag="Export"):
    """What a user sent. The body is base64; nothing in it is checked yet."""

    head: ExportMetadata
    body: bytes


class StreamPart(Struct, frozen=True, tag="Part"):
    """Lines out of a streamed body, whole ones; `first` is the number of the first of them.

    The id is the same whenever the same bytes are sent again at the same offset.
    """

    id: str
    head: ExportMetadata
    text: bytes
    first: int


class DecodedExport(Struct, frozen=True, tag="Decoded"):
    """Lines as sent. The id is the same whenever the same export is sent again.

    `likeness` is equal for equal bytes, whatever they are sent with, for as long as we run.
    """

    id: str
    head: ExportMetadata
    text: bytes
    first: int = 1
    likeness: int = 0


StageInput = RawExport | StreamPart | DecodedExport  # as it came to a stage


def strip_idempotency(original: StageInput) -> StageInput:
    """The same without its Idempotency-Key, and out of its stream."""
    head = msgspec.structs.replace(original.head, binding=None, place=None)
    return msgspec.structs.replace(original, head=head)


class Reject(Struct, frozen=True):
    """A line that became no row, and why; never what stood in it. Lines count from 1."""

    line: int
    reason: str


class RowTable(Struct, frozen=True):
    """Rows as NDJSON, as they stand in a file of their own, and what was left out of it.

    `ingested` counts its rows, `rejected` the lines that became none, of which `rejects` tells
    the first few, and `reasons` how many there are of each.
    """

    ndjson: bytes
    ingested: int
    rejected: int
    rejects: tuple[Reject, ...] = ()
    reasons: Mapping[str, int] = {}


class CompressedRows(Struct, frozen=True):
    """The same with its file compressed, which then has so many `size` again."""

    data: bytes
    size: int
    ingested: int
    rejected: int
    rejects: tuple[Reject, ...] = ()
    reasons: Mapping[str, int] = {}


class FlattenedExport(Struct, frozen=True):
    """An export as it will stand in the dataset, accepted at this moment."""

    id: str
    head: ExportMetadata
    at: datetime
    table: CompressedRows


class Receipt(Struct, frozen=True):
    """How one export stands. It balances: received = ingested + rejected, always."""

    id: str
    status: Status
    at: datetime
    path: str
    ingested: int
    rejected: int
    rejects: tuple[Reject, ...] = ()
    transaction: str | None = None
    replayed: bool = False

    @property
    def received(self) -> int:
        return self.ingested + self.rejected


class ClaimedExport(Struct, frozen=True):
    """An export as the uploader sees it. Its rows are fetched when their turn comes.

    `size` are those of its rows as NDJSON. `isolation` is 0 for a fresh export; from 1 on it
    shares its file with nobody, from 2 on its group with ever fewer. `tries` are those that failed.
    """

    id: str
    bytes: int
    records: int = 0
    correlation_id: str = ""
    trace: Trace | None = None
    isolation: int = 0
    tries: int = 0
    user: str = ""


class File(Struct, frozen=True):
    """A file of so many bytes for the dataset: the rows of these exports, and of no other."""

    path: str
    bytes: int
    exports: tuple[ClaimedExport, ...]


class CommitGroup(Struct, frozen=True):
    """The files that go into one transaction."""

    files: tuple[File, ...]

    @property
    def exports(self) -> tuple[ClaimedExport, ...]:
        return tuple(export for file in self.files for export in file.exports)

    @property
    def is_isolated(self) -> bool:
        return all(export.isolation for export in self.exports)


class BranchSnapshot(Struct, frozen=True):
    """The branch as it was at a moment on Foundry's own clock: the RID of its head, "" if none."""

    head: str
    at: datetime


class ProbeResult(Struct, frozen=True):
    """A transaction was opened, a file put into it as `content_type`, and all of it aborted.

    `observations`: what Foundry was seen to do where its documentation is silent, by topic.
    """

    transaction: str
    content_type: str
    seconds: float
    observations: Mapping[str, str] = {}


class RemovalResult(Struct, frozen=True):
    """So many files were taken out of the dataset, in this transaction; None if there were none."""

    files: int
    transaction: str | None = None


class ReplacementResult(Struct, frozen=True):
    """So many files were replaced, in this transaction; None if there were none."""

    files: int
    transaction: str | None = None


class PathOwner(Struct, frozen=True):
    """A path that is taken: by a file of so many bytes, of this committed transaction."""

    transaction: str
    bytes: int


class GroupLimits(Struct, frozen=True, forbid_unknown_fields=True):
    """How much goes into one group. A file larger than the limit goes alone."""

    exports_max: int = 1_000
    bytes_max: int = 64 * 1024 * 1024


class JournalEntry(Struct, frozen=True):
    """One export in the journal, as an operator sees it.

    `user` is a keyed hash of the sub, and so is the folder in the receipt's path. `tries` are the
    failures that count, and `reason` is why it failed last, or was set aside. `isolation` is how it
    is tried while it waits: with others, in a file of its own, in a small group, or alone.
    `correlation_id` is that of the request that brought it first.
    """

    receipt: Receipt
    user: str
    bytes: int
    tries: int
    reason: str | None = None
    correlation_id: str = ""
    isolation: Isolation = "none"


class ReplayResult(Struct, frozen=True):
    """How many that were set aside are on their way again, and how many failed again."""

    again: int
    failed: int


class AbandonResult(Struct, frozen=True):
    """How many were given up."""

    abandoned: int


class ReceiptPage(Struct, frozen=True):
    """Receipts, newest first, and where the next page begins, if there is one."""

    receipts: tuple[Receipt, ...]
    next_cursor: str | None = None


class JournalPage(Struct, frozen=True):
    """A page of the journal, newest first; how many exports stand where in all of it.

    A search that ended before the oldest says how many it has `looked_at`.
    """

    totals: Mapping[Status, int]
    entries: tuple[JournalEntry, ...]
    before: int | None = None
    looked_at: int | None = None
