"""The public listener: its routes behind one entrance."""

import re
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from atlas.core.errors import AtlasError, MethodNotAllowed, NotFound, Rejected
from atlas.core.events import RequestAnswered, Watch
from atlas.core.traces import Trace
from atlas.edge.refusals import Refusals
from atlas.runtime import OnCrash

CORRELATION_ID = re.compile(r"[\x20-\x7e]{1,128}")
EXPOSED = (
    "X-Correlation-Id",
    "Retry-After",
    "Location",
    "Idempotency-Replayed",
    "RateLimit-Limit",
    "RateLimit-Remaining",
    "RateLimit-Reset",
    "RateLimit-Policy",
)

Sample = Callable[[str], Trace | None]
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

FOR_ONE = {  # who asked: a receipt names its user, and no cache on the way should keep that
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True, slots=True)
class Errors:
    """Whatever is raised behind the door becomes an answer."""

    refusals: Refusals
    on_crash: OnCrash

    def handlers(self) -> Mapping[Any, Callable[..., Awaitable[Response]]]:
        return {
            AtlasError: self.refuse,
            HTTPException: self.no_route,
            ClientDisconnect: self.gone,
            Exception: self.crashed,
        }

    async def refuse(self, request: Request, error: AtlasError) -> Response:
        return self.refusals.response(request, error)

    async def no_route(self, request: Request, error: HTTPException) -> Response:
        if error.status_code == 405:
            answer = await self.refuse(request, MethodNotAllowed())
            answer.headers.update(error.headers or {})
            return answer
        return await self.refuse(request, NotFound() if error.status_code == 404 else Rejected())

    async def gone(self, _request: Request, _error: ClientDisconnect) -> Response:
        """Nobody is there to read it; nothing of an incomplete body was kept."""
        return Response(status_code=400)

    async def crashed(self, request: Request, error: Exception) -> Response:
        self.on_crash("edge", error)
        return await self.refuse(request, AtlasError())


def public(
    routes: Sequence[Route],
    errors: Errors,
    cors_origins: tuple[str, ...],
    watch: Watch,
    sample: Sample,
) -> ASGIApp:
    """The application. Every answer carries X-Correlation-Id, whatever went wrong.

    `sample` makes of a traceparent what a request is in its trace, if that is recorded.
    """
    cors = Middleware(
        CORSMiddleware,
        allow_origins=list(cors_origins),
        allow_methods=["GET", "POST"],
        allow_headers=["*"],
        expose_headers=list(EXPOSED),
    )
    app = Starlette(
        routes=list(routes),
        middleware=[cors] if cors_origins else [],
        exception_handlers=errors.handlers(),
    )
    app.router.redirect_slashes = False
    return Entrance(app, Templates(routes), watch, sample)


class Templates:
    """The routes as the code has them: what whoever asks has made up is none of them."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._plain = {route.path for route in routes if not route.param_convertors}
        self._others = [route for route in routes if route.param_convertors]

    def of(self, path: str) -> str:
        if path in self._plain:
            return path
        return next((route.path for route in self._others if route.path_regex.match(path)), "none")


class Entrance:
    """Gives every request a correlation id, closes behind whoever was answered early, and tells."""

    def __init__(self, app: ASGIApp, templates: Templates, watch: Watch, sample: Sample) -> None:
        self._sample = sample
        self._app = app
        self._templates = templates
        self._watch = watch

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began, status = time.perf_counter(), 0
        trace = self._sample(Headers(scope=scope).get("traceparent", ""))
        scope["trace"] = trace

        async def told(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._answer(scope, receive, told)
        finally:
            method = scope["method"] if scope["method"] in METHODS else "other"
            route, seconds = self._templates.of(scope["path"]), time.perf_counter() - began
            self._watch(
                RequestAnswered(scope["correlation_id"], route, method, status, seconds, trace)
            )

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = Headers(scope=scope).get("x-correlation-id", "")
        scope["correlation_id"] = given if CORRELATION_ID.fullmatch(given) else str(uuid.uuid4())
        is_read = not has_body(Headers(scope=scope))

        async def watched() -> Message:
            nonlocal is_read
            message = await receive()
            is_read = is_read or not message.get("more_body", False)
            return message

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["X-Correlation-Id"] = scope["correlation_id"]
                headers.update(FOR_ONE)
                if not is_read:
                    headers["Connection"] = "close"  # the server drops a little of the rest
            await send(message)

        await self._app(scope, watched, marked)


def has_body(headers: Headers) -> bool:
    """RFC 9112, section 6: whatever the method is."""
    return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
