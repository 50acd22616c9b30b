"""Writes events to the log: one JSON object per line, or readable text on a terminal.

Sentences that the old service logged are kept word for word, because runbooks search for them.
Users appear as keyed hashes unless `log.user_ids` is set.
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
    "trace": "traceId",
}
# the label of the field `seconds`, by event
DURATION_FIELDS: dict[type, str] = {
    events.RequestAnswered: "requestSeconds",
    events.StageCompleted: "stageSeconds",
    events.ExportCommitted: "secondsToCommit",
    events.GroupCommitted: "transactionSeconds",
    events.FoundryCalled: "callSeconds",
    events.FoundryTokenFetched: "callSeconds",
    events.UploadPaused: "retryInSeconds",
}
DURATION_DIGITS = 3  # after the decimal point
# logged at debug only, to keep lines short: a later line of the same export has them
DEBUG_FIELDS: dict[type, frozenset[str]] = {
    events.RequestRead: frozenset({"user", "bytes", "exports", "is_batch"}),
}
# errors that are regular results of an operation, not failures
EXPECTED_ERRORS: dict[str, frozenset[str]] = {
    "begin": frozenset({"OpenTransactionAlreadyExists"}),
    "transaction": frozenset({"TransactionNotFound"}),
    "file": frozenset({"FileNotFound", "FileNotFoundOnBranch", "DatasetViewNotFound"}),
    "remove": frozenset({"FileNotFound", "FileNotFoundOnBranch"}),
    "files": frozenset({"DatasetViewNotFound", "TransactionNotCommitted", "TransactionNotFound"}),
}
# omitted if empty, for example because no line was rejected
OPTIONAL_FIELDS = frozenset({"reasons", "error_name", "instance_id", "trace", "user"})

_encoder = msgspec.json.Encoder()


class LogWriter(Protocol):
    """The part of a structlog logger that is used here."""

    def is_enabled_for(self, level: int, /) -> bool: ...

    def log(self, level: int, message: str, /, **fields: object) -> object: ...


def build_logger(stream: TextIO, level: str) -> LogWriter:
    """Build a logger that writes to the stream: text if it is a terminal, else JSON."""
    level_min = LEVEL_NUMBERS[level]
    if not stream.isatty():
        return JsonLogger(stream, level_min)
    import structlog  # noqa: PLC0415 - imports rich, 6 MiB that only a terminal needs

    logger = structlog.wrap_logger(
        structlog.PrintLogger(stream),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.dev.ConsoleRenderer(colors=True),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level_min),
    )
    writer: LogWriter = logger.bind()
    return writer


@dataclass(frozen=True, slots=True)
class JsonLogger:
    """Writes one JSON object per line, beginning with the fields that every line has.

    It replaces structlog, in which the three lines of an export took 3 % of the export's CPU time.
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


class LogField(NamedTuple):
    """A field of an event in the log. It is omitted if it is optional and empty."""

    name: str
    label: str
    convert: Callable[[Any], object] | None
    is_optional: bool


@dataclass(frozen=True, slots=True)
class EventLog:
    """Logs events. `key` is the key of the user hashes."""

    writer: LogWriter
    key: bytes
    shows_users: bool = False
    _fields: dict[type[Event], tuple[LogField, ...]] = field(init=False, default_factory=dict)

    def find_handler(self, kind: type[Event]) -> EventSink | None:
        """Return the handler of this kind of event, or None if its level is not logged."""
        if kind not in MESSAGES:
            return self.handle
        level, message = MESSAGES[kind]
        number = LEVEL_NUMBERS[level]
        return partial(self.write, number, message) if self.writer.is_enabled_for(number) else None

    def handle(self, event: Event) -> None:
        level, message = MESSAGES.get(type(event)) or choose_message(event)
        if self.writer.is_enabled_for(LEVEL_NUMBERS[level]):
            self.write(LEVEL_NUMBERS[level], message, event)

    def write(self, level: int, message: str, event: Event) -> None:
        fields = {}
        for name, label, convert, is_optional in self._get_fields(type(event)):
            value = getattr(event, name)
            if value or not is_optional:
                fields[label] = value if convert is None else convert(value)
        with suppress(OSError, ValueError):  # a full or closed log must not fail an export
            self.writer.log(level, message, **fields)

    def _get_fields(self, kind: type[Event]) -> tuple[LogField, ...]:
        if kind not in self._fields:
            self._fields[kind] = tuple(self._build_fields(kind))
        return self._fields[kind]

    def _build_fields(self, kind: type[Event]) -> Iterator[LogField]:
        is_debug = self.writer.is_enabled_for(LEVEL_NUMBERS["debug"])
        labels = {**FIELD_NAMES, "seconds": DURATION_FIELDS.get(kind, "seconds")}
        converters: dict[str, Callable[[Any], object]] = {
            "user": str if self.shows_users else partial(identifiers.pseudonymize, self.key),
            "seconds": lambda value: round(value, DURATION_DIGITS),
            "trace": lambda trace: trace.id,
        }
        for name in kind.__struct_fields__:
            if not is_debug and name in DEBUG_FIELDS.get(kind, ()):
                continue
            if name == "path" and not self.shows_users:  # it contains the sub
                continue
            label, convert = labels.get(name, name), converters.get(name)
            yield LogField(name, label, convert, name in OPTIONAL_FIELDS)


def choose_message(event: Event) -> tuple[str, str]:
    """Return the level and sentence of an event whose type alone does not determine them."""
    if isinstance(event, events.RequestRefused):
        return "error" if event.status >= 500 else "warning", describe_refusal(event)
    if isinstance(event, events.FoundryCalled):
        if is_failure(event):
            return "warning", "Foundry call failed"
        return "debug", "Foundry called"
    is_batch = isinstance(event, events.RequestRead) and event.is_batch
    return "info", f"Processing HealthKit {'batch' if is_batch else 'raw'} export to dataset"


def is_failure(event: events.FoundryCalled) -> bool:
    """True if Foundry responded with an error that is not a regular result of the operation."""
    is_expected = event.error_name in EXPECTED_ERRORS.get(event.operation, frozenset())
    return event.status >= 400 and not is_expected


def describe_refusal(event: events.RequestRefused) -> str:
    """Return the sentence of a refusal; most are those of the old service."""
    if event.code in {"NOT_FOUND", "METHOD_NOT_ALLOWED"}:
        return "Nothing is at this address"  # usually a scanner
    if event.status == 401:
        return "JWT validation failed"
    if event.status == 429:
        return "Rate limit exceeded"
    too_large = event.status == 413
    return "HealthKit export exceeds payload limit" if too_large else "HealthKit raw export failed"
