"""The route of reports, and its types, as the public document describes them."""

from typing import Any

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
SAMPLES: FieldText = {
    "description": "The number of samples that start on this day, without deleted ones.",
    "format": "int32",
    "minimum": 0,
}
REPORT_TEXTS = {
    "ReportBody": TypeText(
        "What a phone saw of its own synchronization: counts and conditions, never health values."
        " Unknown fields are ignored, and not stored.",
        {
            "event": "What has happened.",
            "at": describe_time("The time of the event."),
            "device": "The same name as in exports.",
            "counts": "Samples by type and day, as HealthKit on the phone has them now.",
            "time_zone": "The offset from UTC in which all days are counted: `Z` or `+02:00`.",
            "error": "The error of a failed synchronization.",
            "battery": "The state of charge, from 0 to 1.",
            "state": "The state of the app, such as `foreground` or `background`.",
            "app_version": "The version of the app.",
            "os_version": "The version of iOS.",
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
    "ReportedError": TypeText(
        "An error of the app.",
        {"code": "A name or number.", "message": "A description, without health data."},
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
