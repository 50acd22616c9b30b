"""Descriptions and formats of the public types, for the developers of an app.

The docstrings of the types are for those who change Atlas. `build_schemas` fails if a text names a
field that does not exist, and a test demands a text for each field.
"""

from dataclasses import dataclass
from typing import Any

FieldText = str | dict[str, Any]


@dataclass(frozen=True, slots=True)
class TypeText:
    """The description of a type, and of its fields: a text, or keywords with one."""

    about: str
    fields: dict[str, FieldText]


def describe_time(text: str) -> FieldText:
    return {"description": text, "format": "date-time"}


def describe_index(text: str) -> FieldText:
    return {"description": text, "format": "int32", "minimum": 0}


def describe_count(text: str) -> FieldText:
    return {"description": text, "minimum": 0}


def refer_to(name: str, text: str) -> FieldText:
    """Refer to a schema. OpenAPI 3.0 ignores everything next to a bare $ref."""
    return {"allOf": [{"$ref": f"#/components/schemas/{name}"}], "description": text}


REJECTS_MAX = 20  # a reply lists no more
CORRELATION_ID: FieldText = {
    "description": "Names this request in the log of Atlas: the `X-Correlation-Id` as sent, or a"
    " new UUID.",
    "maxLength": 128,
}
CODE = refer_to("ErrorCode", "The reason, for programs.")
RETRYABLE = (
    "True if the same request can succeed later; after `TOKEN_EXPIRED`, with a fresh token. If"
    " false, do not send it again."
)
OPTIONS: FieldText = {
    "description": "Ignored. Older apps send it.",
    "type": "object",
    "additionalProperties": True,
    "deprecated": True,
}
DATASET = "The Foundry dataset."
DETAILS: FieldText = {
    "description": "The first rejected lines, if no line is valid.",
    "maxItems": REJECTS_MAX,
}

