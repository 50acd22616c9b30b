"""The description of the public listener, made from the types that it speaks."""

import base64
from typing import Any

import msgspec
from starlette.responses import Response
from starlette.types import Receive

from atlas.core.error_reply import ErrorReply
from atlas.core.names import API_PREFIX
from atlas.edge import wire
from atlas.edge.app import Path
from atlas.edge.context import NDJSON, PROBLEM, RequestContext
from atlas.edge.error_responses import json
from atlas.edge.receipts import PAGE_MAX

Json = dict[str, Any]

ONE_OR_PARTS = wire.ExportReply, wire.BatchReply

HEADERS = {
    "Idempotency-Key": "Names this export, or this batch, for as long as receipts are kept.",
    "Prefer": "respond-async, or wait=SECONDS (at most 50): how long to wait for the commit.",
    "X-Correlation-Id": "Echoed, and in every log line about this request.",
    "Content-Encoding": "gzip, deflate or zstd.",
}
OF_LINES = {  # in place of the fields of JSON
    "Atlas-Device": "UTF-8, or percent-encoded.",
    "Atlas-Timestamp": "As often as it is sent, the same.",
    "Atlas-Record-Count": "How many lines the sender has counted.",
}
STREAM = {  # of no type, as OpenAPI 3.1 has it for what is no JSON
    "description": "The lines themselves, however many; answered as a batch of its parts.",
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
EXAMPLES: dict[type, Json] = {wire.ExportBody: EXPORT, wire.BatchBody: {"chunks": [EXPORT]}}
REFUSALS = {
    "400": "The request is wrong and will stay wrong.",
    "401": "No token, an expired one, or one that is not accepted.",
    "403": "The token lacks the required scope.",
    "408": "The body came too slowly.",
    "410": "Its user was forgotten while it waited.",
    "413": "Too large.",
    "415": "Another media type or encoding than these.",
    "422": "The Idempotency-Key names another export.",
    "429": "Too many requests of this user; send the same again after Retry-After.",
    "500": "A bug of ours; send the same again.",
    "503": "Not now; send the same again after Retry-After.",
}


def description(version: str) -> Json:
    """The OpenAPI document. Every schema in it is a type of `wire`."""
    types = (
        wire.ExportBody,
        wire.BatchBody,
        wire.ExportReply,
        wire.BatchReply,
        wire.ReceiptsReply,
        ErrorReply,
        wire.HealthReply,
        wire.ReadyReply,
    )
    _, schemas = msgspec.json.schema_components(
        types, schema_hook=anything, ref_template="#/components/schemas/{name}"
    )
    schemas["BatchBody"]["properties"]["chunks"]["items"] = ref(wire.ExportBody)
    export = exporting(wire.ExportBody, wire.ExportReply)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Atlas", "version": version, "description": (__doc__ or "").strip()},
        "paths": {
            f"{API_PREFIX}/export": {"post": export | {"operationId": "postExport"}},
            f"{API_PREFIX}/ingest": {"post": export | {"operationId": "postIngest"}},
            f"{API_PREFIX}/export/batch": {
                "post": exporting(wire.BatchBody, wire.BatchReply) | {"operationId": "postBatch"}
            },
            f"{API_PREFIX}/exports/{{id}}": {"get": one_receipt()},
            f"{API_PREFIX}/exports": {"get": many_receipts()},
            **{path: {"get": healthy(path)} for path in ("/", "/health", "/health/live")},
            "/health/ready": {"get": readiness()},
        },
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "auth0": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
            },
        },
    }


def anything(_kind: type) -> Json:
    """A value of the sender's that Atlas takes whatever it is."""
    return {"description": "Any JSON value."}


def ref(kind: type) -> Json:
    return {"$ref": f"#/components/schemas/{kind.__name__}"}


def answer(text: str, *kinds: type) -> Json:
    refs = [ref(kind) for kind in kinds]
    schema = refs[0] if len(refs) == 1 else {"oneOf": refs}
    return {"description": text, "content": {"application/json": {"schema": schema}}}


def refusals(*statuses: str) -> Json:
    found = {}
    for status in statuses:
        found[status] = answer(REFUSALS[status], ErrorReply)
        found[status]["content"][PROBLEM] = {"schema": {"type": "object"}}
    return found


def exporting(body: type, reply: type) -> Json:
    bodies: Json = {"application/json": {"schema": ref(body), "example": EXAMPLES[body]}}
    kinds: tuple[type, ...] = (reply,)
    headers = HEADERS
    if body is wire.ExportBody:
        bodies[NDJSON], kinds = {"schema": STREAM, "example": LINE}, ONE_OR_PARTS
        headers = HEADERS | OF_LINES
    answers = {
        "200": answer("The rows stand in a committed Foundry transaction.", *kinds),
        "202": answer("Safe, and will be committed exactly once.", *kinds),
        "207": answer("Some chunks were refused, each by the sender's fault.", wire.BatchReply),
    }
    return {
        "security": [{"auth0": []}],
        "parameters": [
            {"in": "header", "name": name, "description": text, "schema": {"type": "string"}}
            for name, text in headers.items()
        ],
        "requestBody": {"required": True, "content": bodies},
        "responses": answers | refusals(*REFUSALS),
    }


def one_receipt() -> Json:
    return {
        "operationId": "getReceipt",
        "security": [{"auth0": []}],
        "parameters": [
            {"in": "path", "name": "id", "required": True, "schema": {"type": "string"}}
        ],
        "responses": {
            "200": answer("How the export stands, or each part of a stream.", *ONE_OR_PARTS),
            "404": answer("You have no such receipt.", ErrorReply),
            **refusals("401", "403", "429", "500", "503"),
        },
    }


def many_receipts() -> Json:
    limit = {"type": "integer", "minimum": 1, "maximum": PAGE_MAX, "default": 50}
    asked = {"key": {"type": "string"}, "limit": limit, "cursor": {"type": "string"}}
    return {
        "operationId": "getReceipts",
        "security": [{"auth0": []}],
        "parameters": [
            {"in": "query", "name": name, "schema": schema} for name, schema in asked.items()
        ],
        "responses": {
            "200": answer("Your receipts, newest first.", wire.ReceiptsReply),
            **refusals("400", "401", "403", "429", "500", "503"),
        },
    }


def healthy(path: str) -> Json:
    return {
        "operationId": "get" + (path.title().replace("/", "") or "Root"),
        "responses": {"200": answer("Atlas runs.", wire.HealthReply)},
    }


def readiness() -> Json:
    return {
        "operationId": "getHealthReady",
        "responses": {
            "200": answer("An export can be accepted now.", wire.ReadyReply),
            "503": answer("Not now; the checks say why.", wire.ReadyReply),
        },
    }


def path(version: str) -> Path:
    """The path of the document."""
    document = description(version)

    async def get(_context: RequestContext, _receive: Receive) -> Response:
        return json(document, 200)

    return Path("/openapi.json", GET=get)
