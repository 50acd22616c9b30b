"""Authorizes operator requests: bearer token if configured, plus Host and Origin checks.

The checks protect against requests from other pages in the browser of an operator. Commands may
make changes. So may the operator page if a token is configured, which other pages cannot know.
"""

import hmac
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from ipaddress import ip_address

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from atlas.edge.error_responses import build_json_response

HOST_AND_PORT = re.compile(r"(\[[^\]]*\]|[^:]*)(?::[0-9]*)?")

NOT_BY_A_PAGE = (
    "A page in a browser cannot make changes here, except for the operator page of a listener that"
    " has a token: set ATLAS_OPERATOR_TOKEN."
)

SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
        " img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
OperatorHandler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Guard:
    """Guards the routes of the operator listener.

    `hosts` are the host names that it accepts, in addition to IP addresses. This stops DNS
    rebinding: a page that reaches the listener under a name of its own is refused.
    """

    token: str
    hosts: frozenset[str]

    def build_route(self, method: str, path: str, handle: OperatorHandler) -> Route:
        """Build a route that needs the token, if one is configured."""
        return Route(path, self.require_token(handle), methods=[method])

    def build_static_route(self, path: str, content: bytes, media_type: str) -> Route:
        """Build a route to fixed content, without a token. The host name is still checked."""

        async def get_content(_request: Request) -> Response:
            return Response(content, media_type=media_type)

        return Route(path, self.require_known_host(get_content), methods=["GET"])

    def require_token(self, handle: OperatorHandler) -> OperatorHandler:
        async def handle_guarded(request: Request) -> Response:
            if self.token and not hmac.compare_digest(
                read_bearer_token(request.headers), self.token.encode()
            ):
                body = {"error": "The operator token is missing or wrong."}
                return build_json_response(body, 401, {"WWW-Authenticate": "Bearer"})
            if request.method != "GET" and not self.is_mutation_allowed(request.headers):
                return build_json_response({"error": NOT_BY_A_PAGE}, 403)
            response = await handle(request)
            response.headers["Atlas-Page-Can-Replay"] = "yes" if self.token else "no"
            return response

        return self.require_known_host(handle_guarded)

    def require_known_host(self, handle: OperatorHandler) -> OperatorHandler:
        async def handle_guarded(request: Request) -> Response:
            if not self.is_known_host(request.headers.get("host", "")):
                return build_json_response({"error": "Host is not a name of this listener."}, 421)
            return await handle(request)

        return handle_guarded

    def is_mutation_allowed(self, headers: Headers) -> bool:
        """Check the headers in which browsers report the origin of a page. It cannot forge them."""
        if headers.get("sec-fetch-site", "same-origin") != "same-origin":
            return False
        origins, host = headers.getlist("origin"), headers["host"]
        is_own_page = origins in ([f"http://{host}"], [f"https://{host}"])
        return not origins or (self.token != "" and is_own_page)

    def is_known_host(self, host: str) -> bool:
        match = HOST_AND_PORT.fullmatch(host)
        if match is None:
            return False
        return match[1].lower() in self.hosts or is_address(match[1].strip("[]"))


def is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def read_bearer_token(headers: Headers) -> bytes:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip().encode() if scheme.lower() == "bearer" else b""


@dataclass(frozen=True, slots=True)
class SecurityHeadersMiddleware:
    """Adds headers to every response, which restrict what a browser may do with it."""

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(SECURITY_HEADERS)
            await send(message)

        await self.app(scope, receive, send_with_headers)
