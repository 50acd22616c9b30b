"""The operator page: static files that need no token, because they contain no data.

`page.js` draws the status, `verdict.js` the verdict on it, `exports.js` the list of exports, with
elements and charts from `drawing.js`. `api.js` requests the data from the listener, with the token.
"""

from pathlib import Path

from starlette.routing import Route

from atlas.edge.operator.guard import Guard

FOLDER = Path(__file__).parent
KINDS = {
    "page.html": "text/html",
    "page.css": "text/css",
    "page.js": "text/javascript",
    "api.js": "text/javascript",
    "drawing.js": "text/javascript",
    "exports.js": "text/javascript",
    "phones.js": "text/javascript",
    "verdict.js": "text/javascript",
    "page.svg": "image/svg+xml",
}


def build_routes(guard: Guard) -> list[Route]:
    """Build the routes of all files. The page itself is `/`."""
    return [
        guard.build_static_route(
            "/" if name == "page.html" else f"/{name}", (FOLDER / name).read_bytes(), kind
        )
        for name, kind in KINDS.items()
    ]
