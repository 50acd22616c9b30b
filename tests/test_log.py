"""The log for operators: the old service's sentences, and no personal data."""

import io
import json

import msgspec
import pytest

from atlas.core import events, identifiers
from atlas.core.identifiers import API_PREFIX
from atlas.outside.log import MESSAGES, EventLog, build_logger

KEY = b"k" * 32
COMMITTED = events.ExportCommitted(
    "e1", "c1", "t1", "healthkit/raw/auth0|ada/x.ndjson", 11, 900, "auth0|ada", 4.25
)
READ = events.RequestRead("c1", "auth0|ada", 1, 6_000, is_batch=False)
ACCEPTED = events.ExportAccepted("e1", "c1", "auth0|ada", 11, 2, 900)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def write_event(event, *, shows_users=False, level="info", stream=None):
    stream = stream or io.StringIO()
    EventLog(build_logger(stream, level), KEY, shows_users).handle(event)
    return stream.getvalue()


def test_a_line_is_one_json_object_with_the_names_that_runbooks_know():
    line = json.loads(write_event(COMMITTED))

    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "message": "Successfully uploaded HealthKit JSON to Foundry dataset",
        "level": "info",
        "correlationId": "c1",
        "transactionRid": "t1",
        "receiptId": "e1",
        "recordCount": 11,
        "payloadBytes": 900,
        "user": identifiers.pseudonymize(KEY, "auth0|ada"),
        "secondsToCommit": 4.25,
    }


