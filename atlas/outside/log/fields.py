"""The fields of each event in the log, in camelCase as in the replies of the API.

Users appear as keyed hashes unless `log.user_ids` is set.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

from atlas.core import events
from atlas.core.events import Event

LABELS = {
    "transaction": "transactionRid",
    "records": "recordCount",
    "bytes": "payloadBytes",
    "id": "receiptId",
    "instance_id": "errorInstanceId",
    "dataset": "datasetRid",
    "trace": "traceId",
}
# the label of the field `seconds`, by event
DURATION_LABELS: dict[type[Event], str] = {
    events.RequestAnswered: "requestSeconds",
    events.OperatorRequestAnswered: "requestSeconds",
    events.StageCompleted: "stageSeconds",
    events.ExportCommitted: "secondsToCommit",
    events.ExportsStored: "storeSeconds",
    events.GroupCommitted: "transactionSeconds",
    events.FoundryCalled: "callSeconds",
    events.FoundryTokenFetched: "validSeconds",
    events.UploadPaused: "retryInSeconds",
    events.StreamPaused: "retryInSeconds",
}
DURATION_DIGITS = 3  # after the decimal point: milliseconds
# logged at debug only, to keep lines short: a later line of the same export has them
DEBUG_FIELDS: dict[type[Event], frozenset[str]] = {
    events.RequestRead: frozenset({"user", "bytes", "exports", "is_batch"}),
}
# omitted if empty, for example because no line was rejected
OPTIONAL_FIELDS = frozenset(
    {"reasons", "error_name", "instance_id", "trace", "user", "users", "replica", "settings"}
)

# long, so that on a terminal the numbers come first
LAST_FIELDS = frozenset({"transaction", "dataset", "settings"})

Convert = Callable[[Any], object]


class LogField(NamedTuple):
    """A field of an event in the log. It is omitted if it is optional and empty."""

    name: str
    label: str
    convert: Convert | None
    is_optional: bool


def build_fields(
    kind: type[Event], pseudonymize: Callable[[str], str] | None, *, is_debug: bool
) -> Iterator[LogField]:
    """Yield the fields of a kind of event. Without `pseudonymize`, users and paths are shown."""
    name_user: Callable[[str], str] = pseudonymize or str
    converters: dict[str, Convert] = {
        "user": name_user,
        "seconds": round_duration,
        "trace": lambda trace: trace.id,
    }
    for name in sorted(kind.__struct_fields__, key=LAST_FIELDS.__contains__):
        is_optional, label = name in OPTIONAL_FIELDS, find_label(kind, name)
        if not is_debug and name in DEBUG_FIELDS.get(kind, ()):
            continue
        if name == "path" and pseudonymize is not None:  # it contains the sub
            continue
        if name == "users":  # the user if there is one, else their number
            yield LogField(name, "user", partial(name_single_user, name_user), is_optional)
            yield LogField(name, label, count_several, is_optional)
        else:
            yield LogField(name, label, converters.get(name), is_optional)


def find_label(kind: type[Event], name: str) -> str:
    if name == "seconds":
        return DURATION_LABELS.get(kind, name)
    return LABELS.get(name) or convert_to_camel_case(name)


def convert_to_camel_case(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))


def round_duration(seconds: float) -> float:
    return round(seconds, DURATION_DIGITS)


def name_single_user(name_user: Callable[[str], str], users: Sequence[str]) -> str | None:
    return name_user(users[0]) if len(users) == 1 and users[0] else None


def count_several(users: Sequence[str]) -> int | None:
    return len(users) if len(users) > 1 else None
