"""Builds the responses to uploads and to queries for receipts."""

from collections.abc import Sequence

import msgspec
from starlette.responses import Response

from atlas.core import identifiers
from atlas.core.errors import AtlasError, BatchRejected, Rejected, Unavailable
from atlas.core.identifiers import API_PREFIX
from atlas.core.messages import Receipt
from atlas.edge.api_types import (
    NULL,
    BatchReply,
    ChunkError,
    DeclaredFields,
    ExportReply,
    Outcome,
    ReplyContext,
)
from atlas.edge.error_responses import ErrorResponses, build_json_response


def build_response(
    reply: ExportReply | BatchReply,
    outcomes: Sequence[Outcome],
    errors: ErrorResponses,
    stream_id: str | None = None,
) -> Response:
    """Build a 200, 202 or 207, with its headers.

    The Location of a 202 is the receipt of `stream_id`, or the first that is not committed.
    """
    status, headers = choose_status(outcomes), dict[str, str]()
    safe = [outcome for outcome in outcomes if isinstance(outcome, Receipt)]
    if safe and len(safe) == len(outcomes) and all(each.replayed for each in safe):
        headers["Idempotency-Replayed"] = "true"
    if status == 202:
        pending = next(each for each in safe if each.status != "committed")
        headers["Location"] = f"{API_PREFIX}/exports/{stream_id or pending.id}"
        headers["Retry-After"] = str(errors.compute_retry_after(Unavailable()))
    return build_json_response(reply, status, headers)


def build_export_reply(
    receipt: Receipt, context: ReplyContext, declared: DeclaredFields | None = None
) -> ExportReply:
    """Build the reply to one export. `declared` is None if the export is only queried."""
    is_committed = receipt.status == "committed"
    warnings = declared.find_warnings(receipt.received) if declared else ()
    if receipt.status == "set_aside":
        warnings += ("The export could not be processed. It is stored, and shown to the operator.",)
    return ExportReply(
        success=True,
        dataset_rid=context.dataset_rid,
        records_ingested=receipt.ingested,
        dataset_records_created=receipt.ingested if is_committed else 0,
        file_path=(receipt.path or None) if is_committed else None,
        file_format=identifiers.detect_format(receipt.path),
        transaction_rid=receipt.transaction,
        ingestion_timestamp=identifiers.format_timestamp(receipt.at),
        correlation_id=context.correlation_id,
        manifest=declared.manifest if declared else NULL,
        status=receipt.status,
        receipt_id=receipt.id,
        records_received=receipt.received,
        records_rejected=receipt.rejected,
        rejects=receipt.rejects,
        warnings=warnings,
        replayed=receipt.replayed,
    )


def build_batch_reply(
    outcomes: Sequence[Outcome],
    declared: Sequence[DeclaredFields | None],
    context: ReplyContext,
) -> BatchReply:
    results: list[ExportReply] = []
    errors: list[ChunkError] = []
    rows: dict[str, int] = {}
    for index, (outcome, declared_fields) in enumerate(zip(outcomes, declared, strict=True)):
        if isinstance(outcome, AtlasError):
            error = ChunkError(
                chunk_index=index,
                error=str(outcome),
                code=outcome.code,
                retryable=outcome.retryable,
                details=outcome.details,
            )
            errors.append(error)
        else:
            rows[outcome.id] = outcome.ingested
            reply = build_export_reply(outcome, context, declared_fields)
            results.append(msgspec.structs.replace(reply, chunk_index=index))
    return BatchReply(
        success=not errors,
        dataset_rid=context.dataset_rid,
        chunks_processed=len(outcomes),
        chunks_successful=len(results),
        chunks_failed=len(errors),
        total_records=sum(rows.values()),
        upload_results=tuple(results),
        errors=tuple(errors),
        timestamp=identifiers.format_timestamp(context.answered_at),
        correlation_id=context.correlation_id,
    )


def build_stream_reply(
    outcomes: Sequence[Outcome],
    context: ReplyContext,
    stream_id: str | None,
    warnings: tuple[str, ...] = (),
    safe_bytes: int | None = None,
) -> BatchReply:
    reply = build_batch_reply(outcomes, [None] * len(outcomes), context)
    return msgspec.structs.replace(
        reply, receipt_id=stream_id, warnings=warnings, safe_bytes=safe_bytes
    )


def choose_status(outcomes: Sequence[Outcome]) -> int:
    """Return 200 if all are committed, 202 if all are safe, 207 if some were rejected."""
    if any(isinstance(outcome, AtlasError) for outcome in outcomes):
        return 207
    committed = [isinstance(each, Receipt) and each.status == "committed" for each in outcomes]
    return 200 if all(committed) else 202


def find_batch_error(outcomes: Sequence[Outcome]) -> AtlasError | None:
    """Return the error of a whole batch; None if each chunk is answered for itself.

    One error that is our fault makes the whole batch fail. Otherwise it fails only if all chunks
    were rejected.
    """
    errors = [outcome for outcome in outcomes if isinstance(outcome, AtlasError)]
    if our_errors := [error for error in errors if not isinstance(error, Rejected)]:
        unavailable = [error for error in our_errors if isinstance(error, Unavailable)]
        return max(unavailable, key=lambda error: error.retry_seconds or 0, default=our_errors[0])
    if len(errors) < len(outcomes):
        return None
    statuses = {error.status for error in errors}
    return BatchRejected(statuses.pop() if len(statuses) == 1 else 400)
