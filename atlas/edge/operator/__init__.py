"""The listener for operators: never public, where the commands ask, and a page for people.

guard.py          who may ask, and the headers that confine a browser
gauge_reader.py   reads how full everything is
live.py           the status, once or each second, and the metrics
routes.py         all other questions and orders
page/             the files of the page
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
from atlas.edge.operator.gauge_reader import GaugeReader
from atlas.edge.operator.guard import Guard, SecurityHeadersMiddleware
from atlas.edge.operator.live import Live, metrics_route
from atlas.edge.operator.routes import OperatorServices

__all__ = [
    "GaugeReader",
    "Guard",
    "Live",
    "OperatorServices",
    "application",
    "metrics_route",
    "page",
]


def application(routes: Iterable[Route]) -> Starlette:
    """All of these routes; whatever goes wrong behind them is an answer, too."""
    app = Starlette(
        routes=list(routes),
        middleware=[Middleware(SecurityHeadersMiddleware)],
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