@pytest.mark.parametrize(
    ("event", "level", "sentence"),
    [
        (
            events.RequestRead("c", "u", 1, 9, is_batch=False),
            "info",
            "Processing HealthKit raw export to dataset",
        ),
        (
            events.RequestRead("c", "u", 3, 9, is_batch=True),
            "info",
            "Processing HealthKit batch export to dataset",
        ),
        (ACCEPTED, "debug", "Uploading HealthKit data to dataset"),
        (
            events.UploadPaused("Foundry answers 500.", 3.0),
            "error",
            "Failed to upload HealthKit JSON to Foundry dataset",
        ),
        (
            events.RequestRefused("c", "INVALID_PAYLOAD", 400),
            "warning",
            "HealthKit raw export failed",
        ),
        (
            events.RequestRefused("c", "OVERLOADED", 503),
            "error",
            "HealthKit raw export failed",
        ),
        (
            events.RequestRefused("c", "CHUNK_TOO_LARGE", 413),
            "warning",
            "HealthKit export exceeds payload limit",
        ),
        (events.RequestRefused("c", "TOKEN_EXPIRED", 401), "warning", "JWT validation failed"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_old_sentences_are_kept(event, level, sentence):
    line = json.loads(write_event(event, level="debug"))

    assert (line["level"], line["message"]) == (level, sentence)


def test_a_user_is_a_hash_that_stays_the_same_and_a_path_is_not_told():
    first, again = json.loads(write_event(READ, level="debug")), json.loads(write_event(COMMITTED))

    assert first["user"] == again["user"]
    assert "ada" not in write_event(READ, level="debug") + write_event(COMMITTED)


def test_users_are_shown_when_the_operator_asked_for_it():
    assert json.loads(write_event(READ, shows_users=True, level="debug"))["user"] == "auth0|ada"
    assert "auth0|ada" in json.loads(write_event(COMMITTED, shows_users=True))["path"]


STARTED = events.ServiceStarted("1.2.3", "ri.dataset", "master")
LONE_EXPORT = [  # all events of an export in a group of its own
    READ,
    *(
        events.StageCompleted(stage, 0.001)
        for stage in ("authenticate", "decode", "flatten", "journal")
    ),
    ACCEPTED,
    events.GroupStarted("t1", 1, 900, "idle"),
    *(events.FoundryCalled(each, 200, 0.1, False) for each in ("begin", "put", "commit")),
    events.GroupCommitted("t1", 1, 900, 0.3, 11, "idle"),
    COMMITTED,
    events.RequestAnswered("c1", f"{API_PREFIX}/export", "POST", 200, 0.4),
]


def test_an_export_is_two_short_lines_and_what_never_changes_is_said_at_the_start():
    lines = [json.loads(line) for event in LONE_EXPORT for line in write_event(event).splitlines()]

    assert [line["message"] for line in lines] == [
        "Processing HealthKit raw export to dataset",
        "Successfully uploaded HealthKit JSON to Foundry dataset",
    ]
    start = json.loads(write_event(STARTED))
    assert (start["datasetRid"], start["version"]) == ("ri.dataset", "1.2.3")
    assert not {"datasetRid", "version"} & {name for line in lines for name in line}


def test_the_lines_of_an_export_have_600_bytes_at_most_whatever_its_ids_are():
    id, uuid, rid = "f" * 64, "6f9619ff-8b86-4d01-b42d-00cf4fc964ff", "ri.foundry.main.transaction"
    read = msgspec.structs.replace(READ, correlation_id=uuid, bytes=10**7)
    committed = msgspec.structs.replace(
        COMMITTED, id=id, correlation_id=uuid, transaction=f"{rid}.{uuid}", seconds=1_234.567890123
    )

    lines = write_event(read) + write_event(committed)
    assert len(lines) <= 600


def test_seconds_say_what_they_are_of():
    waits = [
        events.UploadPaused("Foundry answers 500.", 3.0),
        COMMITTED,
        events.GroupCommitted("t1", 1, 900, 0.3, 11, "idle"),
        events.FoundryCalled("put", 200, 0.1, False),
        events.StageCompleted("decode", 0.1),
        events.RequestAnswered("c", "none", "GET", 404, 0.1),
    ]
    found = [json.loads(write_event(event, level="debug")) for event in waits]

    assert [{name for name in line if "econds" in name} for line in found] == [
        {"retryInSeconds"},
        {"secondsToCommit"},
        {"transactionSeconds"},
        {"callSeconds"},
        {"stageSeconds"},
        {"requestSeconds"},
    ]


def test_a_level_leaves_out_what_is_below_it():
    assert write_event(READ, level="warning") == ""
    assert write_event(events.UploadPaused("Foundry is down.", 1.0), level="warning") != ""


@pytest.mark.parametrize(
    "event",
    [
        events.RequestAnswered("c", "none", "GET", 404, 0.1),
        events.StageCompleted("decode", 0.1),
        events.FoundryCalled("put", 200, 0.1, False),
        events.LinesRejected("c", {"not UTF-8": 1}),
    ],
)
def test_what_happens_all_the_time_is_told_only_to_who_looks_for_it(event):
    assert write_event(event) == ""
    assert json.loads(write_event(event, level="debug"))["level"] == "debug"


def test_why_lines_were_rejected_is_told_if_any_were():
    some = msgspec.structs.replace(ACCEPTED, reasons={"not UTF-8": 2})

    assert json.loads(write_event(some, level="debug"))["reasons"] == {"not UTF-8": 2}
    assert "reasons" not in json.loads(write_event(ACCEPTED, level="debug"))


def test_a_token_that_is_not_to_be_had_is_a_warning():
    line = json.loads(write_event(events.FoundryTokenRefused("Foundry gives us no token (401).")))

    assert (line["level"], line["message"]) == ("warning", "Foundry gives no token")


INSTANCE = "3f6e1c5a-0000-4000-8000-000000000000"


@pytest.mark.parametrize(
    ("operation", "status", "name"),
    [
        ("put", 400, "FileContentRefused"),
        ("look", 404, "BranchNotFound"),
        ("commit", 404, "FileNotFound"),
        ("file", 403, "ReadFilePermissionDenied"),
        ("content", 500, "Default:Internal"),
    ],
)
def test_a_call_that_fails_is_a_warning_with_what_support_asks_for(operation, status, name):
    line = json.loads(
        write_event(events.FoundryCalled(operation, status, 0.5, False, name, INSTANCE))
    )

    assert (line["level"], line["message"]) == ("warning", "Foundry call failed")
    assert (line["operation"], line["status"]) == (operation, status)
    assert (line["errorName"], line["errorInstanceId"]) == (name, INSTANCE)


def test_a_call_that_fails_without_a_reason_shows_none():
    line = json.loads(write_event(events.FoundryCalled("put", 503, 0.5, is_retry=True)))

    assert line["message"] == "Foundry call failed"
    assert not {"errorName", "errorInstanceId"} & line.keys()


@pytest.mark.parametrize(
    ("operation", "status", "name"),
    [
        ("file", 404, "FileNotFound"),
        ("file", 404, "FileNotFoundOnBranch"),
        ("transaction", 404, "TransactionNotFound"),
        ("begin", 409, "OpenTransactionAlreadyExists"),
        ("files", 404, "DatasetViewNotFound"),
        ("put", 200, ""),
        ("put", 0, ""),
    ],
)
def test_a_call_that_is_answered_as_expected_is_not_a_failure(operation, status, name):
    call = events.FoundryCalled(operation, status, 0.5, False, name, INSTANCE)

    assert write_event(call) == ""
    assert json.loads(write_event(call, level="debug"))["message"] == "Foundry called"


def test_an_export_that_failed_is_a_warning_that_says_how_it_goes_on():
    failed = events.ExportFailed(
        "e1", "c1", 2, False, "refused", f"Foundry answers 400 ({INSTANCE})."
    )
    line = json.loads(write_event(failed))

    assert line.pop("timestamp")
    assert line == {
        "level": "warning",
        "message": "HealthKit export failed, tried apart from the others",
        "receiptId": "e1",
        "correlationId": "c1",
        "tries": 2,
        "isAlone": False,
        "cause": "refused",
        "reason": f"Foundry answers 400 ({INSTANCE}).",
    }


def test_an_export_that_is_set_aside_is_an_error_that_says_why():
    line = json.loads(write_event(events.ExportSetAside("e1", "c1", 5, "Foundry answers 400.")))

    assert (line["level"], line["receiptId"]) == ("error", "e1")
    assert line["reason"] == "Foundry answers 400."


def test_on_a_terminal_it_is_text_for_people():
    line = write_event(COMMITTED, stream=Terminal())

    assert "Successfully uploaded HealthKit JSON to Foundry dataset" in line
    assert not line.startswith("{")


class Full(io.StringIO):
    def write(self, _text):
        raise OSError(28, "No space left on device")


def test_a_log_that_cannot_be_written_refuses_no_export():
    write_event(COMMITTED, stream=Full())
    closed = io.StringIO()
    log = EventLog(build_logger(closed, "info"), KEY)
    closed.close()
    log.handle(COMMITTED)


def test_every_event_has_a_sentence():
    by_itself = {
        events.RequestRead,
        events.RequestRefused,
        events.FoundryCalled,
    }  # severity depends on their fields
    assert set(MESSAGES) | by_itself == set(events.Event.__subclasses__())
