"""The route of reports, and its types, as the public document describes them."""

from typing import Any

from atlas.core.phones import (
    CODE_CHARACTERS_MAX,
    DEVICE_CHARACTERS_MAX,
    MESSAGE_CHARACTERS_MAX,
    STATE_CHARACTERS_MAX,
    VERSION_CHARACTERS_MAX,
)
from atlas.edge.context import JSON
from atlas.edge.openapi import parameters
from atlas.edge.openapi.errors import describe_headers, refer_to_errors
from atlas.edge.openapi.parameters import SECURITY, describe_parameters
from atlas.edge.openapi.schemas import build_ref
from atlas.edge.openapi.texts import FieldText, TypeText, describe_time
from atlas.edge.reports import REPORT_BYTES_MAX

Json = dict[str, Any]

REPORT: Json = {
    "event": "sync_ended",
    "at": "2026-03-04T21:00:00Z",
    "device": "iPhone",
    "counts": [{"type": "HKQuantityTypeIdentifierHeartRate", "day": "2026-03-04", "samples": 1412}],
    "battery": 0.62,
    "state": "background",
    "app_version": "2.1",
    "os_version": "18.2",
}


def cut_at(characters_max: int) -> str:
    return f"; cut after {characters_max} characters."


SAMPLES: FieldText = {
    "description": "The number of samples that start on this day, without deleted ones.",
    "format": "int32",
    "minimum": 0,
}
REPORT_TEXTS = {
    "ReportBody": TypeText(
        "What a phone saw of its own synchronization: counts and conditions, never health values."
        " Unknown fields are ignored, and not stored. Null is as good as leaving a field out, also"
        " for `error`, and a text that is too long is cut.",
        {
            "event": "What has happened.",
            "at": describe_time("The time of the event."),
            "device": f"The same name as in exports{cut_at(DEVICE_CHARACTERS_MAX)}",
            "counts": "Samples by type and day, as HealthKit on the phone has them now.",
            "time_zone": "The offset from UTC in which all days are counted: `Z` or `+02:00`.",
            "error": "The error of a failed synchronization.",
            "battery": "The state of charge, from 0 to 1. Any other number, such as the -1 of iOS,"
            " is not known.",
            "state": "The state of the app, such as `foreground` or `background`"
            f"{cut_at(STATE_CHARACTERS_MAX)}",
            "app_version": f"The version of the app{cut_at(VERSION_CHARACTERS_MAX)}",
            "os_version": f"The version of iOS{cut_at(VERSION_CHARACTERS_MAX)}",
            "user": "May only repeat the `sub` of the token. Leave it out.",
            "sub": "May only repeat the `sub` of the token. Leave it out.",
        },
    ),
    "SampleCount": TypeText(
        "The number of samples of a type on a day.",
        {
            "type": "The identifier of the type, as in exports.",
            "day": "The day in `time_zone`; at most one day after `at`.",
            "samples": SAMPLES,
        },
    ),
    "ReportErrorBody": TypeText(
        "An error of the app.",
        {
            "code": "A name or number, which may also be sent as a JSON number"
            f"{cut_at(CODE_CHARACTERS_MAX)}",
            "message": f"A description, without health data{cut_at(MESSAGE_CHARACTERS_MAX)}",
        },
    ),
}


def describe_report() -> Json:
    return {
        "operationId": "postReport",
        "summary": "Report what the phone sees",
        "description": "Tells the operator what the phone itself sees, so that missing samples and"
        f" phones in trouble are noticed. At most {REPORT_BYTES_MAX // 1024} KiB, and by default 30"
        " an hour of each user. A report never affects exports.",
        "tags": ["reports"],
        "security": SECURITY,
        "parameters": describe_parameters("header", parameters.CORRELATION),
        "requestBody": {
            "required": True,
            "content": {JSON: {"schema": build_ref("ReportBody"), "example": REPORT}},
        },
        "responses": {
            "204": {"description": "The report is stored.", "headers": describe_headers([])},
            **refer_to_errors(400, 401, 403, 408, 413, 415, 429, 431, 500, 503),
        },
    }
