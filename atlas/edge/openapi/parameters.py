"""The parameters of the public routes: request headers, path and query."""

from typing import Any

from atlas.edge.openapi import examples
from atlas.edge.receipts import PAGE_MAX

Json = dict[str, Any]
SECURITY: list[Json] = [{"auth0": []}, {"dpop": []}]  # a token, or a bound one with its proof
Parameters = dict[str, tuple[str, Json, object]]  # by name: a description, a schema, an example

UPLOAD: Parameters = {
    "Idempotency-Key": (
        "A UUID that names this export or batch, also on each retry. Other bytes under it get 422.",
        {"type": "string", "maxLength": 255, "pattern": "^[!-~]*$"},
        "5d1f0c1e-7c39-4e0b-9b53-0f6c64e8a1b2",
    ),
    "Prefer": (
        "`respond-async`: do not wait for the commit. `wait=SECONDS`: wait, at most 50.",
        {"type": "string"},
        "respond-async",
    ),
    "Content-Encoding": (
        "The compression of the body.",
        {"$ref": "#/components/schemas/ContentEncoding"},
        "identity",
    ),
}
STREAM: Parameters = {
    "Atlas-Device": (
        "Only for a stream, instead of `device`: UTF-8, or percent-encoded.",
        {"type": "string"},
        "iPhone",
    ),
    "Atlas-Timestamp": (
        "Only for a stream, instead of `timestamp`: the same on each retry.",
        {"type": "string"},  # generators cannot put a date into a header
        examples.TIME,
    ),
    "Atlas-Record-Count": (
        "Only for a stream, instead of `recordCount`.",
        {"type": "integer", "format": "int64", "minimum": 0, "maximum": 999_999_999},
        1,
    ),
}
CORRELATION: Parameters = {
    "X-Correlation-Id": (
        "A name of this request in the logs of app and service. The reply returns it.",
        {"type": "string", "maxLength": 128, "pattern": "^[ -~]*$"},
        examples.ID,
    ),
}
RECEIPT: Parameters = {
    "id": ("The `receipt_id` of a reply.", {"type": "string"}, examples.RECEIPT_ID),
}
RECEIPTS: Parameters = {
    "key": (
        "Only what was sent under this `Idempotency-Key`.",
        {"type": "string"},
        "5d1f0c1e-7c39-4e0b-9b53-0f6c64e8a1b2",
    ),
    "limit": (
        "The number of receipts per page.",
        {"type": "integer", "format": "int32", "minimum": 1, "maximum": PAGE_MAX, "default": 50},
        50,
    ),
    "cursor": ("`next_cursor` of the page before.", {"type": "string"}, None),
}


def describe_parameters(place: str, parameters: Parameters) -> list[Json]:
    """Describe parameters; those of a path are required."""
    result = []
    for name, (about, schema, example) in parameters.items():
        parameter: Json = {"in": place, "name": name, "description": about, "schema": schema}
        if place == "path":
            parameter["required"] = True
        if example is not None:
            parameter["example"] = example
        result.append(parameter)
    return result
