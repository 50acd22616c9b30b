"""The schemas of the public document: the types in the code, and those that they only imply."""

from typing import Any, get_args

from atlas.core.error_reply import ErrorReply
from atlas.core.identifiers import FORMATS
from atlas.core.messages import Status
from atlas.edge.api_types import (
    BatchBody,
    BatchReply,
    ExportBody,
    ExportReply,
    HealthReply,
    ReadyReply,
    ReceiptsReply,
)
from atlas.edge.context import ENCODINGS
from atlas.edge.openapi.errors import list_errors
from atlas.edge.openapi.reports import REPORT_TEXTS
from atlas.edge.openapi.schemas import build_ref, build_schemas
from atlas.edge.openapi.texts import TEXTS
from atlas.edge.reports import ReportBody

Json = dict[str, Any]

UPLOAD_REPLY = {
    "description": "`ExportReply` for one export; `BatchReply` for a stream, with `receipt_id`.",
    "oneOf": [build_ref("ExportReply"), build_ref("BatchReply")],
}
MANIFEST = {
    "description": "Any object of the app.",
    "type": "object",
    "additionalProperties": True,
}
STATUS_TEXT = (
    "`accepted`: stored, and committed later. `committed`: in the dataset. `set_aside`: stored, but"
    " not processed; the operator sees it and can replay it. `abandoned`: set aside, then discarded"
    " by the operator."
)
ENUMERATIONS = {
    "ErrorCode": (
        {error.code for error in list_errors()},
        "The reason of an error, for programs. Each response lists its codes.",
    ),
    "ExportStatus": (get_args(Status), STATUS_TEXT),
    "FileFormat": (FORMATS, "The format of a file in the dataset."),
    "ContentEncoding": (
        {"identity", *ENCODINGS} - {"x-gzip"},
        "The compression of a body; `identity` is none.",
    ),
}


def build_public_schemas(chunks_max: int, body_bytes_max: int) -> Json:
    replies = ExportReply, BatchReply, ReceiptsReply, ErrorReply, HealthReply, ReadyReply
    requests = ExportBody, BatchBody, ReportBody
    schemas = build_schemas(requests, replies, {**TEXTS, **REPORT_TEXTS})
    schemas |= {
        name: {"type": "string", "enum": sorted(values), "description": about}
        for name, (values, about) in ENUMERATIONS.items()
    }
    schemas["Manifest"] = MANIFEST
    schemas["ExportBody"]["properties"]["rawhealthkit"]["maxLength"] = body_bytes_max
    schemas["BatchBody"]["properties"]["chunks"] |= {"minItems": 1, "maxItems": chunks_max}
    detail = schemas["ErrorDetail"]
    schemas["Problem"] = {
        "type": "object",
        "description": "An error as described in RFC 9457, for `Accept: application/problem+json`.",
        "properties": {
            "type": {"type": "string", "format": "uri", "description": "Names the code."},
            "title": {"type": "string", "description": "The code in words."},
            "status": {"type": "integer", "format": "int32", "description": "The status."},
            "detail": {"type": "string", "description": "The reason, in English."},
            **detail["properties"],
        },
        "required": ["type", "title", "status", "detail", *detail["required"]],
    }
    schemas["UploadErrorReply"] = {
        **schemas["BatchReply"],
        "description": "An upload that failed. If chunks of a batch or parts of a stream were"
        " processed before, it also has the fields of `BatchReply`.",
        "required": ["error"],
    }
    schemas["UploadReply"] = UPLOAD_REPLY
    return dict(sorted(schemas.items()))
