"""Operator routes of the phones: all, those of one user, and the counts that they report."""

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from atlas.core.messages import User
from atlas.core.phones import PhoneQuery
from atlas.core.ports import Clock, PhoneBook
from atlas.edge.error_responses import build_json_response
from atlas.edge.operator.guard import Guard
from atlas.edge.operator.routes import parse_query, read_body


class PhoneOwner(Struct, forbid_unknown_fields=True):
    """The body of /phones/search: a proxy would log a path, and the sub with it."""

    user: Annotated[str, Meta(min_length=1)]


class ReportsQuery(Struct, forbid_unknown_fields=True):
    """The body of /phones/reports. Without `user`, the reports of the user after `after`."""

    user: Annotated[str, Meta(min_length=1)] | None = None
    after: Annotated[str, Meta(max_length=64)] = ""


@dataclass(frozen=True, slots=True)
class PhoneRoutes:
    """Routes that read the phone book."""

    phones: PhoneBook
    clock: Clock
    quiet_days: int

    def routes(self, guard: Guard) -> list[Route]:
        return [
            guard.build_route("GET", "/phones", self.get_phones),
            guard.build_route("POST", "/phones/search", self.find_phones),
            guard.build_route("POST", "/phones/reports", self.find_reports),
        ]

    async def get_phones(self, request: Request) -> Response:
        query = parse_query(request.query_params, PhoneQuery)
        page = await self.phones.list_phones(query, self.clock(), self.quiet_days)
        return build_json_response(page, 200)

    async def find_phones(self, request: Request) -> Response:
        owner = User((await read_body(request, PhoneOwner)).user)
        page = await self.phones.list_phones(PhoneQuery(), self.clock(), self.quiet_days, owner)
        return build_json_response(page, 200)

    async def find_reports(self, request: Request) -> Response:
        query = await read_body(request, ReportsQuery)
        user = None if query.user is None else User(query.user)
        return build_json_response(await self.phones.list_counts(query.after, user), 200)
