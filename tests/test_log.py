"""The log for operators: the old service's sentences, and no personal data."""

import io
import json
import logging
import re
import threading
import warnings

import msgspec
import pytest

from atlas.core import events, identifiers
from atlas.core.identifiers import API_PREFIX
from atlas.outside.log import (
    MESSAGES,
    RECOVERIES,
    TEXT_LEVELS,
    EventLog,
    build_logger,
    capture_library_messages,
    log_bug,
)
from atlas.outside.log.fields import build_fields
from atlas.outside.log.outages import Outages

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
            "warning",
            "Failed to upload HealthKit JSON to Foundry dataset",
        ),
        (
            events.ExportSetAside("e", "c", 5, "Foundry answers 400."),
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
            "warning",
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


STARTED = events.ServiceStarted(
    version="1.2.3",
    python="3.14.0",
    dataset="ri.dataset",
    branch="master",
    journal="sqlite",
    file_format="ndjson",
    file_layout="auto",
    waiting=0,
    settings=("PORT=9000", "edge.chunks_max=5"),
)
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
    del start["timestamp"]
    assert start == {
        "level": "info",
        "message": "Atlas started",
        "version": "1.2.3",
        "python": "3.14.0",
        "datasetRid": "ri.dataset",
        "branch": "master",
        "journal": "sqlite",
        "fileFormat": "ndjson",
        "fileLayout": "auto",
        "waiting": 0,
        "settings": ["PORT=9000", "edge.chunks_max=5"],
    }
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
        events.FoundryCalled("publish", 403, 0.1, False, "ApiUsageDenied"),  # said once, as a pause
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


def log_all(*happened, level="info", log_format="json", clock=None):
    """Log events as a service does, and return the lines."""
    stream = io.StringIO()
    outages = Outages(clock or (lambda: 0.0))
    log = EventLog(build_logger(stream, level, log_format), KEY, outages=outages)
    for event in happened:
        if handle := log.find_handler(type(event)):
            handle(event)
    lines = stream.getvalue().splitlines()
    return [json.loads(line) for line in lines] if log_format == "json" else lines


PAUSED = events.UploadPaused("Foundry answers 503.", 3.0)
GROUP = events.GroupCommitted("t1", 3, 900, 0.3, 11, "idle", ("auth0|ada", "auth0|bob"))


def test_a_pause_of_foundry_is_one_warning_and_one_line_when_it_is_over():
    times = iter([100.0, 3_700.0])
    lines = log_all(*[PAUSED] * 20, GROUP, GROUP, clock=lambda: next(times))

    assert [(line["level"], line["message"]) for line in lines] == [
        ("warning", "Failed to upload HealthKit JSON to Foundry dataset"),
        ("info", "Foundry accepts uploads again"),
    ]
    assert lines[0]["reason"] == "Foundry answers 503."
    assert (lines[1]["outageSeconds"], lines[1]["tries"]) == (3_600, 20)


def test_at_debug_each_try_of_a_pause_is_a_line():
    lines = log_all(*[PAUSED] * 3, level="debug")

    assert [line["level"] for line in lines] == ["warning", "debug", "debug"]


def test_a_pause_after_a_commit_is_another_pause():
    messages = [line["message"] for line in log_all(PAUSED, GROUP, PAUSED, GROUP)]

    assert messages == 2 * [
        "Failed to upload HealthKit JSON to Foundry dataset",
        "Foundry accepts uploads again",
    ]


def test_a_transaction_that_turns_out_to_be_lost_ends_no_pause():
    lost, found = events.GroupRecovered(2, 0), events.GroupRecovered(2, 2)

    assert "again" not in str(log_all(PAUSED, lost))
    assert "Foundry accepts uploads again" in str(log_all(PAUSED, lost, found))


def test_another_replica_goes_on_with_a_pause_and_says_so_itself():
    lines = log_all(PAUSED, events.LeadershipLost(3, "released"), GROUP)

    assert "Foundry accepts uploads again" not in str(lines)
    assert lines[1]["message"] == "This replica stopped uploading"


@pytest.mark.parametrize(
    ("failure", "success", "sentence"),
    [
        (
            events.FoundryTokenRefused("Foundry gives us no token (401)."),
            events.FoundryTokenFetched(3_600),
            "Foundry gives tokens again",
        ),
        (
            events.KeysUnavailable("TimeoutError", 0),
            events.KeysFetched(2),
            "Auth0 signing keys can be fetched again",
        ),
    ],
)
def test_what_is_fetched_again_and_again_is_told_when_it_fails_and_when_it_is_back(
    failure, success, sentence
):
    lines = log_all(success, failure, failure, success, success)

    assert [line["level"] for line in lines] == ["warning", "info"]
    assert (lines[1]["message"], lines[1]["tries"]) == (sentence, 2)


def test_an_issuer_that_works_does_not_end_the_outage_of_another():
    down, works, back = (
        events.KeysUnavailable("TimeoutError", 0, "a.test"),
        events.KeysFetched(2, "b.test"),
        events.KeysFetched(2, "a.test"),
    )
    lines = log_all(down, works, down, works, back)

    assert [line["level"] for line in lines] == ["warning", "info"]
    assert lines[0]["issuer"] == "a.test"


def test_what_is_a_matter_of_a_sender_or_passes_by_itself_is_no_error():
    passing = [
        PAUSED,
        events.RequestsShed(900, {"/export": 900}),
        events.RequestRefused("c", "RATE_LIMITED", 429, "auth0|ada"),
        events.RequestRefused("c", "AUTH_UNAVAILABLE", 503),
        events.RequestRefused("c", "JOURNAL_FULL", 503),
        events.FoundryCalled("put", 503, 0.1, is_retry=True),
        events.FoundryTokenRefused("Foundry gives us no token (401)."),
        events.KeysUnavailable("TimeoutError", 0),
        events.DatabaseConnectionLost(),
    ]
    assert "error" not in {line["level"] for line in log_all(*passing, level="debug")}


def test_a_group_names_its_user_or_says_how_many_there_are():
    one = msgspec.structs.replace(GROUP, users=("auth0|ada",))
    several, single = log_all(GROUP, one, level="debug")
    nobody = msgspec.structs.replace(GROUP, users=())

    assert single["user"] == identifiers.pseudonymize(KEY, "auth0|ada")
    assert "users" not in single
    assert several["users"] == 2
    assert "user" not in several
    assert not {"user", "users"} & log_all(nobody, level="debug")[0].keys()


def test_text_has_a_line_for_each_commit_and_none_for_an_export():
    (line,) = log_all(*LONE_EXPORT, events.ExportReplayed("e", "c", "u"), log_format="text")

    assert "Foundry transaction committed" in line
    for number in ("exports=1", "rows=11", "payloadBytes=900", "transactionSeconds=0.3"):
        assert number in line
    assert line.index("rows=") < line.index("transactionRid="), "the numbers come first"


def test_at_debug_text_has_the_lines_of_an_export_too():
    lines = "\n".join(log_all(*LONE_EXPORT, log_format="text", level="debug"))

    assert "Processing HealthKit raw export to dataset" in lines
    assert "Successfully uploaded HealthKit JSON to Foundry dataset" in lines


def test_text_that_is_no_terminal_has_no_colours_and_shows_settings_as_words():
    (line,) = log_all(STARTED, log_format="text")

    assert "\x1b" not in line
    assert "settings=PORT=9000 edge.chunks_max=5" in line.replace("'", "")


@pytest.mark.parametrize(
    ("stream", "log_format", "is_json"),
    [
        (io.StringIO, "auto", True),
        (io.StringIO, "json", True),
        (io.StringIO, "text", False),
        (Terminal, "auto", False),
        (Terminal, "json", True),
        (Terminal, "text", False),
    ],
)
def test_the_format_is_chosen_or_follows_the_terminal(stream, log_format, is_json):
    written = stream()
    EventLog(build_logger(written, "info", log_format), KEY).handle(STARTED)

    assert written.getvalue().startswith("{") == is_json


@pytest.mark.parametrize("kind", events.Event.__subclasses__(), ids=lambda kind: kind.__name__)
def test_every_field_is_in_camel_case(kind):
    labels = [each.label for each in build_fields(kind, str, is_debug=True)]

    assert [label for label in labels if not re.fullmatch(r"[a-z]+([A-Z][a-z]+)*", label)] == []


ANSWERED = events.RequestAnswered(
    "c1", f"{API_PREFIX}/exports/{{id}}", "GET", 200, 0.0123456, None, 321, "auth0|ada"
)


def test_a_request_is_a_line_at_debug():
    (line,) = log_all(ANSWERED, level="debug")
    del line["timestamp"]

    assert line == {
        "level": "debug",
        "message": "Request answered",
        "correlationId": "c1",
        "route": "/api/v1/healthkit/exports/{id}",
        "method": "GET",
        "status": 200,
        "requestSeconds": 0.012,
        "responseBytes": 321,
        "user": identifiers.pseudonymize(KEY, "auth0|ada"),
    }
    assert log_all(ANSWERED) == []
    assert "user" not in log_all(msgspec.structs.replace(ANSWERED, user=""), level="debug")[0]


# libraries


@pytest.fixture
def captured():
    """The log while messages of libraries are captured."""
    stream = io.StringIO()
    with capture_library_messages(build_logger(stream, "info", "json")):
        yield stream


def test_a_warning_of_a_library_is_a_line_of_json(captured):
    with warnings.catch_warnings():
        warnings.simplefilter("always")  # the tests turn warnings into errors
        warnings.warn("This will go away.\nAnd more.", DeprecationWarning, stacklevel=1)
    line = json.loads(captured.getvalue())

    assert (line["level"], line["logger"]) == ("warning", "py.warnings")
    assert "DeprecationWarning: This will go away." in line["message"]


def test_an_error_of_a_library_is_a_line_without_the_value_in_its_text(captured):
    try:
        raise ValueError("72 beats of Ada")
    except ValueError:
        logging.getLogger("asyncio").exception("Exception in callback f('72 beats of Ada')\nhandle")
    line = json.loads(captured.getvalue())

    assert (line["level"], line["message"]) == ("error", "Error in a library")
    assert (line["logger"], line["error"]) == ("asyncio", "ValueError")
    assert "test_log.py" in line["where"][-1]
    assert "Ada" not in captured.getvalue()


def test_of_a_message_of_several_lines_the_first_is_logged(captured):
    logging.getLogger("asyncio").error("Unclosed client session\nclient_session: <of Ada>")
    logging.getLogger("asyncio").info("Using selector: EpollSelector")

    assert [json.loads(line)["message"] for line in captured.getvalue().splitlines()] == [
        "Unclosed client session"
    ]


def test_an_exception_that_nothing_handles_is_a_line_without_its_text(captured):
    def fail():
        raise ValueError("72 beats of Ada")

    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()

    class Failing:
        def __del__(self):
            fail()

    Failing()
    lines = [json.loads(line) for line in captured.getvalue().splitlines()]

    assert [(line["message"], line["error"]) for line in lines] == [
        ("Unhandled error", "ValueError"),
        ("Unhandled error", "ValueError"),
    ]
    assert "Ada" not in captured.getvalue()


def test_a_library_is_not_stopped_by_a_full_log():
    with capture_library_messages(build_logger(Full(), "info", "json")):
        logging.getLogger("asyncio").error("Unclosed client session")


def test_a_bug_is_a_line_of_json_with_its_place_and_without_a_value():
    stream = io.StringIO()
    try:
        raise ExceptionGroup("of tasks", [ZeroDivisionError("72 beats of Ada")])
    except ExceptionGroup as error:
        log_bug(build_logger(stream, "info", "json"), error)
    line = json.loads(stream.getvalue())

    assert (line["level"], line["error"]) == ("error", "ZeroDivisionError")
    assert line["message"].startswith("Ended by a bug.")
    assert "Ada" not in stream.getvalue()


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
def test_a_call_that_fails_is_a_line_at_debug_with_what_support_asks_for(operation, status, name):
    call = events.FoundryCalled(operation, status, 0.5, False, name, INSTANCE)
    line = json.loads(write_event(call, level="debug"))

    assert write_event(call) == "", "the failure that it causes has a line"
    assert (line["level"], line["message"]) == ("debug", "Foundry call failed")
    assert (line["operation"], line["status"]) == (operation, status)
    assert (line["errorName"], line["errorInstanceId"]) == (name, INSTANCE)


def test_a_call_that_fails_without_a_reason_shows_none():
    line = json.loads(
        write_event(events.FoundryCalled("put", 503, 0.5, is_retry=True), level="debug")
    )

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
    line = write_event(GROUP, stream=Terminal())

    assert "Foundry transaction committed" in line
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
    failures = {kind for each in RECOVERIES.values() for kind in each}
    assert set(RECOVERIES) | failures | (set(TEXT_LEVELS) - by_itself) <= set(MESSAGES)
