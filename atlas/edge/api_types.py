"""The public JSON, to the letter: what the app sends and what it is told.

The first nine fields of an answer and their order are fixed by the app in the field; OpenAPI is
made from these types.
"""

from datetime import datetime
from typing import Literal, TypeVar, cast

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType, field

from atlas.core.error_reply import ErrorDetail
from atlas.core.errors import JSON_ERRORS, AtlasError, Rejected
from atlas.core.messages import FileFormat, Receipt, Reject, Status

T = TypeVar("T")
Outcome = Receipt | AtlasError
NULL = Raw(b"null")
COUNT_MAX = 2**53


class ExportBody(Struct, frozen=True):
    """POST /export, and one chunk of POST /export/batch: lines of NDJSON as base64.

    What may be of any type is not made into objects: of a million empty lists they take 60 MiB.
    """

    rawhealthkit: str
    timestamp: Raw = field(default_factory=lambda: NULL)
    device: Raw = field(default_factory=lambda: NULL)
    record_count: Raw = field(default_factory=lambda: NULL, name="recordCount")
    manifest: Raw = field(default_factory=lambda: NULL)
    options: Raw = field(default_factory=lambda: NULL)

    def __post_init__(self) -> None:
        try:
            str(self.manifest, "utf-8")
        except UnicodeDecodeError:  # it is sent back as it came
            raise Rejected("The body has another shape: manifest is not UTF-8.") from None

    def text(self) -> bytes:
        """The base64. The decoder refuses what is not text."""
        return self.rawhealthkit.encode("utf-8", "surrogatepass")

    def declared_fields(self) -> "DeclaredFields":
        """The fields that an answer needs, without a reference to the body."""
        return DeclaredFields(
            device=decode_optional(self.device, str) or "",
            timestamp=decode_optional(self.timestamp, str) or "",
            record_count=decode_optional(self.record_count, int),
            manifest=self.manifest.copy(),
        )


class PlainExportBody(ExportBody, frozen=True):
    """The same of a body in which nothing is escaped: its base64 is not copied."""

    rawhealthkit: Raw  # type: ignore[assignment]

    def text(self) -> bytes:
        """A view of the body, which it keeps alive. The decoder takes it for bytes."""
        return cast("bytes", memoryview(self.rawhealthkit)[1:-1])


class DeclaredFields(Struct, frozen=True):
    """Fields that are sent along with the lines. Texts are as sent, "" if absent."""

    device: str
    timestamp: str
    record_count: int | None
    manifest: Raw

    def warnings(self, received: int) -> tuple[str, ...]:
        """Warnings for the sender of an accepted export."""
        declared = self.record_count
        return () if declared is None else count_warnings(declared, received)


class BatchBody(Struct, frozen=True):
    """POST /export/batch, as it is described; `batches` reads it."""

    chunks: tuple[Raw, ...]
    options: Raw = field(default_factory=lambda: NULL)


class ExportReply(Struct, frozen=True, kw_only=True):
    """How one export stands; in a batch, with its place there."""

    chunk_index: int | UnsetType = field(default=UNSET, name="chunkIndex")
    success: bool
    dataset_rid: str
    records_ingested: int
    dataset_records_created: int
    file_path: str | None
    file_format: FileFormat
    transaction_rid: str | None
    ingestion_timestamp: str
    correlation_id: str = field(name="correlationId")
    manifest: Raw
    status: Status
    receipt_id: str
    records_received: int
    records_rejected: int
    rejects: tuple[Reject, ...]
    warnings: tuple[str, ...]
    replayed: bool


class ChunkError(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why one chunk of a batch, or part of a stream, was not accepted."""

    chunk_index: int = field(name="chunkIndex")
    error: str
    code: str
    retryable: bool
    details: tuple[Reject, ...] = ()


class BatchReply(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How the chunks of a batch stand. `total_records` counts rows, those of equal chunks once.

    Of a stream, how its parts stand: `receipt_id` is where the whole can be asked for, and up to
    `safe_bytes` of it, after decoding, nothing need be sent again.
    """

    success: bool
    dataset_rid: str
    chunks_processed: int
    chunks_successful: int
    chunks_failed: int
    total_records: int
    upload_results: tuple[ExportReply, ...]
    errors: tuple[ChunkError, ...] = ()
    timestamp: str
    correlation_id: str = field(name="correlationId")
    error: ErrorDetail | None = None
    receipt_id: str | None = None
    warnings: tuple[str, ...] = ()
    safe_bytes: int | None = None


class ReceiptsReply(Struct, frozen=True, kw_only=True):
    """A page of the caller's receipts, newest first; of a stream, the id of the whole, too."""

    receipts: tuple[ExportReply, ...]
    next_cursor: str | None
    receipt_id: str | UnsetType = UNSET


class HealthReply(Struct, frozen=True, kw_only=True):
    """Atlas runs."""

    status: Literal["healthy"]
    service: Literal["atlas"]
    timestamp: str
    version: str
    correlation_id: str = field(name="correlationId")


class Check(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that must hold for an export to be accepted; if it does not, why."""

    ok: bool
    reason: str | None = None


class ReadyReply(Struct, frozen=True, kw_only=True):
    """Whether an export can be accepted now."""

    status: Literal["ready", "not ready"]
    checks: dict[str, Check]
    timestamp: str
    correlation_id: str = field(name="correlationId")


class ReplyContext(Struct, frozen=True):
    """Fields that all answers to one request share."""

    correlation_id: str
    dataset_rid: str
    answered_at: datetime


def count_warnings(declared: int, received: int) -> tuple[str, ...]:
    """A warning if the sender has counted other lines than were received."""
    shown = f"more than {COUNT_MAX}" if abs(declared) > COUNT_MAX else declared
    return () if declared == received else (f"recordCount said {shown}, received {received}",)


def decode_optional(value: Raw, kind: type[T]) -> T | None:
    """The decoded value; None if it is of another type, which counts as absent."""
    try:
        return msgspec.json.decode(value, type=kind)
    except JSON_ERRORS:
        return None
