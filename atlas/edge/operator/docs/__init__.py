"""The page that shows the OpenAPI documents of both listeners, and the documents themselves.

They need no token, because they contain no data. `docs.js` draws a document; it needs no library.
The page shares the colours of the operator page.
"""

from collections.abc import Mapping
from pathlib import Path

from starlette.routing import Route

from atlas.edge.error_responses import build_json_response
from atlas.edge.operator.guard import Guard

FOLDER = Path(__file__).parent
FILES = {  # by path
    "/docs": ("docs.html", "text/html"),
    "/docs.css": ("docs.css", "text/css"),
    "/docs.js": ("docs.js", "text/javascript"),
}


def build_routes(
    guard: Guard, operator_document: Mapping[str, object], public_document: Mapping[str, object]
) -> list[Route]:
    """Build the routes of the page and of both documents."""
    documents = {"/openapi.json": operator_document, "/openapi-public.json": public_document}
    contents = {path: ((FOLDER / name).read_bytes(), kind) for path, (name, kind) in FILES.items()}
    for path, document in documents.items():
        contents[path] = bytes(build_json_response(document, 200).body), "application/json"
    return [guard.build_static_route(path, *content) for path, content in contents.items()]
