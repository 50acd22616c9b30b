"""The routes of the operator listener, as its document describes them."""

from dataclasses import dataclass, field
from typing import Any, get_args

from atlas.core.diagnosis import Diagnosis, DiagnosisRequest
from atlas.core.messages import (
    AbandonResult,
    JournalEntry,
    JournalPage,
    ListedStatus,
    RemovalResult,
    ReplayResult,
)
from atlas.core.personal_data import ErasureReceipt, PersonalDataReport
from atlas.core.phones import PAGE_MAX as PHONES_PAGE_MAX
from atlas.core.phones import PhonePage, ReportPage
from atlas.core.status import StatusSnapshot
from atlas.edge.openapi.parameters import Parameters, describe_parameters
from atlas.edge.operator.phones import PhoneOwner, ReportsQuery
from atlas.edge.operator.routes import FIND_CHARACTERS_MAX, PAGE_MAX, PersonQuery
from atlas.edge.operator.status_stream import EVENTS

Json = dict[str, Any]

PLAIN_TEXT = "text/plain"
MUTATION, BODY = (403,), (400, 403, 408, 413, 415)
ID: Parameters = {
    "id": (
        "The receipt id, or its beginning: four characters or more.",
        {"type": "string", "minLength": 4},
        "cfa7aae4",
    ),
}
LISTING: Parameters = {
    "status": (
        "Only exports with this status. `failed`: accepted, have failed, and are retried apart.",
        {"type": "string", "enum": sorted(get_args(ListedStatus))},
        "set_aside",
    ),
    "limit": (
        "The number of exports per page.",
        {"type": "integer", "format": "int32", "minimum": 1, "maximum": PAGE_MAX, "default": 50},
        50,
    ),
    "before": ("`before` of the last page.", {"type": "integer", "format": "int64"}, None),
    "find": (
        "A receipt id or its beginning, a user (`sub`, or as listed), or a correlation id.",
        {"type": "string", "minLength": 1, "maxLength": FIND_CHARACTERS_MAX},
        "cfa7aae4",
    ),
}
SECONDS = {"type": "integer", "format": "int64", "minimum": 0}
PHONES: Parameters = {
    "limit": (
        "The number of phones per page.",
        {
            "type": "integer",
            "format": "int32",
            "minimum": 1,
            "maximum": PHONES_PAGE_MAX,
            "default": 50,
        },
        50,
    ),
    "before": ("`before` of the last page.", {"type": "string"}, None),
    "quiet_seconds": ("Only phones without an export for this time.", SECONDS, 259_200),
    "seen_seconds": ("Only phones with an export in this time.", SECONDS, 2_592_000),
}
PERSON, QUESTION = {"user": "auth0|687a56be9811378240321ed6"}, {"url": "https://atlas.example.com"}


@dataclass(frozen=True, slots=True)
class OperatorRoute:
    """A route. `reply` is a type, or a media type; `errors` are those that not every route has."""

    route: str
    id: str
    summary: str
    reply: type | str
    about: str = ""
    body: tuple[type, Json] | None = None
    parameters: list[Json] = field(default_factory=list)
    errors: tuple[int, ...] = ()


OF_ONE = describe_parameters("path", ID)
ROUTES = {  # by tag
    "status": [
        OperatorRoute(
            "GET /status",
            "getStatus",
            "Get the status",
            StatusSnapshot,
            "With the last 120 transactions and the last hour of the journal.",
        ),
        OperatorRoute(
            "GET /status/stream",
            "streamStatus",
            "Follow the status",
            EVENTS,
            "Server-sent events, one a second: the `data` of each is a `StatusSnapshot`. The first"
            " has everything, the others only new transactions and history.",
        ),
        OperatorRoute(
            "GET /metrics",
            "getMetrics",
            "Get the metrics",
            PLAIN_TEXT,
            "In the text format of Prometheus.",
        ),
    ],
    "exports": [
        OperatorRoute(
            "GET /exports",
            "listExports",
            "List exports",
            JournalPage,
            "Newest first. A search for a correlation id reads 10,000 exports per page.",
            parameters=describe_parameters("query", LISTING),
            errors=(400,),
        ),
        OperatorRoute(
            "GET /exports/{id}",
            "getExport",
            "Get an export",
            JournalEntry,
            parameters=OF_ONE,
            errors=(404,),
        ),
        OperatorRoute(
            "POST /exports/{id}/replay",
            "replayExport",
            "Replay a set-aside export",
            ReplayResult,
            parameters=OF_ONE,
            errors=(404, 409, *MUTATION),
        ),
        OperatorRoute(
            "POST /exports/replay",
            "replayExports",
            "Replay all set-aside exports",
            ReplayResult,
            errors=MUTATION,
        ),
        OperatorRoute(
            "POST /exports/{id}/discard",
            "discardExport",
            "Discard a set-aside export",
            AbandonResult,
            "Its data are deleted for good.",
            parameters=OF_ONE,
            errors=(404, 409, *MUTATION),
        ),
    ],
    "journal": [
        OperatorRoute(
            "POST /journal/hold",
            "holdJournal",
            "Keep the journal's file unchanged",
            PLAIN_TEXT,
            "For as long as the connection lasts, so that a process on this machine can read it:"
            " one line each second. 404 if the journal is not in a file.",
            errors=(404, *MUTATION),
        ),
    ],
    "phones": [
        OperatorRoute(
            "GET /phones",
            "listPhones",
            "List phones",
            PhonePage,
            "Those with the latest exports first. `totals` are those of all phones.",
            parameters=describe_parameters("query", PHONES),
            errors=(400,),
        ),
        OperatorRoute(
            "POST /phones/search",
            "findPhones",
            "List the phones of a user",
            PhonePage,
            body=(PhoneOwner, PERSON),
            errors=BODY,
        ),
        OperatorRoute(
            "POST /phones/reports",
            "listReports",
            "List the reports with counts of one user",
            ReportPage,
            "Of `user`, or of the user after `after`.",
            body=(ReportsQuery, PERSON),
            errors=BODY,
        ),
    ],
    "personal data": [
        OperatorRoute(
            "POST /personal-data",
            "reportPersonalData",
            "Report what Atlas knows about a person",
            PersonalDataReport,
            body=(PersonQuery, PERSON | {"files": True}),
            errors=BODY,
        ),
        OperatorRoute(
            "POST /erasures",
            "erasePersonalData",
            "Erase the data of a person",
            ErasureReceipt,
            "It can be repeated. The receipt lists the steps that are left to others, and says if"
            " nothing was known of the person.",
            body=(PersonQuery, PERSON),
            errors=BODY,
        ),
    ],
    "diagnosis": [
        OperatorRoute(
            "POST /diagnose",
            "diagnose",
            "Check the whole flow",
            Diagnosis,
            body=(DiagnosisRequest, QUESTION),
            errors=BODY,
        ),
        OperatorRoute(
            "POST /diagnose/remove-old-json",
            "removeOldJson",
            "Remove the old service's .json files",
            RemovalResult,
            errors=MUTATION,
        ),
    ],
}
