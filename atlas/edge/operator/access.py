"""Emits the outcome of each operator request."""

import time
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from atlas.core.events import EventSink, OperatorRequestAnswered
from atlas.edge.app import RouteTemplates
from atlas.edge.context import METHODS


@dataclass(frozen=True, slots=True)
class OperatorRequestMiddleware:
    """Emits the outcome of each request, by the template of its route."""

    app: ASGIApp
    templates: RouteTemplates
    emit: EventSink

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started_at, status, response_bytes = time.perf_counter(), 0, 0

        async def send_and_count(message: Message) -> None:
            nonlocal status, response_bytes
            status = message.get("status", status)
            response_bytes += len(message.get("body", b""))
            await send(message)

        try:
            await self.app(scope, receive, send_and_count)
        finally:
            method = scope["method"] if scope["method"] in METHODS else "other"
            seconds = time.perf_counter() - started_at
            route = self.templates.find(scope["path"])
            self.emit(OperatorRequestAnswered(route, method, status, seconds, response_bytes))
