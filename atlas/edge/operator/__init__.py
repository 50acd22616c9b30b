"""The operator listener, for commands and for the operator page. It must not be public.

access.py          emits the outcome of each request
guard.py           authorization, and security headers for browsers
gauge_reader.py    reads the gauges that no event reports
status_stream.py   the status, once or each second, and the metrics
journal_hold.py    keeps the file of the journal unchanged for a command
phones.py          the phones
routes.py          the journal, personal data, and the diagnosis
page/              the files of the operator page
docs/              the page of the OpenAPI documents
"""

from collections.abc import Iterable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from atlas.core.errors import AtlasError
from atlas.core.events import EventSink
from atlas.edge.app import RouteTemplates
from atlas.edge.error_responses import build_json_response
from atlas.edge.operator import docs, page
from atlas.edge.operator.access import OperatorRequestMiddleware
from atlas.edge.operator.gauge_reader import GaugeReader
from atlas.edge.operator.guard import Guard, SecurityHeadersMiddleware
from atlas.edge.operator.journal_hold import JournalHold
from atlas.edge.operator.phones import PhoneRoutes
from atlas.edge.operator.routes import OperatorServices
from atlas.edge.operator.status_stream import StatusStream, metrics_route

__all__ = [
    "GaugeReader",
    "Guard",
    "JournalHold",
    "OperatorServices",
    "PhoneRoutes",
    "StatusStream",
    "build_application",
    "docs",
    "metrics_route",
    "page",
]


def build_application(routes: Iterable[Route], emit: EventSink) -> Starlette:
    """Build the application of these routes. Every error becomes a JSON response."""
    routes = list(routes)
    app = Starlette(
        routes=routes,
        middleware=[
            Middleware(OperatorRequestMiddleware, RouteTemplates(routes), emit),
            Middleware(SecurityHeadersMiddleware),
        ],
        exception_handlers={AtlasError: handle_atlas_error, HTTPException: handle_http_error},
    )
    app.router.redirect_slashes = False
    return app


async def handle_http_error(_request: Request, error: Exception) -> Response:
    status, headers = 404, {}
    if isinstance(error, HTTPException):
        status, headers = error.status_code, dict(error.headers or {})
    return build_json_response({"error": "No such route or method."}, status, headers)


async def handle_atlas_error(_request: Request, error: Exception) -> Response:
    status = error.status if isinstance(error, AtlasError) else 500
    return build_json_response({"error": str(error)}, status)
