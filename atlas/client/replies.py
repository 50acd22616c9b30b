"""Parses the replies to uploads, and accounts for every line that was read."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec
from msgspec import Struct

from atlas.client.batches import PreparedBatch
from atlas.core.error_reply import ReceivedError, ReceivedReply
from atlas.core.errors import JSON_ERRORS, CommandError
from atlas.core.messages import Reject

RETRYABLE_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
REJECTS_SHOWN = 20
UNACCOUNTED = "The answer does not account for every line: is this Atlas?"


class CannotSend(CommandError):
    """Retrying will not help; the message says what to do."""


class RetryLater(Exception):
    """An attempt failed, and a later one may succeed.

    `seconds` is the Retry-After of the reply, if it had one. `safe_bytes` is the number of bytes
    of a stream that are stored already.
    """

    def __init__(self, reason: str, seconds: float | None = None, safe_bytes: int = 0) -> None:
        super().__init__(reason)
        self.seconds = seconds
        self.safe_bytes = safe_bytes


class StoredExport(NamedTuple):
    """An export that Atlas has stored, and the place of its rows once they are committed."""

    receipt_id: str | None
    dataset_rid: str | None
    transaction_rid: str | None
    file_path: str | None


@dataclass(slots=True)
class LineAccounting:
    """The outcome of every line: read = committed + accepted + rejected + unsent, at any moment.

    Lines that are being sent count as unsent until the reply arrives. `bytes` counts the bytes
    that were answered, of a stream those that were read.
    """

    read: int = 0
    committed: int = 0
    accepted: int = 0
    rejected: int = 0
    unsent: int = 0
    replayed: int = 0  # of the committed and accepted, those that were stored before
    bytes: int = 0
    rejects: list[tuple[int, str]] = field(default_factory=list)  # the first few: line or 0, reason
    exports: list[StoredExport] = field(default_factory=list)  # one for each chunk
    last_error: str | None = None

    @property
    def is_balanced(self) -> bool:
        return self.read == self.committed + self.accepted + self.rejected + self.unsent

    def record_rejected(self, count: int, rejects: Iterable[tuple[int, str]]) -> None:
        self.rejected += count
        self.rejects = sorted([*self.rejects, *rejects])[:REJECTS_SHOWN]


class SafeChunk(Struct):
    """A chunk that was committed or accepted."""

    index: int = msgspec.field(name="chunkIndex")
    status: str
    records_ingested: int
    records_rejected: int
    rejects: tuple[Reject, ...]
    replayed: bool
    receipt_id: str | None = None
    dataset_rid: str | None = None
    transaction_rid: str | None = None
    file_path: str | None = None


class FailedChunk(Struct):
    """A chunk that was rejected for good."""

    index: int = msgspec.field(name="chunkIndex")
    code: str
    error: str
    details: tuple[Reject, ...] = ()


class UploadReply(Struct):
    """The outcomes of the chunks of a batch, or of the parts of a stream."""

    upload_results: tuple[SafeChunk, ...]
    errors: tuple[FailedChunk, ...] = ()
    error: ReceivedError | None = None

    def covers(self, batch: PreparedBatch) -> bool:
        """True if each chunk is answered once, and each line of a safe chunk is counted."""
        indexes = [safe.index for safe in self.upload_results]
        indexes += [failed.index for failed in self.errors]
        return sorted(indexes) == list(range(len(batch.chunks))) and all(
            safe.records_ingested + safe.records_rejected == batch.chunks[safe.index].records
            for safe in self.upload_results
        )


def parse_response(status: int, headers: Mapping[str, str], body: bytes) -> UploadReply:
    """Parse the response to an upload. Raises RetryLater, CannotSend."""
    if status not in RETRYABLE_STATUSES:
        with suppress(*JSON_ERRORS):
            return msgspec.json.decode(body, type=UploadReply)
    reply = ReceivedReply(ReceivedError())
    with suppress(*JSON_ERRORS):
        reply = msgspec.json.decode(body, type=ReceivedReply)
    status_text = f"{status} {reply.error.code}".strip()
    if status in RETRYABLE_STATUSES:
        after = headers.get("Retry-After", "")
        seconds = float(after) if after.isdecimal() else None
        raise RetryLater(status_text, seconds, reply.safe_bytes)
    if "Location" in headers:
        raise CannotSend(
            f"{status_text}: Atlas is not at this address; it may be at {headers['Location']}."
        )
    raise CannotSend(f"{status_text}: {reply.error.message}")


def record(balance: LineAccounting, batch: PreparedBatch, reply: UploadReply) -> None:
    """Record the outcomes of a batch. Raises CannotSend if the reply does not cover it."""
    if not reply.covers(batch):
        raise CannotSend(UNACCOUNTED)
    balance.unsent -= batch.records
    balance.bytes += batch.bytes
    for safe in reply.upload_results:
        record_accepted(balance, safe, batch.chunks[safe.index].first - 1)
    for failed in reply.errors:
        chunk = batch.chunks[failed.index]
        reason = f"{failed.code}: {failed.error}"
        if chunk.records > 1:
            reason += f" This applies to all {chunk.records:,} lines from here."
        balance.record_rejected(chunk.records, [(chunk.first, reason)])


def record_accepted(balance: LineAccounting, safe: SafeChunk, lines_before: int = 0) -> None:
    """Record a safe chunk, whose line numbers in the reply do not count the `lines_before` it."""
    if safe.status == "committed":
        balance.committed += safe.records_ingested
    else:
        balance.accepted += safe.records_ingested
    if safe.replayed:
        balance.replayed += safe.records_ingested
    balance.exports.append(
        StoredExport(safe.receipt_id, safe.dataset_rid, safe.transaction_rid, safe.file_path)
    )
    rejects = ((lines_before + each.line, each.reason) for each in safe.rejects)
    balance.record_rejected(safe.records_rejected, rejects)
