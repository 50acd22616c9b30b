"""From answers to a balance: every line that was read stands somewhere in it."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

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
    """Sending is of no use; the message says what to do."""


class RetryLater(Exception):
    """Not this time. `seconds` is when the service wants to hear from us, if it said so.

    Of a stream, so many bytes of it are safe all the same.
    """

    def __init__(self, reason: str, seconds: float | None = None, safe_bytes: int = 0) -> None:
        super().__init__(reason)
        self.seconds = seconds
        self.safe_bytes = safe_bytes


@dataclass(slots=True)
class LineAccounting:
    """What became of every line: read = committed + accepted + rejected + unsent, at any moment.

    What is on its way counts as unsent until an answer says where it stands.
    """

    read: int = 0
    committed: int = 0
    accepted: int = 0
    rejected: int = 0
    unsent: int = 0
    replayed: int = 0  # of the committed and accepted, those that stood before
    bytes: int = 0  # of what was answered
    rejects: list[tuple[int, str]] = field(default_factory=list)  # the first few: line or 0, reason
    last_error: str | None = None

    @property
    def is_balanced(self) -> bool:
        return self.read == self.committed + self.accepted + self.rejected + self.unsent

    def record_rejected(self, count: int, rejects: Iterable[tuple[int, str]]) -> None:
        self.rejected += count
        self.rejects = sorted([*self.rejects, *rejects])[:REJECTS_SHOWN]


class SafeChunk(Struct):
    """A chunk that was taken."""

    index: int = msgspec.field(name="chunkIndex")
    status: str
    records_ingested: int
    records_rejected: int
    rejects: tuple[Reject, ...]
    replayed: bool


class FailedChunk(Struct):
    """A chunk that never will be."""

    index: int = msgspec.field(name="chunkIndex")
    code: str
    error: str
    details: tuple[Reject, ...] = ()


class UploadReply(Struct):
    """What became of the chunks of a batch, or of the parts of a stream."""

    upload_results: tuple[SafeChunk, ...]
    errors: tuple[FailedChunk, ...] = ()
    error: ReceivedError | None = None

    def covers(self, sent: PreparedBatch) -> bool:
        """Whether every chunk has its place, and every line of a safe one is counted."""
        places = [safe.index for safe in self.upload_results]
        places += [failed.index for failed in self.errors]
        return sorted(places) == list(range(len(sent.chunks))) and all(
            safe.records_ingested + safe.records_rejected == sent.chunks[safe.index].records
            for safe in self.upload_results
        )


def parse_response(status: int, headers: Mapping[str, str], body: bytes) -> UploadReply:
    """What an answer says. Raises Again, CannotSend."""
    if status not in RETRYABLE_STATUSES:
        with suppress(*JSON_ERRORS):
            return msgspec.json.decode(body, type=UploadReply)
    refused = ReceivedReply(ReceivedError())
    with suppress(*JSON_ERRORS):
        refused = msgspec.json.decode(body, type=ReceivedReply)
    refusal = refused.error
    status_text = f"{status} {refusal.code}".strip()
    if status in RETRYABLE_STATUSES:
        after = headers.get("Retry-After", "")
        raise RetryLater(
            status_text, float(after) if after.isdecimal() else None, refused.safe_bytes
        )
    if "Location" in headers:
        raise CannotSend(
            f"{status_text}: Atlas is not there; perhaps it is at {headers['Location']}."
        )
    raise CannotSend(f"{status_text}: {refusal.message}")


def record(balance: LineAccounting, sent: PreparedBatch, answer: UploadReply) -> None:
    """Every line of a batch is committed, accepted or rejected. Raises CannotSend."""
    if not answer.covers(sent):
        raise CannotSend(UNACCOUNTED)
    balance.unsent -= sent.records
    balance.bytes += sent.bytes
    for safe in answer.upload_results:
        record_accepted(balance, safe, sent.chunks[safe.index].first - 1)
    for failed in answer.errors:
        chunk = sent.chunks[failed.index]
        more = f" So are all {chunk.records:,} from here." if chunk.records > 1 else ""
        balance.record_rejected(
            chunk.records, [(chunk.first, f"{failed.code}: {failed.error}{more}")]
        )


def record_accepted(balance: LineAccounting, safe: SafeChunk, lines_before: int = 0) -> None:
    """The answer numbers the lines of what it is about, before which there were so many."""
    if safe.status == "committed":
        balance.committed += safe.records_ingested
    else:
        balance.accepted += safe.records_ingested
    if safe.replayed:
        balance.replayed += safe.records_ingested
    rejects = ((lines_before + each.line, each.reason) for each in safe.rejects)
    balance.record_rejected(safe.records_rejected, rejects)
