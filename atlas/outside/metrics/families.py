"""The counters and histograms of Atlas: their help texts, labels and known values."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, get_args

from atlas.core import errors
from atlas.core.events import AbortReason, EndOfLead, FailureCause, GroupTrigger, SkipReason
from atlas.core.histograms import BOUNDS, Histogram, Key
from atlas.core.records import REASONS


def list_codes(kind: type[errors.AtlasError] = errors.AtlasError) -> set[str]:
    """Return the codes of an error class and its subclasses."""
    return {kind.code}.union(*map(list_codes, kind.__subclasses__()))


class Family(NamedTuple):
    """Help and labels of a metric, and the known values if it has a single label.

    Known values are exported as zero from the start, because a rate needs a first sample.
    """

    help: str
    labels: Sequence[str] = ()
    known: Sequence[str] = ()

    def keys(self, name: str) -> list[Key]:
        """Return the keys that are exported from the start."""
        return [(name, value) for value in self.known] if self.labels else [(name,)]


CONNECTION_ERRORS = (
    errors.BadRequest,
    errors.HeadersTooLarge,
    errors.BodyTooSlow,
    errors.Unavailable,
)
RESULTS = "ok", "failed"
COUNTERS = {
    "atlas_http_requests": Family(
        "Requests to the public listener. Status 0: the client disconnected before the response.",
        ("route", "method", "status"),
    ),
    "atlas_refusals": Family(
        "Rejected requests, and rejected chunks of batches.", ("code",), sorted(list_codes())
    ),
    "atlas_connections_refused": Family(
        "Connections rejected, or closed because of invalid input.",
        ("code",),
        sorted(error.code for error in CONNECTION_ERRORS),
    ),
    "atlas_connections_cut": Family(
        "Connections closed without a response, or before the client had read it.",
        ("reason",),
        get_args(AbortReason),
    ),
    "atlas_request_bytes": Family("Bytes of request bodies, after decompression."),
    "atlas_record_count_mismatches": Family(
        "Exports whose declared record count differs from the lines received."
    ),
    "atlas_stuck_clients": Family("Times that a client had sent the same bytes ten more times."),
    "atlas_jwks_fetches": Family("Fetches of Auth0's signing keys.", ("result",), RESULTS),
    "atlas_stage_crashes": Family(
        "Crashes, which are bugs, of a stage, the edge or the uploader.", ("stage",)
    ),
    "atlas_exports": Family(
        "Exports, by outcome.",
        ("outcome",),
        ("accepted", "replayed", "committed", "set_aside", "quarantined"),
    ),
    "atlas_exports_failed": Family(
        "Failed attempts at an export, which is then retried in a smaller group.",
        ("reason",),
        get_args(FailureCause),
    ),
    "atlas_rows": Family(
        "Rows accepted and rows committed.",
        ("outcome",),
        ("accepted", "committed"),
    ),
    "atlas_lines_rejected": Family("Rejected lines of exports.", ("reason",), REASONS),
    "atlas_committed_bytes": Family("Bytes of committed rows, as NDJSON."),
    "atlas_journal_damaged": Family("Damage to the journal that the disk has caused."),
    "atlas_ledger_unbalanced": Family("Corrections of a wrong ledger."),
    "atlas_groups": Family(
        "Committed transactions, by the trigger of their start.",
        ("trigger",),
        get_args(GroupTrigger),
    ),
    "atlas_upload_pauses": Family(
        "Upload pauses because Foundry was unavailable or rate-limited Atlas."
    ),
    "atlas_foreign_writers": Family("Detections of another writer on the branch."),
    "atlas_orphans": Family(
        "Open transactions that Atlas may have started.", ("kind",), ("aborted", "suspected")
    ),
    "atlas_foundry_calls": Family(
        "Calls to Foundry. Status 0: no response.", ("operation", "status")
    ),
    "atlas_foundry_retries": Family("Retries of calls to Foundry.", ("operation",)),
    "atlas_foundry_token_fetches": Family("Token requests to Foundry.", ("result",), RESULTS),
}
HISTOGRAMS = {
    "atlas_http_request_seconds": Family(
        "Duration of requests, including the wait for a commit.", ("route",)
    ),
    "atlas_stage_seconds": Family("Duration of a stage's work on a message.", ("stage",)),
    "atlas_group_exports": Family("Exports per committed transaction."),
    "atlas_group_bytes": Family("Bytes per committed transaction."),
    "atlas_group_seconds": Family("Duration of a transaction until its commit."),
    "atlas_foundry_call_seconds": Family("Duration of calls to Foundry.", ("operation",)),
}
# Only of a journal that replicas share
SHARED_COUNTERS = {
    "atlas_leadership_taken": Family("Times that this replica began to upload."),
    "atlas_leadership_lost": Family(
        "Times that this replica stopped uploading.", ("reason",), get_args(EndOfLead)
    ),
    "atlas_journal_failovers": Family(
        "Times that the database was another server or an older copy than before."
    ),
    "atlas_journal_offered_again": Family(
        "Exports stored again after a failover: those that it had lost, and those still present.",
        ("outcome",),
        ("lost", "present"),
    ),
    "atlas_journal_reconnects": Family("Connections to the database that were lost."),
}
SHARED_HISTOGRAMS = {
    "atlas_journal_commit_seconds": Family("Time until a statement with exports was committed."),
    "atlas_journal_batch_exports": Family("Exports per statement that stores them."),
}
# Only with a stream beside the dataset
STREAM_COUNTERS = {
    "atlas_stream_rows": Family(
        "Rows published to the stream, and rows that never will be.",
        ("outcome",),
        ("published", "dropped", *get_args(SkipReason)),
    ),
    "atlas_stream_failures": Family("Requests to the stream that failed or were divided."),
}
STREAM_HISTOGRAMS = {
    "atlas_stream_delay_seconds": Family("Time from the acceptance of an export to the stream."),
}


def select_counters(*, is_shared: bool, is_streamed: bool = False) -> Mapping[str, Family]:
    return (
        COUNTERS | (SHARED_COUNTERS if is_shared else {}) | (STREAM_COUNTERS if is_streamed else {})
    )


def select_histograms(*, is_shared: bool, is_streamed: bool = False) -> Mapping[str, Family]:
    return (
        HISTOGRAMS
        | (SHARED_HISTOGRAMS if is_shared else {})
        | (STREAM_HISTOGRAMS if is_streamed else {})
    )


def build_zeros(families: Mapping[str, Family]) -> dict[Key, int]:
    return {key: 0 for name, family in families.items() for key in family.keys(name)}


def build_empty(families: Mapping[str, Family]) -> dict[Key, Histogram]:
    return {
        key: Histogram(BOUNDS[name])
        for name, family in families.items()
        for key in family.keys(name)
    }
