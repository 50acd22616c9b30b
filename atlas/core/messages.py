"""Immutable messages between stages, in the order in which an export becomes them."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from atlas.core.phones import NO_SUMMARY, RowSummary
from atlas.core.traces import Trace

Status = Literal["accepted", "committed", "set_aside", "abandoned"]
# "failed" selects the accepted exports that have failed and are retried apart
ListedStatus = Literal["accepted", "committed", "set_aside", "abandoned", "failed"]
Isolation = Literal["none", "own_file", "small_group", "alone"]
FileFormat = Literal["ndjson", "parquet"]
FileLayout = Literal["auto", "per-export", "per-group"]
TransactionKind = Literal["APPEND", "UPDATE", "DELETE"]  # the kinds that Atlas begins


class User(Struct, frozen=True):
    """An authenticated client."""

    sub: str
    scopes: frozenset[str] = frozenset()


class IdempotencySlot(Struct, frozen=True):
    """The position of an export in the sequence that an Idempotency-Key names."""

    key: str
    position: int
    length: int


class StreamPosition(Struct, frozen=True):
    """The position of an export in a streamed body.

    `whole` is the id of the stream, `key` its Idempotency-Key if it has one.
    """

    whole: str
    position: int
    key: str | None = None


class ExportMetadata(Struct, frozen=True):
    """An export's metadata, known before its body is decoded.

    `timestamp` is as sent, "" if absent: it is part of the export's identity.
    """

    user: User
    device: str
    timestamp: str
    correlation_id: str
    binding: IdempotencySlot | None = None
    place: StreamPosition | None = None
    trace: Trace | None = None


class RawExport(Struct, frozen=True, tag="Export"):
    """An export as it was sent. The body is base64 and not yet validated."""

    head: ExportMetadata
    body: bytes


class StreamPart(Struct, frozen=True, tag="Part"):
    """Whole lines of a streamed body; `first` is the number of the first one.

    The id is the same whenever the same bytes are sent again at the same offset.
    """

    id: str
    head: ExportMetadata
    text: bytes
    first: int


class DecodedExport(Struct, frozen=True, tag="Decoded"):
    """An export's lines as sent. The id is the same whenever the same export is sent again.

    `likeness` is a hash that is equal for equal bytes, comparable only within one process.
    `is_stuck`: the device keeps sending these bytes.
    """

    id: str
    head: ExportMetadata
    text: bytes
    first: int = 1
    likeness: int = 0
    is_stuck: bool = False


StageInput = RawExport | StreamPart | DecodedExport  # an export as a stage receives it


def strip_idempotency(original: StageInput) -> StageInput:
    """Return the export without its Idempotency-Key and its position in a stream."""
    head = msgspec.structs.replace(original.head, binding=None, place=None)
    return msgspec.structs.replace(original, head=head)


class Reject(Struct, frozen=True):
    """A line that became no row, and the reason, without its content. Lines count from 1."""

    line: int
    reason: str


class RowTable(Struct, frozen=True):
    """Rows as NDJSON, ready for a file, and the lines that were rejected.

    `ingested` is the number of rows, `rejected` the number of rejected lines. `rejects` has the
    first few of those, `reasons` counts them by reason.
    """

    ndjson: bytes
    ingested: int
    rejected: int
    rejects: tuple[Reject, ...] = ()
    reasons: Mapping[str, int] = {}


class CompressedRows(Struct, frozen=True):
    """A RowTable with compressed NDJSON; `size` is its uncompressed size in bytes."""

    data: bytes
    size: int
    ingested: int
    rejected: int
    rejects: tuple[Reject, ...] = ()
    reasons: Mapping[str, int] = {}
    summary: RowSummary = NO_SUMMARY


class FlattenedExport(Struct, frozen=True):
    """An export as rows for the dataset, accepted at this time."""

    id: str
    head: ExportMetadata
    at: datetime
    table: CompressedRows
    is_stuck: bool = False


class Receipt(Struct, frozen=True):
    """The status of one export. It always balances: received = ingested + rejected."""

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
    """An export as the uploader sees it. Its rows are read when they are needed.

    `bytes` is the size of its rows as NDJSON. `isolation` is 0 for a fresh export; from 1 on it
    gets a file of its own, from 2 on its groups become smaller. `tries` is the number of failed
    tries.
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
    """A file for the dataset. It holds the rows of these exports and of no others."""

    path: str
    bytes: int
    exports: tuple[ClaimedExport, ...]


class CommitGroup(Struct, frozen=True):
    """The files of one transaction."""

    files: tuple[File, ...]

    @property
    def exports(self) -> tuple[ClaimedExport, ...]:
        return tuple(export for file in self.files for export in file.exports)


class BranchSnapshot(Struct, frozen=True):
    """The branch at a time by Foundry's clock. `head` is the RID of its head, "" if none."""

    head: str
    at: datetime


class ProbeResult(Struct, frozen=True):
    """The result of a probe: a transaction was opened, a file put into it, and all of it aborted.

    `content_type` is the media type of the file. `observations` are what Foundry was seen to do
    where its documentation is silent, by topic.
    """

    transaction: str
    content_type: str
    seconds: float
    observations: Mapping[str, str] = {}


class RemovalResult(Struct, frozen=True):
    """The number of files removed from the dataset. `transaction` is None if there were none."""

    files: int
    transaction: str | None = None


class ReplacementResult(RemovalResult, frozen=True):
    """The number of files replaced in the dataset."""


class PathOwner(Struct, frozen=True):
    """The committed file at a path: its transaction, and its size in bytes."""

    transaction: str
    bytes: int


class GroupLimits(Struct, frozen=True, forbid_unknown_fields=True):
    """The limits of one group. A file larger than the limit gets a group of its own."""

    exports_max: Annotated[int, Meta(ge=1, description="exports of one transaction")] = 1_000
    bytes_max: Annotated[int, Meta(ge=1, description="bytes of one transaction")] = 64 * 1024 * 1024


class JournalEntry(Struct, frozen=True):
    """One export in the journal, as an operator sees it.

    `user` is a keyed hash of the sub, also used as the folder in the receipt's path. `tries` is the
    number of failures that count; `reason` is that of the last failure, or of setting it aside.
    `isolation` is the way it is retried: with others, in a file of its own, in a small group, or
    alone. `correlation_id` is that of the first request that brought it.
    """

    receipt: Receipt
    user: str
    bytes: int
    tries: int
    reason: str | None = None
    correlation_id: str = ""
    isolation: Isolation = "none"


class ReplayResult(Struct, frozen=True):
    """The numbers of set-aside exports that are on their way again, and that failed again."""

    again: int
    failed: int


class AbandonResult(Struct, frozen=True):
    """The number of set-aside exports that were discarded."""

    abandoned: int


class ReceiptPage(Struct, frozen=True):
    """A page of receipts, newest first. `next_cursor` is None on the last page."""

    receipts: tuple[Receipt, ...]
    next_cursor: str | None = None


class JournalPage(Struct, frozen=True):
    """A page of the journal, newest first, and the number of all exports by status.

    `before` is the cursor of the next page. `looked_at` is the number of exports searched, if the
    search ended before the oldest one.
    """

    totals: Mapping[Status, int]
    entries: tuple[JournalEntry, ...]
    before: int | None = None
    looked_at: int | None = None
