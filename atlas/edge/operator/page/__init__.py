"""The page for operators: its files as they are. They hold no data, so whoever reaches the
listener may have them; the data that they draw, they must ask for as everybody else does.

`page.js` begins, `asking.js` speaks to the listener, `drawing.js` draws what is heard,
`exports.js` is the list of exports.
"""

from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from atlas.edge.operator.guard import Guard, OperatorHandler

FOLDER = Path(__file__).parent
KINDS = {
    "page.html": "text/html",
    "page.css": "text/css",
    "page.js": "text/javascript",
    "asking.js": "text/javascript",
    "drawing.js": "text/javascript",
    "exports.js": "text/javascript",
    "page.svg": "image/svg+xml",
}


def build_routes(guard: Guard) -> list[Route]:
    """`/` is the page, and what it is made of lies beside it."""
    files = [
        guard.build_public_route(f"/{name}", build_file_handler(name))
        for name in KINDS
        if name != "page.html"
    ]
    return [guard.build_public_route("/", build_file_handler("page.html")), *files]


def build_file_handler(name: str) -> OperatorHandler:
    content = (FOLDER / name).read_bytes()

    async def give(_request: Request) -> Response:
        return Response(content, media_type=KINDS[name])

    return give
