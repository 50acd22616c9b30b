"""Examples of requests and replies, from the types in the code."""

import base64
from typing import Any

import msgspec

from atlas.core.error_reply import ErrorDetail, ErrorReply
from atlas.core.messages import Reject
from atlas.edge.api_types import (
    BatchReply,
    Check,
    ChunkError,
    ExportReply,
    HealthReply,
    ReadyReply,
    ReceiptsReply,
)

Json = dict[str, Any]

LINE = (
    '{"uuid":"6F9619FF-8B86-4D01-B42D-00CF4FC964FF","sampleType":"HKQuantityTypeIdentifierHeartRate",'
    '"startDate":"2026-01-02T11:59:00.000Z","endDate":"2026-01-02T11:59:05.000Z",'
    '"valueDouble":72,"unit":"count/min","sourceName":"Watch"}\n'
)
SHORT_LINE = b'{"uuid":"A1"}\n'  # a long base64 would tell nothing, and look like a secret
ID = "0c5a3f1e-7c39-4e0b-9b53-0f6c64e8a1b2"
TIME, ANSWERED_AT = "2026-01-02T12:00:00.000Z", "2026-01-02T12:00:01.000Z"
RECEIPT_ID = "cfa7aae4".ljust(64, "0")
DATASET = "ri.foundry.main.dataset.19102749-23e6-4fa8-827e-70eae2b94730"
TRANSACTION = "ri.foundry.main.transaction.0000002a-23e6-4fa8-827e-70eae2b94730"

EXPORT: Json = {
    "rawhealthkit": base64.b64encode(SHORT_LINE).decode(),
    "timestamp": TIME,
    "device": "iPhone",
    "recordCount": 1,
    "manifest": {"number": 1},
}
BATCH: Json = {"chunks": [EXPORT]}

COMMITTED = ExportReply(
    success=True,
    dataset_rid=DATASET,
    records_ingested=1,
    dataset_records_created=1,
    file_path="healthkit/raw/auth0|687a56be9811378240321ed6/2026-01-02T12-00-01-000Z.ndjson",
    file_format="ndjson",
    transaction_rid=TRANSACTION,
    ingestion_timestamp=ANSWERED_AT,
    correlation_id=ID,
    manifest=msgspec.Raw(b'{"number": 1}'),
    status="committed",
    receipt_id=RECEIPT_ID,
    records_received=1,
    records_rejected=0,
    rejects=(),
    warnings=(),
    replayed=False,
)
ACCEPTED = msgspec.structs.replace(
    COMMITTED, dataset_records_created=0, file_path=None, transaction_rid=None, status="accepted"
)
ERROR = ErrorDetail(
    code="BATCH_UPLOAD_FAILED",
    message="No chunk of the batch was accepted; `errors` has the reason for each.",
    correlation_id=ID,
    timestamp=ANSWERED_AT,
    retryable=False,
)
CHUNK_ERROR = ChunkError(
    chunk_index=1,
    error="No line of the export is a JSON object.",
    code="INVALID_NDJSON",
    retryable=False,
    details=(Reject(1, "not valid JSON"),),
)
CHUNK = msgspec.structs.replace(COMMITTED, chunk_index=0)
BATCH_COMMITTED = BatchReply(
    success=True,
    dataset_rid=DATASET,
    chunks_processed=1,
    chunks_successful=1,
    chunks_failed=0,
    total_records=1,
    upload_results=(CHUNK,),
    timestamp=ANSWERED_AT,
    correlation_id=ID,
)
BATCH_ACCEPTED = msgspec.structs.replace(
    BATCH_COMMITTED, upload_results=(msgspec.structs.replace(ACCEPTED, chunk_index=0),)
)
BATCH_IN_PART = msgspec.structs.replace(
    BATCH_COMMITTED, success=False, chunks_processed=2, chunks_failed=1, errors=(CHUNK_ERROR,)
)
BATCH_REJECTED = msgspec.structs.replace(
    BATCH_COMMITTED,
    success=False,
    chunks_successful=0,
    chunks_failed=1,
    total_records=0,
    upload_results=(),
    errors=(msgspec.structs.replace(CHUNK_ERROR, chunk_index=0),),
    error=ERROR,
)
STREAM_ID = f"whole-{RECEIPT_ID}"


def build_stream_example(reply: BatchReply) -> BatchReply:
    """Return the reply to a stream with the same parts."""
    return msgspec.structs.replace(reply, receipt_id=STREAM_ID, safe_bytes=len(LINE))


RECEIPTS = ReceiptsReply(
    receipts=(msgspec.structs.replace(COMMITTED, manifest=msgspec.Raw(b"null")),), next_cursor=None
)
HEALTHY = HealthReply(
    status="healthy", service="atlas", timestamp=ANSWERED_AT, version="1.0.0", correlation_id=ID
)
READY = ReadyReply(
    status="ready",
    checks={name: Check(ok=True) for name in ("journal", "keys", "draining")},
    timestamp=ANSWERED_AT,
    correlation_id=ID,
)
NOT_READY = msgspec.structs.replace(
    READY,
    status="not ready",
    checks=dict(READY.checks)
    | {"draining": Check(ok=False, reason="Atlas is shutting down. Send the same request again.")},
)


def encode(reply: object) -> Any:
    """Return a reply as JSON, as it is sent."""
    return msgspec.json.decode(msgspec.json.encode(reply))


def build_error(detail: ErrorDetail) -> Json:
    result: Json = encode(ErrorReply(error=detail))
    return result
