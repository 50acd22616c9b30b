"""The types of the public JSON, from which the OpenAPI document is generated.

The app depends on the first nine fields of `ExportReply` and on their order.
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
    """Body of POST /export, and one chunk of POST /export/batch: NDJSON as base64.

    Fields that may have any type stay undecoded: a million empty lists would take 60 MiB.
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
        except UnicodeDecodeError:  # it is returned unchanged, so it must be valid
            raise Rejected("The body does not match the schema: manifest is not UTF-8.") from None

    def get_text(self) -> bytes:
        """Return the base64. Its decoder rejects surrogates."""
        return self.rawhealthkit.encode("utf-8", "surrogatepass")

    def get_declared_fields(self) -> "DeclaredFields":
        """Decode the fields that a reply needs, without a reference to the body."""
        return DeclaredFields(
            device=decode_optional(self.device, str) or "",
            timestamp=decode_optional(self.timestamp, str) or "",
            record_count=decode_optional(self.record_count, int),
            manifest=self.manifest.copy(),
        )


class PlainExportBody(ExportBody, frozen=True):
    """An export body without JSON escapes, so that its base64 need not be copied."""

    rawhealthkit: Raw  # type: ignore[assignment]

    def get_text(self) -> bytes:
        """Return a view of the body, which it keeps alive. The decoder accepts it as bytes."""
        return cast("bytes", memoryview(self.rawhealthkit)[1:-1])


class DeclaredFields(Struct, frozen=True):
    """Fields that are sent with the lines. Texts are as sent, "" if absent."""

    device: str
    timestamp: str
    record_count: int | None
    manifest: Raw

    def find_warnings(self, received: int) -> tuple[str, ...]:
        declared = self.record_count
        return () if declared is None else compare_counts(declared, received)


class BatchBody(Struct, frozen=True):
    """Body of POST /export/batch, for OpenAPI only; `batches` parses it."""

    chunks: tuple[Raw, ...]
    options: Raw = field(default_factory=lambda: NULL)


class ExportReply(Struct, frozen=True, kw_only=True):
    """The state of one export; in a batch, with the index of its chunk."""

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
    """The error of one chunk of a batch, or of one part of a stream."""

    chunk_index: int = field(name="chunkIndex")
    error: str
    code: str
    retryable: bool
    details: tuple[Reject, ...] = ()


class BatchReply(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The state of the chunks of a batch, or of the parts of a stream.

    `total_records` counts rows, those of equal chunks once. For a stream, `receipt_id` names the
    receipt of the whole, and its first `safe_bytes`, after decoding, need not be sent again.
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
    """A page of the caller's receipts, newest first; `receipt_id` is that of a whole stream."""

    receipts: tuple[ExportReply, ...]
    next_cursor: str | None
    receipt_id: str | UnsetType = UNSET


class HealthReply(Struct, frozen=True, kw_only=True):
    """Atlas is running."""

    status: Literal["healthy"]
    service: Literal["atlas"]
    timestamp: str
    version: str
    correlation_id: str = field(name="correlationId")


class Check(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The result of one readiness check; `reason` says why it failed."""

    ok: bool
    reason: str | None = None


class ReadyReply(Struct, frozen=True, kw_only=True):
    """The readiness of Atlas to accept exports now."""

    status: Literal["ready", "not ready"]
    checks: dict[str, Check]
    timestamp: str
    correlation_id: str = field(name="correlationId")


class ReplyContext(Struct, frozen=True):
    """Fields that all replies to one request share."""

    correlation_id: str
    dataset_rid: str
    answered_at: datetime


def compare_counts(declared: int, received: int) -> tuple[str, ...]:
    """Warn if the declared count differs from the lines received."""
    if declared == received:
        return ()
    shown = f"more than {COUNT_MAX}" if abs(declared) > COUNT_MAX else declared
    return (f"recordCount is {shown}, lines received: {received}",)


def decode_optional(value: Raw, kind: type[T]) -> T | None:
    """Decode a value. None if it has another type, which counts as absent."""
    try:
        return msgspec.json.decode(value, type=kind)
    except JSON_ERRORS:
        return None
