"""Holds replies, and the examples of a document, to an OpenAPI document."""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from openapi_schema_validator import OAS30Validator, oas30_format_checker

Json = dict[str, Any]

# of every response, or of HTTP itself
GENERAL_HEADERS = {
    *("cache-control", "connection", "content-length", "content-type", "date"),
    *("x-content-type-options", "content-security-policy", "referrer-policy"),
    *("cross-origin-opener-policy", "cross-origin-resource-policy", "x-accel-buffering"),
}


def resolve(document: Json, part: Any) -> Any:
    """Follow a reference."""
    if not (isinstance(part, dict) and "$ref" in part):
        return part
    for name in part["$ref"].removeprefix("#/").split("/"):
        document = document[name]
    return document


def walk_schemas(schema: Json, name: str = "") -> Iterator[tuple[str, Json]]:
    """Yield a schema and all schemas in it, with a name that says where they are."""
    yield name, schema
    for field, each in schema.get("properties", {}).items():
        yield from walk_schemas(each, f"{name}.{field}")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from walk_schemas(schema[key], f"{name}.{key}")
    for key in ("allOf", "oneOf", "anyOf"):
        for index, each in enumerate(schema.get(key, [])):
            yield from walk_schemas(each, f"{name}.{key}[{index}]")


def find_faults(document: Json, schema: Json, value: Any) -> list[str]:
    """List the differences between a value and its schema; an unknown field is one."""
    components = copy.deepcopy(document["components"])
    for kind in components["schemas"].values():
        if "properties" in kind:
            kind.setdefault("additionalProperties", False)
    # older versions of the checker want bytes for this format, and the example of a stream is text
    schema = {name: each for name, each in schema.items() if each != "binary"}
    validator = OAS30Validator(
        {"allOf": [schema], "components": components}, format_checker=oas30_format_checker
    )
    return [f"{each.json_path}: {each.message}" for each in validator.iter_errors(value)]


def find_undocumented(
    document: Json,
    operation: tuple[str, str],
    status: int,
    headers: Mapping[str, str],
    body: Any,
) -> list[str]:
    """List everything in a reply to an operation that the document does not describe."""
    path, method = operation
    responses = document["paths"][path][method]["responses"]
    if str(status) not in responses:
        return [f"{status} is not documented"]
    response = resolve(document, responses[str(status)])
    named = {name.lower(): each for name, each in response.get("headers", {}).items()}
    faults = [f"header {name}" for name in headers if name not in {*named, *GENERAL_HEADERS}]
    for name in named.keys() & headers.keys():
        schema, value = resolve(document, named[name])["schema"], headers[name]
        if schema["type"] == "integer" and value.isdigit():
            value = int(value)
        faults += find_faults(document, schema, value)
    media_type = headers["content-type"].partition(";")[0]
    if media_type not in response["content"]:
        return [*faults, f"{media_type} is not documented"]
    return faults + find_faults(document, response["content"][media_type]["schema"], body)
