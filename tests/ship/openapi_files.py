"""`python -m tests.ship.openapi_files` writes the OpenAPI documents to config/.

They are committed, so that a change of the contract shows in a diff.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from atlas import __version__
from atlas.edge.openapi import build_document, build_operator_document

CONFIG = Path(__file__).parent.parent.parent / "config"
DOCUMENTS: dict[str, Callable[[str], dict[str, Any]]] = {
    "openapi.json": build_document,
    "openapi-operator.json": build_operator_document,
}


def render(name: str) -> str:
    return json.dumps(DOCUMENTS[name](__version__), indent=2) + "\n"


if __name__ == "__main__":
    for name in DOCUMENTS:
        (CONFIG / name).write_text(render(name), encoding="utf-8")
