"""Builds the answers to uploads and to queries for receipts."""

from collections.abc import Sequence

import msgspec
from starlette.responses import Response

from atlas.core import names
from atlas.core.errors import AtlasError, BatchRejected, Rejected, Unavailable
from atlas.core.messages import Receipt
from atlas.core.names import API_PREFIX
from atlas.edge import wire
from atlas.edge.error_responses import ErrorResponses, json


def respond(
    reply: wire.ExportReply | wire.BatchReply,
    outcomes: Sequence[wire.Outcome],
    errors: ErrorResponses,
    whole: str | None = None,
) -> Response:
    """Build a 200, 202 or 207, with the headers that tell a client what to do next.

    Location names the receipt `whole`, or else the first that is not committed.
    """
    status, headers = status_of(outcomes), dict[str, str]()
    safe = [outcome for outcome in outcomes if isinstance(outcome, Receipt)]
    if safe and len(safe) == len(outcomes) and all(each.replayed for each in safe):
        headers["Idempotency-Replayed"] = "true"
    if status == 202:
        waits = next(each for each in safe if each.status != "committed")
        headers["Location"] = f"{API_PREFIX}/exports/{whole or waits.id}"
        headers["Retry-After"] = str(errors.retry_after(Unavailable()))
    return json(reply, status, headers)


def export_reply(
    receipt: Receipt, context: wire.Context, declared: wire.DeclaredFields | None = None
) -> wire.ExportReply:
    """`manifest` and `warnings` are about this request only, and absent without one."""
    is_committed = receipt.status == "committed"
    warnings = declared.warnings(receipt.received) if declared else ()
    if receipt.status == "set_aside":
        warnings += ("It could not be processed; it is kept, and the operator sees it.",)
    return wire.ExportReply(
        success=True,
        dataset_rid=context.dataset_rid,
        records_ingested=receipt.ingested,
        dataset_records_created=receipt.ingested if is_committed else 0,
        file_path=(receipt.path or None) if is_committed else None,
        file_format=names.format_of(receipt.path),
        transaction_rid=receipt.transaction,
        ingestion_timestamp=names.timestamp(receipt.at),
        correlation_id=context.correlation_id,
        manifest=declared.manifest if declared else wire.NULL,
        status=receipt.status,
        receipt_id=receipt.id,
        records_received=receipt.received,
        records_rejected=receipt.rejected,
        rejects=receipt.rejects,
        warnings=warnings,
        replayed=receipt.replayed,
    )


def batch_reply(
    outcomes: Sequence[wire.Outcome],
    declared: Sequence[wire.DeclaredFields | None],
    context: wire.Context,
) -> wire.BatchReply:
    results: list[wire.ExportReply] = []
    errors: list[wire.ChunkError] = []
    rows: dict[str, int] = {}
    for index, (outcome, sent_along) in enumerate(zip(outcomes, declared, strict=True)):
        if isinstance(outcome, AtlasError):
            errors.append(
                wire.ChunkError(
                    chunk_index=index,
                    error=str(outcome),
                    code=outcome.code,
                    retryable=outcome.retryable,
                    details=outcome.details,
                )
            )
        else:
            rows[outcome.id] = outcome.ingested
            reply = export_reply(outcome, context, sent_along)
            results.append(msgspec.structs.replace(reply, chunk_index=index))
    return wire.BatchReply(
        success=not errors,
        dataset_rid=context.dataset_rid,
        chunks_processed=len(outcomes),
        chunks_successful=len(results),
        chunks_failed=len(errors),
        total_records=sum(rows.values()),
        upload_results=tuple(results),
        errors=tuple(errors),
        timestamp=names.timestamp(context.now),
        correlation_id=context.correlation_id,
    )


def stream_reply(
    outcomes: Sequence[wire.Outcome],
    context: wire.Context,
    whole: str | None,
    warnings: tuple[str, ...] = (),
    safe_bytes: int | None = None,
) -> wire.BatchReply:
    reply = batch_reply(outcomes, [None] * len(outcomes), context)
    return msgspec.structs.replace(
        reply, receipt_id=whole, warnings=warnings, safe_bytes=safe_bytes
    )


def status_of(outcomes: Sequence[wire.Outcome]) -> int:
    """200 if all are committed, 202 if all are safe, 207 if some were refused."""
    if any(isinstance(outcome, AtlasError) for outcome in outcomes):
        return 207
    committed = [isinstance(each, Receipt) and each.status == "committed" for each in outcomes]
    return 200 if all(committed) else 202


def batch_error(outcomes: Sequence[wire.Outcome]) -> AtlasError | None:
    """The error of a whole batch: one failed by our fault, or all by the sender's."""
    errors = [outcome for outcome in outcomes if isinstance(outcome, AtlasError)]
    if ours := [error for error in errors if not isinstance(error, Rejected)]:
        waits = [error for error in ours if isinstance(error, Unavailable)]
        return max(waits, key=lambda error: error.retry_seconds or 0, default=ours[0])
    if len(errors) < len(outcomes):
        return None
    statuses = {error.status for error in errors}
    return BatchRejected(statuses.pop() if len(statuses) == 1 else 400)
