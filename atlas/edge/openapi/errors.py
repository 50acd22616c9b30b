"""The error responses of the public listener: one for each status, with its codes and headers."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec

from atlas.core import errors
from atlas.core.error_reply import describe
from atlas.core.errors import AtlasError, RateLimited
from atlas.edge.context import JSON, PROBLEM
from atlas.edge.error_responses import build_problem
from atlas.edge.openapi.examples import BATCH_REJECTED, ID, build_error, encode
from atlas.edge.openapi.schemas import build_ref

Json = dict[str, Any]

AT = datetime(2026, 1, 2, 12, 0, 1, tzinfo=UTC)
ADVICE = {
    400: "The request is invalid; sending it again will not help.",
    401: "The token is missing, expired, or not accepted.",
    403: "The token lacks the required scope.",
    404: "You have no such receipt.",
    408: "The request arrived too slowly; send it again.",
    410: "The person's data were erased while the request waited. Ask before you send more.",
    413: "The body, or one export in it, is too large; split it.",
    415: "The media type or encoding is not supported.",
    422: "The `Idempotency-Key` was used for another export.",
    429: "Too many requests of this user; send the same again after `Retry-After`.",
    431: "The headers are too large.",
    500: "A bug in Atlas; send the same again after `Retry-After`.",
    503: "Temporarily unavailable; send the same again after `Retry-After`.",
}
NAMES = {  # of RFC 9110 and RFC 6585; http.HTTPStatus has other ones in each version of Python
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    408: "RequestTimeout",
    410: "Gone",
    413: "ContentTooLarge",
    415: "UnsupportedMediaType",
    422: "UnprocessableContent",
    429: "TooManyRequests",
    431: "RequestHeaderFieldsTooLarge",
    500: "InternalServerError",
    503: "ServiceUnavailable",
}
UPLOADS_ONLY = {  # codes that no other route has
    *("INVALID_NDJSON", "TOO_MANY_CHUNKS", "BATCH_UPLOAD_FAILED"),
    "FOUNDRY_ERROR",
}
WITH_CHUNKS = {400, 408, 410, 413, 422, 500, 503}  # may come after chunks were processed

HEADERS = {
    "X-Correlation-Id": (
        "Names this request in the log of Atlas.",
        {"type": "string", "maxLength": 128},
        ID,
    ),
    "Retry-After": ("Seconds to wait before a retry.", {"type": "integer", "format": "int32"}, 5),
    "Location": (
        "The path of the receipt.",
        {"type": "string", "format": "uri-reference"},
        "/api/v1/healthkit/exports/cfa7aae4",
    ),
    "Idempotency-Replayed": (
        "`true` if the same was sent before, and nothing was added; else absent.",
        {"type": "string", "enum": ["true"]},
        "true",
    ),
    "WWW-Authenticate": (
        "The challenge (RFC 6750, RFC 9449).",
        {"type": "string"},
        'Bearer realm="atlas", error="invalid_token", DPoP algs="ES256"',
    ),
    "DPoP-Nonce": (
        "The nonce for the next proof, if the challenge is `use_dpop_nonce`.",
        {"type": "string"},
        "AAAAAGkrcgBx0mI3wq9dU0b4pQJ2Xg5e",
    ),
    "RateLimit-Limit": ("Requests per window.", {"type": "integer", "format": "int32"}, 100),
    "RateLimit-Remaining": ("Requests left.", {"type": "integer", "format": "int32"}, 0),
    "RateLimit-Reset": (
        "Seconds until a request is allowed.",
        {"type": "integer", "format": "int32"},
        1,
    ),
    "RateLimit-Policy": ("The limit, and its window in seconds.", {"type": "string"}, "100;w=60"),
}
HEADERS_BY_STATUS = {
    401: ["WWW-Authenticate", "DPoP-Nonce"],
    403: ["WWW-Authenticate"],
    429: ["Retry-After", *(name for name in HEADERS if name.startswith("RateLimit"))],
    500: ["Retry-After"],
    503: ["Retry-After"],
}


def list_errors() -> list[AtlasError]:
    """List one error for each code, by status and code."""
    made: dict[str, AtlasError] = {}
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, AtlasError) and "code" in vars(kind):
            made[kind.code] = RateLimited(100, 60, 1.0) if kind is RateLimited else kind()
    return sorted(made.values(), key=lambda error: (error.status, error.code))


def describe_headers(names: Iterable[str]) -> Json:
    """Refer to these headers, and to those of every response."""
    return {name: {"$ref": f"#/components/headers/{name}"} for name in ("X-Correlation-Id", *names)}


def build_headers() -> Json:
    return {
        name: {"description": about, "schema": schema, "example": example}
        for name, (about, schema, example) in HEADERS.items()
    }


def name_response(status: int, is_upload: bool) -> str:
    prefix = "Upload" if is_upload and status in WITH_CHUNKS else ""
    return prefix + NAMES[status]


def refer_to_errors(*statuses: int, is_upload: bool = False) -> Json:
    return {
        str(status): {"$ref": f"#/components/responses/{name_response(status, is_upload)}"}
        for status in statuses
    }


def build_error_responses() -> Json:
    """Build the responses of all statuses; uploads have their own ones."""
    result: Json = {}
    for status in ADVICE:
        result[name_response(status, False)] = describe_error(status, False)
        if status in WITH_CHUNKS:
            result[name_response(status, True)] = describe_error(status, True)
    return dict(sorted(result.items()))


def describe_error(status: int, is_upload: bool) -> Json:
    """Describe the response of a status, with an example of each code."""
    has_chunks = is_upload and status in WITH_CHUNKS
    possible = [
        error
        for error in list_errors()
        if error.status == status and (is_upload or error.code not in UPLOADS_ONLY)
    ]
    details = {error.code: describe(error, ID, AT, lambda: 0.0) for error in possible}
    replies = {code: {"value": build_error(detail)} for code, detail in details.items()}
    if "BATCH_UPLOAD_FAILED" in replies:
        replies["BATCH_UPLOAD_FAILED"] = {"value": encode(BATCH_REJECTED)}
    first = possible[0]
    problem = msgspec.to_builtins(build_problem(first, details[first.code]))
    codes = " ".join(f"`{error.code}`" for error in possible)
    return {
        "description": f"{ADVICE[status]} Codes: {codes}.",
        "headers": describe_headers(HEADERS_BY_STATUS.get(status, [])),
        "content": {
            JSON: {
                "schema": build_ref("UploadErrorReply" if has_chunks else "ErrorReply"),
                "examples": replies,
            },
            PROBLEM: {"schema": build_ref("Problem"), "example": problem},
        },
    }
