"""The walk through the whole flow, by the service itself."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from atlas.core import diagnosis
from atlas.core.messages import RemovalResult
from atlas.edge.error_responses import json
from atlas.edge.operator.commands import read_command
from atlas.edge.operator.guard import Guard


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One method a route."""

    diagnose: Callable[[diagnosis.Asked], Awaitable[diagnosis.Diagnosis]]
    old_json: Callable[[], Awaitable[Sequence[str]]]
    remove: Callable[[Sequence[str]], Awaitable[RemovalResult]]

    def routes(self, guard: Guard) -> list[Route]:
        return [
            guard.route("POST", "/diagnose", self.walk),
            guard.route("POST", "/diagnose/remove-old-json", self.remove_old_json),
        ]

    async def walk(self, request: Request) -> Response:
        asked = await read_command(request, diagnosis.Asked)
        return json(await self.diagnose(asked), 200)

    async def remove_old_json(self, _request: Request) -> Response:
        return json(await self.remove(await self.old_json()), 200)
