"""JSON Schema of the types in the code, as OpenAPI 3.0 has it.

msgspec describes the types. It does not know which fields a reply always has, writes JSON Schema
2020-12, and takes the docstrings, which are for those who change the code.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct

from atlas.edge.openapi.texts import TypeText

Json = dict[str, Any]
StructType = type[Struct]


def build_ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def build_schemas(
    requests: Iterable[StructType],
    replies: Iterable[StructType],
    texts: Mapping[str, TypeText],
) -> Json:
    """Build the schemas of these types, and of all types in their fields, by name.

    The fields that a reply always has are required. A text that names no field is an error.
    """
    requests, replies = tuple(requests), tuple(replies)
    kinds = requests + replies
    _, described = msgspec.json.schema_components(
        kinds, schema_hook=lambda _raw: {}, ref_template=build_ref("{name}")["$ref"]
    )
    sent = {kind.__name__ for kind in find_structs(requests)}
    return {
        kind.__name__: describe_struct(
            kind, described[kind.__name__], kind.__name__ in sent, texts.get(kind.__name__)
        )
        for kind in sorted(find_structs(kinds), key=lambda kind: kind.__name__)
    }


def find_structs(kinds: Iterable[StructType]) -> set[StructType]:
    """Find these structs and all structs in their fields."""
    found: set[StructType] = set()
    for info in msgspec.inspect.multi_type_info(kinds):
        found.update(walk_structs(info, found))
    return found


def walk_structs(info: msgspec.inspect.Type, found: set[StructType]) -> Iterator[StructType]:
    if isinstance(info, msgspec.inspect.StructType):
        if info.cls not in found:
            found.add(info.cls)
            yield info.cls
            for field in info.fields:
                yield from walk_structs(field.type, found)
        return
    parts = [getattr(info, name, None) for name in ("item_type", "key_type", "value_type")]
    parts += [*getattr(info, "types", ()), *getattr(info, "item_types", ())]
    for part in parts:
        if isinstance(part, msgspec.inspect.Type):
            yield from walk_structs(part, found)


def describe_struct(
    kind: StructType, described: Json, is_request: bool, text: TypeText | None
) -> Json:
    """Describe a struct: the texts, and the fields that are always there."""
    properties, required = {}, []
    may_omit = kind.__struct_config__.omit_defaults or is_request
    for field in msgspec.structs.fields(kind):
        name = field.encode_name
        is_optional = not field.required and (may_omit or field.default is msgspec.UNSET)
        schema = convert(described["properties"][name], keeps_default=is_request)
        if schema.get("type") == "string" and mentions_time(field.type):
            schema["format"] = "date-time"
        if is_optional and field.default is None and not is_request:  # left out rather than null
            schema.pop("nullable", None)
        properties[name] = schema
        if not is_optional:
            required.append(name)
    result: Json = {"type": "object", "properties": properties}
    if required:
        result["required"] = required
    if text is not None:
        result["description"] = text.about
        for name, more in text.fields.items():
            properties[name] = add_text(properties[name], more)
    return result


def mentions_time(kind: object) -> bool:
    return kind is datetime or datetime in getattr(kind, "__args__", ())


def add_text(schema: Json, more: str | Json) -> Json:
    """Add a description, and keywords. OpenAPI 3.0 ignores everything next to a $ref."""
    added = {"description": more} if isinstance(more, str) else dict(more)
    if "allOf" in added:  # it refers to a schema of its own
        return added
    return {"allOf": [schema], **added} if "$ref" in schema else schema | added


def convert(schema: Json, *, keeps_default: bool = False) -> Json:
    """Convert a schema of msgspec to OpenAPI 3.0."""
    if "anyOf" in schema:
        # a text, if it may be that or a number: generators make nothing useful of a union
        other, *_ = sorted(
            (each for each in schema["anyOf"] if each != {"type": "null"}),
            key=lambda each: each.get("type") != "string",
        )
        rest = {key: value for key, value in schema.items() if key != "anyOf"}
        converted = convert(rest | other, keeps_default=keeps_default)
        # OpenAPI 3.0 has no null beside a $ref
        return converted if "$ref" in converted else converted | {"nullable": True}
    result = {key: value for key, value in schema.items() if value is not None}
    result.pop("propertyNames", None)  # of newer versions of msgspec; not in OpenAPI 3.0
    if not keeps_default:
        result.pop("default", None)
    if result.get("default") == ():
        result["default"] = []
    if "enum" in result:
        result["type"] = "string"
    if result.get("type") == "integer":
        result["format"] = "int64"
    if result.get("type") == "number":
        result["format"] = "double"
    if "prefixItems" in result:  # a tuple of equal types
        result["items"] = result.pop("prefixItems")[0]
    for name in ("items", "additionalProperties"):
        if isinstance(result.get(name), dict):
            result[name] = convert(result[name])
    return result
