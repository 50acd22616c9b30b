"""What is there of one person, and that all of it be forgotten.

A sub stands in no address: those are logged on the way.
"""

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from atlas.core import ports
from atlas.core.messages import User
from atlas.edge.error_responses import json
from atlas.edge.operator.commands import read_command
from atlas.edge.operator.guard import Guard


class Asked(Struct, forbid_unknown_fields=True):
    """The body of both: the sub, and whether each file is to be listed."""

    user: Annotated[str, Meta(min_length=1)]
    files: bool = False


@dataclass(frozen=True, slots=True)
class People:
    """One method a route."""

    persons: ports.People

    def routes(self, guard: Guard) -> list[Route]:
        return [
            guard.route("POST", "/where", self.where),
            guard.route("POST", "/forget", self.forget),
        ]

    async def where(self, request: Request) -> Response:
        asked = await read_command(request, Asked)
        return json(await self.persons.where(User(asked.user), lists=asked.files), 200)

    async def forget(self, request: Request) -> Response:
        asked = await read_command(request, Asked)
        return json(await self.persons.forget(User(asked.user)), 200)
