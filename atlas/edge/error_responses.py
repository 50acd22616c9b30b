"""Builds the responses to all errors, each with its headers and its event."""

from collections.abc import Callable
from math import ceil

import msgspec
from starlette.responses import Response

from atlas.core.error_reply import ErrorReply, describe, retry_after
from atlas.core.errors import AtlasError, InsufficientScope, RateLimited, Unauthenticated
from atlas.core.events import RequestRefused, Watch
from atlas.core.messages import User
from atlas.core.ports import Clock
from atlas.edge import wire
from atlas.edge.context import JSON, PROBLEM, RequestContext


class ErrorResponses:
    """Builds error responses. `random` spreads Retry-After, so that retries do not coincide."""

    def __init__(self, now: Clock, random: Callable[[], float], watch: Watch) -> None:
        self._now = now
        self._random = random
        self._watch = watch

    def emit(self, context: RequestContext, error: AtlasError, user: User | None) -> None:
        """Emit the refusal of a request, or of one chunk in it."""
        sub = None if user is None else user.sub
        self._watch(
            RequestRefused(context.correlation_id, error.code, error.status, sub, str(error))
        )

    def respond(
        self,
        context: RequestContext,
        error: AtlasError,
        user: User | None = None,
        batch: wire.BatchReply | None = None,
    ) -> Response:
        """Emit and build the refusal of a request; for a batch, with the outcomes of its chunks."""
        self.emit(context, error, user)
        return self.build(context, error, batch)

    def build(
        self, context: RequestContext, error: AtlasError, batch: wire.BatchReply | None = None
    ) -> Response:
        """Build the refusal without an event."""
        detail = describe(error, context.correlation_id, self._now(), self._random)
        headers = www_authenticate(error) | rate_limit_headers(error)
        if detail.retry_after is not None:
            headers["Retry-After"] = str(detail.retry_after)
        if batch is not None:
            whole = msgspec.structs.replace(batch, success=False, error=detail)
            return json(whole, error.status, headers)
        if context.accepts_problem:
            problem = {
                "type": f"urn:atlas:error:{error.code.lower().replace('_', '-')}",
                "title": error.code.replace("_", " ").capitalize(),
                "status": error.status,
                "detail": str(error),
                **msgspec.to_builtins(detail),
            }
            return json(problem, error.status, headers, PROBLEM)
        return json(ErrorReply(error=detail), error.status, headers)

    def retry_after(self, error: AtlasError) -> int | None:
        return retry_after(error, self._random)


def www_authenticate(error: AtlasError) -> dict[str, str]:
    """RFC 6750, section 3: bare without credentials, with the reason otherwise."""
    realm = 'Bearer realm="atlas"'
    if isinstance(error, InsufficientScope):
        found = f'{realm}, error="insufficient_scope", scope="{error.scope}"'
    elif not isinstance(error, Unauthenticated):
        return {}
    elif error.code == Unauthenticated.code:
        found = realm
    else:
        found = f'{realm}, error="invalid_token", error_description="{error}"'
    return {"WWW-Authenticate": found}


def rate_limit_headers(error: AtlasError) -> dict[str, str]:
    """The limit that was reached (draft-ietf-httpapi-ratelimit-headers-07), and when it ends."""
    if not isinstance(error, RateLimited):
        return {}
    return {
        "RateLimit-Limit": str(error.limit),
        "RateLimit-Remaining": "0",
        "RateLimit-Reset": str(ceil(error.retry_seconds)),
        "RateLimit-Policy": f"{error.limit};w={error.window_seconds}",
    }


def json(
    body: object, status: int, headers: dict[str, str] | None = None, media_type: str = JSON
) -> Response:
    return Response(msgspec.json.encode(body), status, headers, media_type=media_type)
