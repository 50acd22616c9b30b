"""The JSON Schema of the configuration file."""

from typing import Any

import msgspec

from atlas.settings.sections import Settings
from atlas.settings.variables import NAMES


def build_schema() -> dict[str, Any]:
    """Build the schema (draft 2020-12), in which a description names the variable of a setting."""
    schema = msgspec.json.schema(Settings)
    structs: dict[str, Any] = schema["$defs"]
    for section in structs["Settings"]["properties"].values():
        del section["default"]  # those of its keys say the same
    for name, path in NAMES.items():
        section, _, key = path.partition(".")
        struct = structs["Settings"]["properties"][section]["$ref"].rpartition("/")[2]
        setting = structs[struct]["properties"][key]
        setting["description"] += f" ({name})"
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Settings of Atlas",
        **schema,
    }
