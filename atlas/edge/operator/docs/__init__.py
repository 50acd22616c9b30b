"""The page that shows the OpenAPI documents of both listeners, and the documents themselves.

They need no token, because they contain no data. `docs.js` draws a document; it needs no library.
The page shares the colours of the operator page.
"""

from collections.abc import Mapping
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from atlas.edge.error_responses import build_json_response
from atlas.edge.operator.guard import Guard, OperatorHandler

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
    handlers = {path: build_file_handler(*file) for path, file in FILES.items()}
    handlers |= {path: build_document_handler(each) for path, each in documents.items()}
    return [guard.build_public_route(path, handle) for path, handle in handlers.items()]


def build_file_handler(name: str, media_type: str) -> OperatorHandler:
    content = (FOLDER / name).read_bytes()

    async def get_docs_file(_request: Request) -> Response:
        return Response(content, media_type=media_type)

    return get_docs_file


def build_document_handler(document: Mapping[str, object]) -> OperatorHandler:
    content = bytes(build_json_response(document, 200).body)

    async def get_document(_request: Request) -> Response:
        return Response(content, media_type="application/json")

    return get_document
