"""The public HTTP interface of Atlas, generated from the types in the code."""

import base64
from typing import Any

import msgspec
from starlette.responses import Response
from starlette.types import Receive

from atlas.core.error_reply import ErrorReply
from atlas.core.identifiers import API_PREFIX
from atlas.edge.api_types import (
    BatchBody,
    BatchReply,
    ExportBody,
    ExportReply,
    HealthReply,
    ReadyReply,
    ReceiptsReply,
)
from atlas.edge.app import EdgeRoute
from atlas.edge.context import NDJSON, PROBLEM, RequestContext
from atlas.edge.error_responses import build_json_response
from atlas.edge.receipts import PAGE_MAX

Json = dict[str, Any]

RECEIPT_TYPES = ExportReply, BatchReply

HEADERS = {
    "Idempotency-Key": "Identifies this export or batch for as long as receipts are kept.",
    "Prefer": "respond-async, or wait=SECONDS (at most 50): how long to wait for the commit.",
    "X-Correlation-Id": "Returned as sent, and logged with this request.",
    "Content-Encoding": "gzip, deflate or zstd.",
}
STREAM_HEADERS = {  # replace the JSON fields
    "Atlas-Device": "UTF-8, or percent-encoded.",
    "Atlas-Timestamp": "The time of the export; must be the same on every retry.",
    "Atlas-Record-Count": "The number of lines that the sender has counted.",
}
STREAM = {  # without a type, as OpenAPI 3.1 describes non-JSON bodies
    "description": "The lines themselves. The response is that of a batch of the stream's parts.",
}
LINE = (
    '{"uuid":"6F9619FF-8B86-4D01-B42D-00CF4FC964FF","sampleType":"HKQuantityTypeIdentifierHeartRate",'
    '"startDate":"2026-01-02T11:59:00.000Z","endDate":"2026-01-02T11:59:05.000Z",'
    '"valueDouble":72,"unit":"count/min","sourceName":"Watch"}\n'
)
EXPORT = {
    "rawhealthkit": base64.b64encode(LINE.encode()).decode(),
    "timestamp": "2026-01-02T12:00:00.000Z",
    "device": "iPhone",
    "recordCount": 1,
    "manifest": {"number": 1},
}
EXAMPLES: dict[type, Json] = {ExportBody: EXPORT, BatchBody: {"chunks": [EXPORT]}}
REFUSALS = {
    "400": "The request is invalid; sending it again will not help.",
    "401": "The token is missing, expired, or not accepted.",
    "403": "The token lacks the required scope.",
    "408": "The body arrived too slowly.",
    "410": "The user's data were erased while the request waited.",
    "413": "The body or a chunk is too large.",
    "415": "The media type or encoding is not supported.",
    "422": "The Idempotency-Key was used for another export.",
    "429": "Too many requests from this user; send the same again after Retry-After.",
    "500": "A bug in Atlas; send the same again.",
    "503": "Temporarily unavailable; send the same again after Retry-After.",
}


def build_document(version: str) -> Json:
    """Build the OpenAPI document. Its schemas are the types of `api_types`."""
    types = [ExportBody, BatchBody, ExportReply, BatchReply, ReceiptsReply]
    types += [ErrorReply, HealthReply, ReadyReply]
    _, schemas = msgspec.json.schema_components(
        types, schema_hook=describe_any_value, ref_template="#/components/schemas/{name}"
    )
    schemas["BatchBody"]["properties"]["chunks"]["items"] = build_ref(ExportBody)
    export = describe_export(ExportBody, ExportReply)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Atlas", "version": version, "description": (__doc__ or "").strip()},
        "paths": {
            f"{API_PREFIX}/export": {"post": export | {"operationId": "postExport"}},
            f"{API_PREFIX}/ingest": {"post": export | {"operationId": "postIngest"}},
            f"{API_PREFIX}/export/batch": {
                "post": describe_export(BatchBody, BatchReply) | {"operationId": "postBatch"}
            },
            f"{API_PREFIX}/exports/{{id}}": {"get": describe_receipt()},
            f"{API_PREFIX}/exports": {"get": describe_receipts()},
            **{path: {"get": describe_health(path)} for path in ("/", "/health", "/health/live")},
            "/health/ready": {"get": describe_readiness()},
        },
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "auth0": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
            },
        },
    }


