"""The listener for operators: never public, where the commands ask, and a page for people.

`guard.py` says who may ask, `confined.py` what a browser may do with an answer, and each other file
holds some of the routes.
"""

from collections.abc import Iterable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from atlas.core.errors import AtlasError
from atlas.edge.error_responses import json
from atlas.edge.operator import page
from atlas.edge.operator.confined import Confined
from atlas.edge.operator.diagnosis import Diagnosis
from atlas.edge.operator.exports import Exports
from atlas.edge.operator.guard import Guard
from atlas.edge.operator.live import Live
from atlas.edge.operator.lookout import Lookout
from atlas.edge.operator.painter import About, Painter
from atlas.edge.operator.people import People
from atlas.edge.operator.scrapes import Scrapes

__all__ = [
    "About",
    "Diagnosis",
    "Exports",
    "Guard",
    "Live",
    "Lookout",
    "Painter",
    "People",
    "Scrapes",
    "application",
    "page",
]


def application(routes: Iterable[Route]) -> Starlette:
    """All of these routes; whatever goes wrong behind them is an answer, too."""
    app = Starlette(
        routes=list(routes),
        middleware=[Middleware(Confined)],
        exception_handlers={AtlasError: refuse, HTTPException: no_route},
    )
    app.router.redirect_slashes = False
    return app


async def no_route(_request: Request, error: Exception) -> Response:
    status, headers = 404, {}
    if isinstance(error, HTTPException):
        status, headers = error.status_code, dict(error.headers or {})
    return json({"error": "There is nothing at this address that answers so."}, status, headers)


async def refuse(_request: Request, error: Exception) -> Response:
    status = error.status if isinstance(error, AtlasError) else 500
    return json({"error": str(error)}, status)