TEXTS = {
    "ExportBody": TypeText(
        "One export: lines of JSON, one HealthKit sample each, as base64. Send exactly the same"
        " fields again when you retry: user, `device`, `timestamp` and the lines identify it.",
        {
            "rawhealthkit": {
                "description": "The lines, each a JSON object, encoded as base64 or base64url.",
                "type": "string",
                "format": "byte",
            },
            "timestamp": {
                "description": "The time at which the export was made; never that of a retry.",
                "type": "string",
                "format": "date-time",
            },
            "device": {
                "description": "A name of the phone, such as `iPhone`.",
                "type": "string",
            },
            "recordCount": {
                "description": "The number of lines. Atlas warns if it received another number.",
                "type": "integer",
                "format": "int64",
                "minimum": 0,
            },
            "manifest": refer_to("Manifest", "The reply returns it unchanged."),
            "options": OPTIONS,
        },
    ),
    "BatchBody": TypeText(
        "Several exports. A chunk that is rejected does not affect the others.",
        {
            "chunks": {
                "description": "The exports.",
                "items": {"$ref": "#/components/schemas/ExportBody"},
            },
            "options": OPTIONS,
        },
    ),
    "ExportReply": TypeText(
        "The state of one export. `records_received` is always `records_ingested` +"
        " `records_rejected`.",
        {
            "chunkIndex": describe_index(
                "Only in a batch or a stream: the index of the chunk or part."
            ),
            "success": "Always true.",
            "dataset_rid": DATASET,
            "records_ingested": describe_count("The number of valid lines: each becomes a row."),
            "dataset_records_created": describe_count(
                "The number of rows that are in the dataset now: 0 until the commit."
            ),
            "file_path": "The path of the rows in the dataset; null until the commit.",
            "file_format": refer_to("FileFormat", "The format; `ndjson` until the commit."),
            "transaction_rid": "The Foundry transaction that has committed the rows; null until"
            " then.",
            "ingestion_timestamp": describe_time("The time at which Atlas accepted the export."),
            "correlationId": CORRELATION_ID,
            "manifest": {
                "description": "The manifest of this request; null if it had none.",
                "type": "object",
                "additionalProperties": True,
                "nullable": True,
            },
            "status": refer_to("ExportStatus", "The state of the export."),
            "receipt_id": "The id of the receipt: see `getReceipt`.",
            "records_received": describe_count("The number of lines that are not blank."),
            "records_rejected": describe_count("The number of lines that became no row."),
            "rejects": {
                "description": "The first rejected lines. Do not send them again.",
                "maxItems": REJECTS_MAX,
            },
            "warnings": "Problems that a developer should look at, in English.",
            "replayed": "True if the same export was sent before. No row was added.",
        },
    ),
    "Reject": TypeText(
        "A line that became no row.",
        {
            "line": {"description": "The number of the line, from 1.", "minimum": 1},
            "reason": "The reason, in English. It never quotes the line.",
        },
    ),
    "ChunkError": TypeText(
        "The error of one chunk of a batch, or of one part of a stream.",
        {
            "chunkIndex": describe_index("The index of the chunk or part."),
            "error": "The reason, in English.",
            "code": CODE,
            "retryable": RETRYABLE,
            "details": DETAILS,
        },
    ),
    "BatchReply": TypeText(
        "The state of the chunks of a batch, or of the parts of a stream.",
        {
            "success": "True if no chunk failed.",
            "dataset_rid": DATASET,
            "chunks_processed": describe_count("The number of chunks."),
            "chunks_successful": describe_count("The number of chunks that are stored."),
            "chunks_failed": describe_count("The number of chunks in `errors`."),
            "total_records": describe_count(
                "The number of rows; those of equal chunks count once."
            ),
            "upload_results": "The chunks that are stored, in their order.",
            "errors": "The chunks that failed, in their order.",
            "timestamp": describe_time("The time of this reply."),
            "correlationId": CORRELATION_ID,
            "error": "The error of the request as a whole, if it failed.",
            "receipt_id": "Only for a stream: the id of its receipt.",
            "warnings": "Problems that a developer should look at, in English.",
            "safe_bytes": describe_count(
                "Only for a stream: so many bytes from its start, after decoding, need not be sent"
                " again."
            ),
        },
    ),
    "ReceiptsReply": TypeText(
        "A page of receipts of the caller, newest first.",
        {
            "receipts": {"description": "The receipts.", "maxItems": 200},
            "next_cursor": "The `cursor` of the next page; null on the last one.",
            "receipt_id": "The receipt of a whole stream, if `key` names one.",
        },
    ),
    "ErrorReply": TypeText("A request that failed.", {"error": "The reason."}),
    "ErrorDetail": TypeText(
        "The reason why a request failed, and what to do.",
        {
            "code": CODE,
            "message": "The reason, in English, for developers. It never contains health data.",
            "correlationId": CORRELATION_ID,
            "timestamp": describe_time("The time of this reply."),
            "retryable": RETRYABLE,
            "retryAfter": {
                "description": "Seconds to wait before a retry, as in `Retry-After`.",
                "format": "int32",
                "minimum": 0,
            },
            "details": DETAILS,
        },
    ),
    "HealthReply": TypeText(
        "Atlas is running.",
        {
            "status": "Always `healthy`.",
            "service": "Always `atlas`.",
            "timestamp": describe_time("The time of this reply."),
            "version": "The version of Atlas.",
            "correlationId": CORRELATION_ID,
        },
    ),
    "ReadyReply": TypeText(
        "Whether Atlas can accept exports now.",
        {
            "status": "`ready` if all checks passed.",
            "checks": "The checks by name: `journal`, `keys` and `draining`.",
            "timestamp": describe_time("The time of this reply."),
            "correlationId": CORRELATION_ID,
        },
    ),
    "Check": TypeText(
        "The result of one check.",
        {"ok": "True if it passed.", "reason": "The reason why it failed, in English."},
    ),
}
