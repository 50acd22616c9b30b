"""Authorizes operator requests: the bearer token if there is one, and no page of somebody else.

Changes may be ordered by commands, and by our own page if it had to bring a token: then somebody
has typed that in, and no other page can know it.
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
    "A page in a browser changes nothing here, but for the operator page of a listener that has a"
    " token: see ATLAS_OPERATOR_TOKEN."
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
    """`hosts` are the names that the listener answers to, beside addresses: a page in somebody's
    browser, which wants to read what is here, came by a name of its own.
    """

    token: str
    hosts: frozenset[str]

    def build_route(self, method: str, path: str, answering: OperatorHandler) -> Route:
        """A route that is guarded."""
        return Route(path, self.require_token(answering), methods=[method])

    def build_public_route(self, path: str, answering: OperatorHandler) -> Route:
        """A route for what holds nothing of anybody: no token, but a name of ours."""
        return Route(path, self.require_known_host(answering), methods=["GET"])

    def require_token(self, answering: OperatorHandler) -> OperatorHandler:
        async def guard(request: Request) -> Response:
            if self.token and not hmac.compare_digest(
                read_bearer_token(request.headers), self.token.encode()
            ):
                why = {"error": "The operator token is missing or wrong."}
                return build_json_response(why, 401, {"WWW-Authenticate": "Bearer"})
            if request.method != "GET" and not self.is_mutation_allowed(request.headers):
                return build_json_response({"error": NOT_BY_A_PAGE}, 403)
            answer = await answering(request)
            answer.headers["Atlas-Page-May-Order"] = "yes" if self.token else "no"
            return answer

        return self.require_known_host(guard)

    def require_known_host(self, answering: OperatorHandler) -> OperatorHandler:
        async def guard(request: Request) -> Response:
            if not self.is_known_host(request.headers.get("host", "")):
                return build_json_response(
                    {"error": "Host is not one of this listener's names."}, 421
                )
            return await answering(request)

        return guard

    def is_mutation_allowed(self, headers: Headers) -> bool:
        """A browser says where a page comes from, and no page can make it say otherwise."""
        if headers.get("sec-fetch-site", "same-origin") != "same-origin":
            return False
        origins, host = headers.getlist("origin"), headers["host"]
        ours = ([f"http://{host}"], [f"https://{host}"])
        return origins == [] or (self.token != "" and origins in ours)

    def is_known_host(self, host: str) -> bool:
        name = HOST_AND_PORT.fullmatch(host)
        if name is None:
            return False
        return name[1].lower() in self.hosts or is_address(name[1].strip("[]"))


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
    """Adds headers to every answer, by which a browser may do nearly nothing with it."""

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(SECURITY_HEADERS)
            await send(message)

        await self.app(scope, receive, send_with_headers)
