"""The public application: routes behind a middleware that parses each request once."""

import re
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

import msgspec
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from atlas.core.errors import AtlasError, MethodNotAllowed, NotFound, Overloaded
from atlas.core.events import EventSink, RequestAnswered
from atlas.edge.context import (
    METHODS,
    RequestContext,
    TraceSampler,
    read_briefly,
    read_context,
)
from atlas.edge.error_responses import ErrorResponses
from atlas.edge.overload import OverloadGuard
from atlas.runtime import OnCrash, answer_crashes

EXPOSED_HEADERS = (
    "X-Correlation-Id",
    "Retry-After",
    "Location",
    "Idempotency-Replayed",
    "RateLimit-Limit",
    "RateLimit-Remaining",
    "RateLimit-Reset",
    "RateLimit-Policy",
    "WWW-Authenticate",
    "DPoP-Nonce",
)
PRIVATE_RESPONSE_HEADERS = [  # receipts name their user, so caches must not store them
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
]
SLASHES = re.compile("/{2,}")
CONTEXT = "atlas.context"  # the key of the RequestContext in a scope

Handler = Callable[[RequestContext, Receive], Awaitable[Response]]


class EdgeRoute:
    """The handlers of one path, by method."""

    def __init__(self, path: str, **handlers: Handler) -> None:
        self.path = path
        self.handlers = dict(handlers)
        if "GET" in handlers:
            self.handlers.setdefault("HEAD", handlers["GET"])


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Answers the requests of one path, errors and crashes included."""

    route: EdgeRoute
    errors: ErrorResponses
    on_crash: OnCrash

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        context: RequestContext = scope[CONTEXT]
        try:
            response = await answer_crashes("edge", self.handle(scope, receive), self.on_crash)
        except AtlasError as error:
            response = self.errors.respond(context, error)
            if isinstance(error, MethodNotAllowed):
                response.headers["Allow"] = ", ".join(sorted(self.route.handlers))
        await response(scope, receive, send)

    async def handle(self, scope: Scope, receive: Receive) -> Response:
        context: RequestContext = scope[CONTEXT]
        if params := scope.get("path_params"):
            context = msgspec.structs.replace(context, params=params)
        handler = self.route.handlers.get(context.method)
        if handler is None:
            raise MethodNotAllowed
        try:
            return await handler(context, receive)
        except ClientDisconnect:  # incomplete bodies are discarded
            return Response(status_code=400)  # never sent


async def refuse_unknown_path(_context: RequestContext, _receive: Receive) -> Response:
    raise NotFound


def build_app(
    paths: Sequence[EdgeRoute],
    guard: OverloadGuard,
    errors: ErrorResponses,
    on_crash: OnCrash,
    cors_origins: tuple[str, ...],
    emit: EventSink,
    sample_trace: TraceSampler,
) -> ASGIApp:
    """Build the application. Every response has X-Correlation-Id, errors included."""
    routes = [Route(each.path, Endpoint(each, errors, on_crash)) for each in paths]
    unknown_path = EdgeRoute("none", **dict.fromkeys(METHODS, refuse_unknown_path))
    not_found = Endpoint(unknown_path, errors, on_crash)
    router = Router(routes, redirect_slashes=False, default=not_found)
    add_cors = partial(add_cors_headers, cors_origins)
    return RequestMiddleware(
        add_cors(router),
        add_cors,
        PathNormalizer(paths),
        RouteTemplates(routes),
        guard,
        errors,
        emit,
        sample_trace,
    )


def add_cors_headers(origins: Sequence[str], app: ASGIApp) -> ASGIApp:
    """Let pages of these origins read the responses of `app`."""
    if not origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=list(origins),
        allow_methods=["GET", "POST"],
        allow_headers=["*"],
        expose_headers=list(EXPOSED_HEADERS),
    )


class RouteTemplates:
    """Maps a path to the template of its route, or to "none", so that labels are a fixed set."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._plain = {route.path for route in routes if not route.param_convertors}
        self._parameterized = [route for route in routes if route.param_convertors]

    def find(self, path: str) -> str:
        if path in self._plain:
            return path
        return next(
            (route.path for route in self._parameterized if route.path_regex.match(path)), "none"
        )


class PathNormalizer:
    """Finds the canonical spelling of a path: single slashes, none at the end, lower case.

    The routes of the old service ignored case and a slash at the end, and released apps may
    depend on that. A parameter, which can only be the last segment, keeps its case.
    """

    def __init__(self, routes: Sequence[EdgeRoute]) -> None:
        paths = [route.path for route in routes]
        self._plain = {path for path in paths if "{" not in path}
        self._prefixes = tuple(path.partition("{")[0] for path in paths if "{" in path)

    def normalize(self, path: str) -> str:
        """Return the canonical path of a route, or the path itself if it is none."""
        if path in self._plain or not path.isascii():
            return path
        single = SLASHES.sub("/", path)
        single = single.rstrip("/") or "/"
        lower = single.lower()
        if lower in self._plain:
            return lower
        for prefix in self._prefixes:
            if lower.startswith(prefix):
                return prefix + single[len(prefix) :]
        return path


@dataclass(frozen=True, slots=True)
class RequestMiddleware:
    """Parses each request, adds headers to every response, and emits its outcome.

    A connection with an unread body is closed after the response. `add_cors` wraps responses that
    are sent without calling `app`.
    """

    app: ASGIApp
    add_cors: Callable[[ASGIApp], ASGIApp]
    paths: PathNormalizer
    templates: RouteTemplates
    guard: OverloadGuard
    errors: ErrorResponses
    emit: EventSink
    sample_trace: TraceSampler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["path"] = self.paths.normalize(scope["path"])
        overload = await self.guard.find_overload(scope)
        if overload is not None:
            await self.refuse(scope, receive, send, overload)
            return
        started_at, status, response_bytes = time.perf_counter(), 0, 0
        context = read_context(scope, self.templates.find(scope["path"]), self.sample_trace)
        scope[CONTEXT] = context
        is_read = not context.has_body

        async def receive_body() -> Message:
            nonlocal is_read
            message = await receive()
            is_read = is_read or not message.get("more_body", False)
            return message

        async def send_with_headers(message: Message) -> None:
            nonlocal status, response_bytes
            response_bytes += len(message.get("body", b""))
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = message["headers"]
                headers += PRIVATE_RESPONSE_HEADERS
                headers.append(build_correlation_header(context))
                if not is_read:
                    headers.append((b"connection", b"close"))
            await send(message)

        try:
            await self.app(scope, receive_body, send_with_headers)
        finally:
            seconds = time.perf_counter() - started_at
            self.emit(
                RequestAnswered(
                    context.correlation_id,
                    context.route,
                    context.method,
                    status,
                    seconds,
                    context.trace,
                    response_bytes,
                    context.caller.sub,
                )
            )

    async def refuse(self, scope: Scope, receive: Receive, send: Send, error: Overloaded) -> None:
        """Refuse without reading the body.

        The connection is kept if the body has arrived: a new one would cost more than the refusal.
        """
        context = read_briefly(scope)
        response = self.errors.build(context, error)
        response.raw_headers += [*PRIVATE_RESPONSE_HEADERS, build_correlation_header(context)]
        await self.add_cors(response)(scope, receive, send)


def build_correlation_header(context: RequestContext) -> tuple[bytes, bytes]:
    return b"x-correlation-id", context.correlation_id.encode()
