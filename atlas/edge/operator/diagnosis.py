"""The walk through the whole flow, by the service itself."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from atlas.core import diagnosis
from atlas.core.errors import NOT_JSON, Rejected, TooLarge
from atlas.core.messages import Removed
from atlas.edge.operator.guard import Guard
from atlas.edge.refusals import json

BODY_BYTES_MAX = 64 * 1024  # more than any token


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One method a route."""

    diagnose: Callable[[diagnosis.Asked], Awaitable[diagnosis.Diagnosis]]
    old_json: Callable[[], Awaitable[Sequence[str]]]
    remove: Callable[[Sequence[str]], Awaitable[Removed]]

    def routes(self, guard: Guard) -> list[Route]:
        return [
            guard.route("POST", "/diagnose", self.walk),
            guard.route("POST", "/diagnose/remove-old-json", self.remove_old_json),
        ]

    async def walk(self, request: Request) -> Response:
        body = b""
        async for piece in request.stream():
            body += piece
            if len(body) > BODY_BYTES_MAX:
                raise TooLarge
        try:
            asked = msgspec.json.decode(body or b"{}", type=diagnosis.Asked)
        except NOT_JSON as error:
            raise Rejected('The question is JSON: {"token"?, "url"?}, both texts.') from error
        return json(await self.diagnose(asked), 200)

    async def remove_old_json(self, _request: Request) -> Response:
        return json(await self.remove(await self.old_json()), 200)
