"""The document of the public listener, for the developers of an app."""

from typing import Any

import msgspec
from starlette.responses import Response
from starlette.types import Receive

from atlas.core.identifiers import API_PREFIX
from atlas.edge.app import EdgeRoute
from atlas.edge.context import JSON, NDJSON, RequestContext
from atlas.edge.openapi import examples, parameters
from atlas.edge.openapi.errors import (
    build_error_responses,
    build_headers,
    describe_headers,
    refer_to_errors,
)
from atlas.edge.openapi.parameters import SECURITY, describe_parameters
from atlas.edge.openapi.public_schemas import build_public_schemas
from atlas.edge.openapi.reports import describe_report
from atlas.edge.openapi.schemas import build_ref

Json = dict[str, Any]

VERSION = "3.0.3"
CHUNKS_MAX, BODY_BYTES_MAX = 64, 32 * 1024 * 1024  # the default settings
LICENCE = {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"}
ABOUT = (
    "Sends HealthKit samples to Atlas, which writes them to a Foundry dataset, each export exactly"
    " once.\n\n"
    "Send lines of JSON as `application/x-ndjson`, or as base64 in `application/json`. 200 and 202"
    " mean that the export is safe: do not send it again. After 408, 429, any 5xx, or no answer,"
    " send the same request again; after 401, with a fresh token. Any other 4xx is final:"
    " `retryable` says the same for programs.\n\n"
    "Ignore fields that you do not know: later versions may add some."
)
TAGS = [
    {"name": "uploads", "description": "Send exports."},
    {"name": "receipts", "description": "Find out what became of the exports of the caller."},
    {"name": "reports", "description": "Report what the phone itself sees."},
    {"name": "health", "description": "For load balancers and orchestrators; no token."},
]
ANYWHERE = 400, 408, 431, 500, 503
ALL_OF_UPLOADS = 400, 401, 403, 408, 410, 413, 415, 422, 429, 431, 500, 503


def build_document(
    version: str, chunks_max: int = CHUNKS_MAX, body_bytes_max: int = BODY_BYTES_MAX
) -> Json:
    """Build the document. The limits are those of the settings."""
    return {
        "openapi": VERSION,
        "info": {"title": "Atlas", "version": version, "description": ABOUT, "license": LICENCE},
        "servers": [{"url": "/", "description": "The server that has sent this document."}],
        "tags": TAGS,
        "paths": build_paths(),
        "components": {
            "schemas": build_public_schemas(chunks_max, body_bytes_max),
            "responses": build_error_responses(),
            "headers": build_headers(),
            "securitySchemes": {
                "auth0": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "An access token of Auth0 for the audience of Atlas.",
                },
                "dpop": {
                    "type": "http",
                    "scheme": "DPoP",
                    "description": "An access token that is bound to a key, with a proof of the"
                    " key in the header `DPoP` (RFC 9449).",
                },
            },
        },
    }


def build_paths() -> Json:
    return {
        f"{API_PREFIX}/export": {"post": describe_export("postExport", "Send one export")},
        f"{API_PREFIX}/ingest": {
            "post": describe_export("postIngest", "Send one export: the same as `postExport`")
        },
        f"{API_PREFIX}/export/batch": {"post": describe_batch()},
        f"{API_PREFIX}/exports/{{id}}": {"get": describe_receipt()},
        f"{API_PREFIX}/exports": {"get": describe_receipts()},
        f"{API_PREFIX}/reports": {"post": describe_report()},
        **{path: {"get": describe_health(path)} for path in ("/", "/health", "/health/live")},
        "/health/ready": {"get": describe_readiness()},
    }


def describe_export(operation_id: str, summary: str) -> Json:
    stream = examples.build_stream_example
    replies = {
        "200": (examples.COMMITTED, stream(examples.BATCH_COMMITTED)),
        "202": (examples.ACCEPTED, stream(examples.BATCH_ACCEPTED)),
    }
    return {
        "operationId": operation_id,
        "summary": summary,
        "description": "As JSON, the lines are base64 in `rawhealthkit`. As a stream"
        " (`application/x-ndjson`), the body is the lines themselves, up to 4 GiB, and headers"
        " carry the other fields: Atlas stores it in parts of 4 MiB as it arrives, and skips those"
        " that it already has when the same body is sent again.",
        "tags": ["uploads"],
        "security": SECURITY,
        "parameters": describe_parameters(
            "header", parameters.UPLOAD | parameters.STREAM | parameters.CORRELATION
        ),
        "requestBody": {
            "required": True,
            "description": "Compressed as `Content-Encoding` says.",
            "content": {
                JSON: {"schema": build_ref("ExportBody"), "example": examples.EXPORT},
                NDJSON: {
                    "schema": {
                        "type": "string",
                        "format": "binary",
                        "description": "Lines of JSON, one HealthKit sample each.",
                    },
                    "example": examples.LINE,
                },
            },
        },
        "responses": {
            **{
                status: describe_saved(status, "UploadReply", {"export": one, "stream": encode_all})
                for status, (one, encode_all) in replies.items()
            },
            "207": describe_saved("207", "BatchReply", {"stream": stream(examples.BATCH_IN_PART)}),
            **refer_to_errors(*ALL_OF_UPLOADS, is_upload=True),
        },
    }


