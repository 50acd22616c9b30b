"""Builds the responses to errors, with their headers and events."""

from collections.abc import Callable
from math import ceil

import msgspec
from starlette.responses import Response

from atlas.core.error_reply import ErrorDetail, ErrorReply, describe, retry_after
from atlas.core.errors import AtlasError, RateLimited
from atlas.core.events import EventSink, RequestRefused
from atlas.core.messages import User
from atlas.core.ports import Clock
from atlas.edge.api_types import BatchReply
from atlas.edge.challenges import Challenges
from atlas.edge.context import JSON, PROBLEM, RequestContext


class ErrorResponses:
    """Builds error responses. `random` spreads Retry-After so that retries do not coincide."""

    def __init__(
        self,
        clock: Clock,
        random: Callable[[], float],
        emit: EventSink,
        challenges: Challenges,
    ) -> None:
        self._clock = clock
        self._random = random
        self._emit = emit
        self._challenges = challenges

    def emit_refusal(self, context: RequestContext, error: AtlasError, user: User | None) -> None:
        """Emit the refusal of a request, or of one of its chunks."""
        sub = None if user is None else user.sub
        self._emit(
            RequestRefused(context.correlation_id, error.code, error.status, sub, str(error))
        )

    def respond(
        self,
        context: RequestContext,
        error: AtlasError,
        user: User | None = None,
        batch: BatchReply | None = None,
    ) -> Response:
        """Emit and build an error response; for a batch, with the outcomes of its chunks."""
        self.emit_refusal(context, error, user)
        return self.build(context, error, batch)

    def build(
        self, context: RequestContext, error: AtlasError, batch: BatchReply | None = None
    ) -> Response:
        """Build an error response without an event."""
        detail = describe(error, context.correlation_id, self._clock(), self._random)
        challenge = self._challenges.build(error, context.authorization)
        headers = challenge | build_rate_limit_headers(error)
        if detail.retry_after is not None:
            headers["Retry-After"] = str(detail.retry_after)
        if batch is not None:
            reply = msgspec.structs.replace(batch, success=False, error=detail)
            return build_json_response(reply, error.status, headers)
        if context.accepts_problem:
            problem = build_problem(error, detail)
            return build_json_response(problem, error.status, headers, PROBLEM)
        return build_json_response(ErrorReply(error=detail), error.status, headers)

    def compute_retry_after(self, error: AtlasError) -> int | None:
        return retry_after(error, self._random)


def build_problem(error: AtlasError, detail: ErrorDetail) -> dict[str, object]:
    """Build problem details (RFC 9457)."""
    return {
        "type": f"urn:atlas:error:{error.code.lower().replace('_', '-')}",
        "title": error.code.replace("_", " ").capitalize(),
        "status": error.status,
        "detail": str(error),
        **msgspec.to_builtins(detail),
    }


def build_rate_limit_headers(error: AtlasError) -> dict[str, str]:
    """Describe the limit that was reached (draft-ietf-httpapi-ratelimit-headers-07)."""
    if not isinstance(error, RateLimited):
        return {}
    return {
        "RateLimit-Limit": str(error.limit),
        "RateLimit-Remaining": "0",
        "RateLimit-Reset": str(ceil(error.retry_seconds)),
        "RateLimit-Policy": f"{error.limit};w={error.window_seconds}",
    }


def build_json_response(
    body: object, status: int, headers: dict[str, str] | None = None, media_type: str = JSON
) -> Response:
    return Response(msgspec.json.encode(body), status, headers, media_type=media_type)
