"""The log, as a reader of events: one JSON object a line, or readable text on a terminal.

The sentences are those of the service that Atlas replaced, word for word: runbooks search for
them. A user is shown as a keyed hash, unless the operator asked for more.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple, Protocol, TextIO

import msgspec

from atlas.core import events, identifiers
from atlas.core.events import Event, EventSink

MESSAGES: dict[type, tuple[str, str]] = {
    events.RequestAnswered: ("debug", "Request answered"),
    events.ConnectionRejected: ("info", "Connection rejected"),
    events.ConnectionAborted: ("debug", "Connection cut"),
    events.RequestsShed: ("error", "HealthKit raw export failed"),
    events.StageCompleted: ("debug", "Stage worked"),
    events.LinesRejected: ("debug", "Export has no valid line"),
    events.ServiceStarted: ("info", "Atlas started"),
    events.ExportAccepted: ("debug", "Uploading HealthKit data to dataset"),
    events.ExportReplayed: ("info", "Export replayed"),
    events.RecordCountMismatch: ("warning", "Record count mismatch"),
    events.ClientStuck: ("warning", "Stuck client"),
    events.ExportCommitted: ("info", "Successfully uploaded HealthKit JSON to Foundry dataset"),
    events.ExportFailed: ("warning", "HealthKit export failed, tried apart from the others"),
    events.ExportSetAside: ("error", "Failed to upload HealthKit JSON to Foundry dataset"),
    events.ExportQuarantined: ("error", "HealthKit export that crashes Atlas set aside"),
    events.GroupStarted: ("debug", "Foundry transaction opened"),
    events.GroupCommitted: ("debug", "Foundry transaction committed"),
    events.GroupRecovered: ("warning", "Foundry transaction of unknown outcome settled"),
    events.UploadPaused: ("error", "Failed to upload HealthKit JSON to Foundry dataset"),
    events.UnprotectedKeyFile: ("warning", "ATLAS_JOURNAL_KEY is not set"),
    events.ParquetPerExport: ("warning", "Parquet saves little in a file for each export"),
    events.JournalDamaged: ("error", "Journal damaged"),
    events.JournalRestored: ("warning", "Journal older than the dataset"),
    events.TotalsMismatch: ("error", "Ledger unbalanced"),
    events.OrphanAborted: ("warning", "Foundry transaction whose answer was lost aborted"),
    events.OrphanSuspected: ("error", "Foundry transaction that may be ours blocks the branch"),
    events.ForeignWriterDetected: ("error", "Somebody else writes to the branch"),
    events.UserErased: ("warning", "User forgotten"),
    events.KeysFetched: ("info", "Auth0 signing keys fetched"),
    events.KeysUnavailable: ("warning", "Auth0 signing keys cannot be fetched"),
    events.FoundryTokenFetched: ("info", "Foundry token fetched"),
    events.FoundryTokenRefused: ("warning", "Foundry gives no token"),
    events.StageCrashed: ("error", "Stage crashed"),
    events.DrainStarted: ("info", "Shutting down"),
    events.DrainEnded: ("info", "Shut down"),
}
LEVEL_NUMBERS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
LEVEL_NAMES = {number: level for level, number in LEVEL_NUMBERS.items()}
FIELD_NAMES = {
    "correlation_id": "correlationId",
    "transaction": "transactionRid",
    "records": "recordCount",
    "bytes": "payloadBytes",
    "id": "receiptId",
    "is_alone": "isAlone",
    "is_outage": "isOutage",
    "error_name": "errorName",
    "instance_id": "errorInstanceId",
    "dataset": "datasetRid",
}
DURATION_FIELDS: dict[type, str] = {  # the field name of `seconds`, by event
    events.RequestAnswered: "requestSeconds",
    events.StageCompleted: "stageSeconds",
    events.ExportCommitted: "secondsToCommit",
    events.GroupCommitted: "transactionSeconds",
    events.FoundryCalled: "callSeconds",
    events.FoundryTokenFetched: "callSeconds",
    events.UploadPaused: "retryInSeconds",
}
DURATION_DIGITS = 3  # after the point
# logged at debug only, to keep the two lines of an export short: the last one has them
FIELDS_OF_BRIEF_EVENTS: dict[type, frozenset[str]] = {
    events.RequestRead: frozenset({"user", "bytes", "exports", "is_batch"}),
}
# errors that answer a question, by the operation that asks it: none of these is a failure
EXPECTED_ERRORS: dict[str, frozenset[str]] = {
    "begin": frozenset({"OpenTransactionAlreadyExists"}),
    "transaction": frozenset({"TransactionNotFound"}),
    "file": frozenset({"FileNotFound", "FileNotFoundOnBranch", "DatasetViewNotFound"}),
    "remove": frozenset({"FileNotFound", "FileNotFoundOnBranch"}),
    "files": frozenset({"DatasetViewNotFound", "TransactionNotCommitted", "TransactionNotFound"}),
}

# fields that are left out when they say nothing: no line was rejected, Foundry gave no name
EMPTY_IF_ABSENT = frozenset({"reasons", "error_name", "instance_id", "trace", "user"})

_encoder = msgspec.json.Encoder()


class LogWriter(Protocol):
    """A logger: the part of structlog that is used here."""

    def is_enabled_for(self, level: int, /) -> bool: ...

    def log(self, level: int, message: str, /, **fields: object) -> object: ...


def build_logger(stream: TextIO, level: str) -> LogWriter:
    """Writes to the stream; for people if it is a terminal, for machines otherwise."""
    level_min = LEVEL_NUMBERS[level]
    if not stream.isatty():
        return JsonLogger(stream, level_min)
    import structlog  # noqa: PLC0415 - it brings rich along: 6 MiB, for a terminal only

    lazy = structlog.wrap_logger(
        structlog.PrintLogger(stream),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.dev.ConsoleRenderer(colors=True),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level_min),
    )
    writer: LogWriter = lazy.bind()
    return writer


@dataclass(frozen=True, slots=True)
class JsonLogger:
    """Writes one JSON object a line. The fields that every line has come first.

    Not by structlog: three lines of an export took a thirtieth of its whole cost there.
    """

    stream: TextIO
    level_min: int

    def is_enabled_for(self, level: int, /) -> bool:
        return level >= self.level_min

    def log(self, level: int, message: str, /, **fields: object) -> None:
        line: dict[str, object] = {
            "timestamp": identifiers.format_timestamp(datetime.now(UTC)),
            "level": LEVEL_NAMES[level],
            "message": message,
        }
        line.update(fields)
        self.stream.write(_encoder.encode(line).decode() + "\n")
        self.stream.flush()


@dataclass(frozen=True, slots=True)
class EventLog:
    """Tells events; `key` hashes users."""

    writer: LogWriter
    key: bytes
    shows_users: bool = False
    _fields: "dict[type[Event], tuple[LogField, ...]]" = field(init=False, default_factory=dict)

    def find_handler(self, kind: type[Event]) -> EventSink | None:
        """The writer of events of this kind, None if their level is not logged."""
        if kind not in MESSAGES:
            return self.handle
        level, message = MESSAGES[kind]
        number = LEVEL_NUMBERS[level]
        if not self.writer.is_enabled_for(number):
            return None
        return partial(self.write, number, message)

    def handle(self, event: Event) -> None:
        level, message = MESSAGES.get(type(event)) or choose_message(event)
        if self.writer.is_enabled_for(LEVEL_NUMBERS[level]):
            self.write(LEVEL_NUMBERS[level], message, event)

    def write(self, level: int, message: str, event: Event) -> None:
        shown = {}
        for name, label, show, is_optional in self._get_fields(type(event)):
            value = getattr(event, name)
            if value or not is_optional:
                shown[label] = value if show is None else show(value)
        with suppress(OSError, ValueError):  # a log that is full or closed refuses no export
            self.writer.log(level, message, **shown)

    def _get_fields(self, kind: type[Event]) -> "tuple[LogField, ...]":
        if kind not in self._fields:
            self._fields[kind] = tuple(self._build_fields(kind))
        return self._fields[kind]

    def _build_fields(self, kind: type[Event]) -> "Iterator[LogField]":
        is_brief = not self.writer.is_enabled_for(LEVEL_NUMBERS["debug"])
        show: dict[str, tuple[str, Callable[[Any], object]]] = {
            "user": (
                "user",
                str if self.shows_users else partial(identifiers.pseudonymize, self.key),
            ),
            "seconds": (
                DURATION_FIELDS.get(kind, "seconds"),
                lambda value: round(value, DURATION_DIGITS),
            ),
            "trace": ("traceId", lambda trace: trace.id),
        }
        for name in kind.__struct_fields__:
            if is_brief and name in FIELDS_OF_BRIEF_EVENTS.get(kind, ()):
                continue
            if name != "path" or self.shows_users:  # it holds the sub
                shown, how = show.get(name, (FIELD_NAMES.get(name, name), None))
                yield LogField(name, shown, how, name in EMPTY_IF_ABSENT)


class LogField(NamedTuple):
    """The name and format of a field in the log. It is left out if it is optional and empty."""

    name: str
    label: str
    convert: Callable[[Any], object] | None
    is_optional: bool


def choose_message(event: Event) -> tuple[str, str]:
    """The level and the sentence of an event where they depend on what it holds."""
    if isinstance(event, events.RequestRefused):
        return "error" if event.status >= 500 else "warning", describe_refusal(event)
    if isinstance(event, events.FoundryCalled):
        return (
            ("warning", "Foundry call failed") if is_failure(event) else ("debug", "Foundry called")
        )
    is_batch = isinstance(event, events.RequestRead) and event.is_batch
    return "info", f"Processing HealthKit {'batch' if is_batch else 'raw'} export to dataset"


def is_failure(event: events.FoundryCalled) -> bool:
    """Whether Foundry answers an error that is not the answer to a question."""
    is_expected = event.error_name in EXPECTED_ERRORS.get(event.operation, frozenset())
    return event.status >= 400 and not is_expected


def describe_refusal(event: events.RequestRefused) -> str:
    """The old service had sentences of their own for some."""
    if event.code in {"NOT_FOUND", "METHOD_NOT_ALLOWED"}:
        return "Nothing is at this address"  # a scanner's, as a rule
    if event.status == 401:
        return "JWT validation failed"
    if event.status == 429:
        return "Rate limit exceeded"
    too_large = event.status == 413
    return "HealthKit export exceeds payload limit" if too_large else "HealthKit raw export failed"
