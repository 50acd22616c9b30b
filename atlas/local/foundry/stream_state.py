"""The state of an emulated stream, and the checks of its schema and records."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from atlas.local.foundry.branches import FoundryApiError

PYTHON_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "double": (int, float),
    "boolean": (bool,),
    "timestamp": (int, str),
}
KEY_TYPES = "boolean", "string", "timestamp"


@dataclass(slots=True)
class EmulatedStream:
    """A stream of one partition. `arrived_at` is the time of each record, by the loop's clock."""

    rid: str
    name: str
    folder: str
    branch: str
    schema: dict[str, Any]
    kind: str = "LOW_LATENCY"
    view: str = field(default_factory=lambda: new_rid("view"))
    records: list[bytes] = field(default_factory=list)
    arrived_at: list[float] = field(default_factory=list)
    is_trashed: bool = False

    @property
    def columns(self) -> dict[str, dict[str, Any]]:
        return {each["name"]: each["schema"] for each in self.schema["fields"]}

    def reset(self) -> None:
        self.view = new_rid("view")
        self.records.clear()
        self.arrived_at.clear()

    def describe(self) -> dict[str, Any]:
        return {
            "branchName": self.branch,
            "schema": self.schema,
            "viewRid": self.view,
            "partitionsCount": 1,
            "streamType": self.kind,
            "compressed": False,
        }


def new_rid(kind: str) -> str:
    return f"ri.foundry.main.{kind}.{uuid.uuid4()}"


def check_schema(schema: Any) -> None:
    """Raises FoundryApiError for a schema that no stream can have."""
    try:
        types = {each["name"]: each["schema"]["dataType"]["type"] for each in schema["fields"]}
        unknown = [name for name, kind in types.items() if kind not in PYTHON_TYPES]
        if unknown:
            raise FoundryApiError(400, "InvalidFieldSchema", fieldName=unknown[0])
        keys = schema.get("keyFieldNames") or []
        change = schema.get("changeDataCapture")
        is_valid = all(types.get(key) in KEY_TYPES for key in keys)
        if change is not None:
            is_valid &= bool(keys) and types.get(change["deletionFieldName"]) == "boolean"
            is_valid &= types.get(change["orderingFieldName"]) in {"string", "timestamp"}
    except (KeyError, TypeError) as error:
        raise FoundryApiError(400, "InvalidSchema") from error
    if not is_valid:
        raise FoundryApiError(400, "InvalidSchema")


def is_matching(record: bytes, columns: Mapping[str, dict[str, Any]]) -> bool:
    """True if the record has no other columns than these, and values of their types."""
    values = msgspec.json.decode(record)
    if not isinstance(values, dict) or not values.keys() <= columns.keys():
        return False
    return all(is_valid(values.get(name), schema) for name, schema in columns.items())


def is_valid(value: object, schema: Mapping[str, Any]) -> bool:
    if value is None:
        return bool(schema["nullable"])
    kinds = PYTHON_TYPES[schema["dataType"]["type"]]
    return isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))