def describe_batch() -> Json:
    return {
        "operationId": "postBatch",
        "summary": "Send several exports",
        "description": "Each chunk is an export of its own. After 503, send the whole batch again:"
        " chunks that are stored are not added twice.",
        "tags": ["uploads"],
        "security": SECURITY,
        "parameters": describe_parameters("header", parameters.UPLOAD | parameters.CORRELATION),
        "requestBody": {
            "required": True,
            "description": "Compressed as `Content-Encoding` says.",
            "content": {JSON: {"schema": build_ref("BatchBody"), "example": examples.BATCH}},
        },
        "responses": {
            "200": describe_saved("200", "BatchReply", {"batch": examples.BATCH_COMMITTED}),
            "202": describe_saved("202", "BatchReply", {"batch": examples.BATCH_ACCEPTED}),
            "207": describe_saved("207", "BatchReply", {"batch": examples.BATCH_IN_PART}),
            **refer_to_errors(*ALL_OF_UPLOADS, is_upload=True),
        },
    }


SAVED = {
    "200": ("The rows are in a committed Foundry transaction.", ["Idempotency-Replayed"]),
    "202": (
        "Stored, and will be committed exactly once. Do not send it again.",
        ["Idempotency-Replayed", "Location", "Retry-After"],
    ),
    "207": ("Some chunks were rejected because of their content; the others are stored.", []),
}


def describe_saved(status: str, schema: str, replies: dict[str, Any]) -> Json:
    about, headers = SAVED[status]
    return describe_reply(about, schema, replies, headers)


def describe_reply(
    about: str, schema: str, replies: dict[str, Any], headers: list[str] | None = None
) -> Json:
    shown = {name: {"value": examples.encode(reply)} for name, reply in replies.items()}
    return {
        "description": about,
        "headers": describe_headers(headers or []),
        "content": {JSON: {"schema": build_ref(schema), "examples": shown}},
    }


def describe_receipt() -> Json:
    replies = {
        "export": examples.RECEIPTS.receipts[0],
        "stream": examples.build_stream_example(examples.BATCH_COMMITTED),
    }
    return {
        "operationId": "getReceipt",
        "summary": "Get a receipt",
        "description": "For a stream, the receipts of all its parts.",
        "tags": ["receipts"],
        "security": SECURITY,
        "parameters": [
            *describe_parameters("path", parameters.RECEIPT),
            *describe_parameters("header", parameters.CORRELATION),
        ],
        "responses": {
            "200": describe_reply("The receipt.", "UploadReply", replies),
            **refer_to_errors(*sorted({401, 403, 404, 429, *ANYWHERE})),
        },
    }


def describe_receipts() -> Json:
    return {
        "operationId": "getReceipts",
        "summary": "List receipts",
        "description": "Newest first. `key` finds what was sent under an `Idempotency-Key`, even if"
        " no answer arrived.",
        "tags": ["receipts"],
        "security": SECURITY,
        "parameters": [
            *describe_parameters("query", parameters.RECEIPTS),
            *describe_parameters("header", parameters.CORRELATION),
        ],
        "responses": {
            "200": describe_reply("A page.", "ReceiptsReply", {"page": examples.RECEIPTS}),
            **refer_to_errors(*sorted({401, 403, 429, *ANYWHERE})),
        },
    }


def describe_health(path: str) -> Json:
    return {
        "operationId": "get" + (path.title().replace("/", "") or "Root"),
        "summary": "Check that Atlas is running",
        "description": "It does not check what a restart would not repair.",
        "tags": ["health"],
        "parameters": describe_parameters("header", parameters.CORRELATION),
        "responses": {
            "200": describe_reply(
                "Atlas is running.", "HealthReply", {"healthy": examples.HEALTHY}
            ),
            **refer_to_errors(*ANYWHERE),
        },
    }


def describe_readiness() -> Json:
    return {
        "operationId": "getHealthReady",
        "summary": "Check that Atlas can accept exports",
        "description": "Foundry does not matter: while it is down, exports are stored.",
        "tags": ["health"],
        "parameters": describe_parameters("header", parameters.CORRELATION),
        "responses": {
            "200": describe_reply(
                "An export can be accepted.", "ReadyReply", {"ready": examples.READY}
            ),
            "503": describe_reply(
                "No export can be accepted; see the checks.",
                "ReadyReply",
                {"not-ready": examples.NOT_READY},
            ),
            **refer_to_errors(400, 408, 431, 500),
        },
    }


def build_route(document: Json) -> EdgeRoute:
    """Build the route of the document."""
    text = msgspec.json.encode(document)

    async def get_document(_context: RequestContext, _receive: Receive) -> Response:
        return Response(text, media_type=JSON)

    return EdgeRoute("/openapi.json", GET=get_document)
