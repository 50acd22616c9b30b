"""Operator routes: the journal, the personal data of one user, and the diagnosis."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Protocol, TypeVar

import msgspec
from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from atlas.core import diagnosis
from atlas.core.dead_letters import require_replayed, require_set_aside
from atlas.core.errors import NotFound, Rejected
from atlas.core.messages import AbandonResult, JournalEntry, ListedStatus, RemovalResult, User
from atlas.core.ports import DeadLetters, Ledger, PersonalDataTasks, ReplayTasks
from atlas.core.traces import never_sample
from atlas.edge.body_reader import BodyReader, MinimumRate, parse_json
from atlas.edge.context import read_context
from atlas.edge.error_responses import build_json_response
from atlas.edge.operator.guard import Guard
from atlas.runtime import Quota

T = TypeVar("T")

PAGE_MAX = 1_000
FIND_CHARACTERS_MAX = 255  # the length of the longest sub
BYTES_MAX = 64 * 1024  # a diagnosis may send a token
READER = BodyReader(Quota(64 * BYTES_MAX), BYTES_MAX, BYTES_MAX, MinimumRate(), 25.0)


class ListingQuery(Struct):
    """The query parameters of GET /exports.

    `find` is a receipt id or its beginning, a correlation id, or a user: the sub, or its pseudonym.
    """

    status: ListedStatus | None = None
    limit: Annotated[int, Meta(ge=1)] = 50
    before: Annotated[int, Meta(ge=1, le=2**62)] | None = None
    find: Annotated[str, Meta(min_length=1, max_length=FIND_CHARACTERS_MAX)] | None = None


class PersonQuery(Struct, forbid_unknown_fields=True):
    """The body of /personal-data and /erasures: a proxy would log a path, and the sub with it."""

    user: Annotated[str, Meta(min_length=1)]
    files: bool = False


class DiagnosisTasks(Protocol):
    """Checks everything that the service depends on."""

    async def diagnose(self, request: diagnosis.DiagnosisRequest) -> diagnosis.Diagnosis: ...
    async def remove_old_json(self) -> RemovalResult: ...


@dataclass(frozen=True, slots=True)
class OperatorServices:
    """The services behind the operator routes, with one handler for each route."""

    ledger: Ledger
    dead_letters: DeadLetters
    replays: ReplayTasks
    personal_data: PersonalDataTasks
    diagnosis: DiagnosisTasks

    def routes(self, guard: Guard) -> list[Route]:
        return [
            guard.build_route("GET", "/exports", self.get_exports),
            guard.build_route("POST", "/exports/replay", self.replay_all),
            guard.build_route("POST", "/exports/{id:path}/replay", self.replay),
            guard.build_route("POST", "/exports/{id:path}/discard", self.abandon),
            guard.build_route("GET", "/exports/{id:path}", self.get_export),
            guard.build_route("POST", "/personal-data", self.find_person),
            guard.build_route("POST", "/erasures", self.forget_person),
            guard.build_route("POST", "/diagnose", self.post_diagnosis),
            guard.build_route("POST", "/diagnose/remove-old-json", self.post_removal),
        ]

    async def get_exports(self, request: Request) -> Response:
        query = parse_query(request.query_params, ListingQuery)
        limit = min(query.limit, PAGE_MAX)
        listing = await self.ledger.list_entries(query.status, limit, query.before, query.find)
        return build_json_response(listing, 200)

    async def get_export(self, request: Request) -> Response:
        return build_json_response(await self.find_entry(request), 200)

    async def find_entry(self, request: Request) -> JournalEntry:
        """Find the export that the path names. Raises NotFound."""
        id = request.path_params["id"]
        entry = await self.ledger.find_entry(id) if id else None
        if entry is None:
            raise NotFound(
                "No export has this id, or more than one id begins with it: see atlas exports list."
            )
        return entry

    async def replay(self, request: Request) -> Response:
        """Replay one export. Raises NotSetAside."""
        entry = await self.find_entry(request)
        require_set_aside(entry)
        result = await self.replays.replay(entry.receipt.id)
        require_replayed(entry, result.again + result.failed)
        return build_json_response(result, 200)

    async def replay_all(self, _request: Request) -> Response:
        return build_json_response(await self.replays.replay_all(), 200)

    async def abandon(self, request: Request) -> Response:
        """Discard one export. Raises NotSetAside."""
        entry = await self.find_entry(request)
        require_set_aside(entry)
        return build_json_response(
            AbandonResult(await self.dead_letters.abandon(entry.receipt.id)), 200
        )

    async def find_person(self, request: Request) -> Response:
        query = await read_body(request, PersonQuery)
        report = await self.personal_data.report(User(query.user), lists=query.files)
        return build_json_response(report, 200)

    async def forget_person(self, request: Request) -> Response:
        query = await read_body(request, PersonQuery)
        return build_json_response(await self.personal_data.erase(User(query.user)), 200)

    async def post_diagnosis(self, request: Request) -> Response:
        query = await read_body(request, diagnosis.DiagnosisRequest)
        return build_json_response(await self.diagnosis.diagnose(query), 200)

    async def post_removal(self, _request: Request) -> Response:
        return build_json_response(await self.diagnosis.remove_old_json(), 200)


def parse_query(params: Mapping[str, str], kind: type[T]) -> T:
    """Parse the query parameters. Raises Rejected, with the name of an invalid one."""
    for name, value in params.items():
        try:
            msgspec.convert({name: value}, kind, strict=False)
        except msgspec.ValidationError as error:
            raise Rejected(f"The value of {name} is invalid.") from error
    return msgspec.convert(dict(params), kind, strict=False)


async def read_body(request: Request, kind: type[T]) -> T:
    """Read a JSON body, with limits on its size and rate.

    Raises UnsupportedMediaType, BodyTooLarge, BodyTooSlow, Rejected.
    """
    context = read_context(request.scope, "operator", never_sample)
    with READER.reserve_json(User("operator")) as reservation:
        parse = partial(parse_json, kind=kind)
        body, _ = await READER.read_json(context, request.receive, reservation, parse)
        return body