def describe_any_value(_kind: type) -> Json:
    """Describe a field that may have any type."""
    return {"description": "Any JSON value."}


def build_ref(kind: type) -> Json:
    return {"$ref": f"#/components/schemas/{kind.__name__}"}


def describe_response(text: str, *kinds: type) -> Json:
    refs = [build_ref(kind) for kind in kinds]
    schema = refs[0] if len(refs) == 1 else {"oneOf": refs}
    return {"description": text, "content": {"application/json": {"schema": schema}}}


def describe_refusals(*statuses: str) -> Json:
    responses = {}
    for status in statuses:
        responses[status] = describe_response(REFUSALS[status], ErrorReply)
        responses[status]["content"][PROBLEM] = {"schema": {"type": "object"}}
    return responses


def describe_export(body: type, reply: type) -> Json:
    bodies: Json = {"application/json": {"schema": build_ref(body), "example": EXAMPLES[body]}}
    kinds: tuple[type, ...] = (reply,)
    headers = HEADERS
    if body is ExportBody:
        bodies[NDJSON], kinds = {"schema": STREAM, "example": LINE}, RECEIPT_TYPES
        headers = HEADERS | STREAM_HEADERS
    responses = {
        "200": describe_response("The rows are in a committed Foundry transaction.", *kinds),
        "202": describe_response("Stored, and will be committed exactly once.", *kinds),
        "207": describe_response("Some chunks were rejected because of their content.", BatchReply),
    }
    return {
        "security": [{"auth0": []}],
        "parameters": [
            {"in": "header", "name": name, "description": text, "schema": {"type": "string"}}
            for name, text in headers.items()
        ],
        "requestBody": {"required": True, "content": bodies},
        "responses": responses | describe_refusals(*REFUSALS),
    }


def describe_receipt() -> Json:
    return {
        "operationId": "getReceipt",
        "security": [{"auth0": []}],
        "parameters": [
            {"in": "path", "name": "id", "required": True, "schema": {"type": "string"}}
        ],
        "responses": {
            "200": describe_response("The receipt of an export or a stream.", *RECEIPT_TYPES),
            "404": describe_response("You have no such receipt.", ErrorReply),
            **describe_refusals("401", "403", "429", "500", "503"),
        },
    }


def describe_receipts() -> Json:
    limit = {"type": "integer", "minimum": 1, "maximum": PAGE_MAX, "default": 50}
    parameters = {"key": {"type": "string"}, "limit": limit, "cursor": {"type": "string"}}
    return {
        "operationId": "getReceipts",
        "security": [{"auth0": []}],
        "parameters": [
            {"in": "query", "name": name, "schema": schema} for name, schema in parameters.items()
        ],
        "responses": {
            "200": describe_response("Your receipts, newest first.", ReceiptsReply),
            **describe_refusals("400", "401", "403", "429", "500", "503"),
        },
    }


def describe_health(path: str) -> Json:
    return {
        "operationId": "get" + (path.title().replace("/", "") or "Root"),
        "responses": {"200": describe_response("Atlas is running.", HealthReply)},
    }


def describe_readiness() -> Json:
    return {
        "operationId": "getHealthReady",
        "responses": {
            "200": describe_response("An export can be accepted now.", ReadyReply),
            "503": describe_response("No export can be accepted now; see the checks.", ReadyReply),
        },
    }


def build_route(version: str) -> EdgeRoute:
    """Build the route of the document."""
    document = build_document(version)

    async def get_document(_context: RequestContext, _receive: Receive) -> Response:
        return build_json_response(document, 200)

    return EdgeRoute("/openapi.json", GET=get_document)
