"""The metrics of Atlas, in the text format of Prometheus."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple, get_args

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from atlas.core import errors
from atlas.core.events import AbortReason, FailureCause, GroupTrigger
from atlas.core.histograms import BOUNDS, Histogram, Key
from atlas.core.messages import Status
from atlas.core.records import REASONS
from atlas.core.status import JournalTotals, RuntimeGauges
from atlas.core.status_aggregator import StatusAggregator

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4


def list_codes(kind: type[errors.AtlasError] = errors.AtlasError) -> set[str]:
    """The codes of all errors."""
    return {kind.code}.union(*map(list_codes, kind.__subclasses__()))


class Family(NamedTuple):
    """The help of a metric, the names of its labels, and the known values of the only label.

    Known values are exported from the start: a rate needs the zero.
    """

    help: str
    labels: Sequence[str] = ()
    known: Sequence[str] = ()

    def keys(self, name: str) -> list[Key]:
        """The keys that are exported from the start."""
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
        "Requests of the public listener; a status of 0 if nobody heard an answer.",
        ("route", "method", "status"),
    ),
    "atlas_refusals": Family(
        "Requests that were refused, and single chunks of a batch.", ("code",), sorted(list_codes())
    ),
    "atlas_connections_refused": Family(
        "Connections that were refused, or closed for what came on them.",
        ("code",),
        sorted(error.code for error in CONNECTION_ERRORS),
    ),
    "atlas_connections_cut": Family(
        "Connections that were ended without an answer, or before it was taken.",
        ("reason",),
        get_args(AbortReason),
    ),
    "atlas_request_bytes": Family("Bytes of the bodies that were read, after inflation."),
    "atlas_record_count_mismatches": Family(
        "Exports whose declared record count differs from the lines received."
    ),
    "atlas_stuck_clients": Family("Times that a phone had sent the same bytes ten times more."),
    "atlas_jwks_fetches": Family("Times that Auth0's keys were asked for.", ("result",), RESULTS),
    "atlas_stage_crashes": Family("Bugs that a stage, the edge or the uploader met.", ("stage",)),
    "atlas_exports": Family(
        "Exports, by what became of them.",
        ("outcome",),
        ("accepted", "replayed", "committed", "set_aside", "quarantined"),
    ),
    "atlas_exports_failed": Family(
        "Failures after which an export waits and is tried apart, by what failed.",
        ("reason",),
        get_args(FailureCause),
    ),
    "atlas_rows": Family(
        "Rows, as they were accepted and as they were committed.",
        ("outcome",),
        ("accepted", "committed"),
    ),
    "atlas_lines_rejected": Family("Lines that became no row.", ("reason",), REASONS),
    "atlas_committed_bytes": Family("Bytes of committed rows, as NDJSON."),
    "atlas_journal_damaged": Family("What the disk has changed, or lost, of the journal."),
    "atlas_ledger_unbalanced": Family("Times that the ledger was wrong and was set right."),
    "atlas_groups": Family(
        "Transactions committed, by why they were begun just then.",
        ("trigger",),
        get_args(GroupTrigger),
    ),
    "atlas_upload_pauses": Family("Upload pauses because Foundry was unavailable or held us off."),
    "atlas_foreign_writers": Family("Times that somebody else was seen to write to the branch."),
    "atlas_orphans": Family(
        "Transactions that may be ours, found open.", ("kind",), ("aborted", "suspected")
    ),
    "atlas_foundry_calls": Family(
        "Calls to Foundry; a status of 0 if it did not answer.", ("operation", "status")
    ),
    "atlas_foundry_retries": Family("Calls that were made once more.", ("operation",)),
    "atlas_foundry_token_fetches": Family("Tokens asked of Foundry.", ("result",), RESULTS),
}
HISTOGRAMS = {
    "atlas_http_request_seconds": Family(
        "How long requests took, with the wait for a commit.", ("route",)
    ),
    "atlas_stage_seconds": Family("How long a stage worked at a message.", ("stage",)),
    "atlas_group_exports": Family("Exports in a committed transaction."),
    "atlas_group_bytes": Family("Bytes in a committed transaction."),
    "atlas_group_seconds": Family("How long a transaction took to its commit."),
    "atlas_foundry_call_seconds": Family("How long Foundry took.", ("operation",)),
}


ZEROS = {key: 0 for name, family in COUNTERS.items() for key in family.keys(name)}
EMPTY = {
    key: Histogram(BOUNDS[name]) for name, family in HISTOGRAMS.items() for key in family.keys(name)
}


def exposition(status: StatusAggregator, sight: RuntimeGauges) -> bytes:
    """Everything that is counted, and the gauges; without the journal's, if it does not answer."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(StatusCollector(status, sight))
    ProcessCollector(registry=registry)
    return generate_latest(registry)


@dataclass(frozen=True, eq=False)
class StatusCollector(Collector):
    """The metrics of Atlas itself."""

    status: StatusAggregator
    sight: RuntimeGauges

    def collect(self) -> Iterator[Metric]:
        version = self.status.about.version
        yield InfoMetricFamily("atlas", "Which Atlas this is.", {"version": version})
        yield from self.counters()
        yield from self.histograms()
        yield from self.gauges()
        if self.sight.depth is not None:
            yield from self.journal(self.sight.depth)

    def counters(self) -> Iterable[Metric]:
        found = {
            name: CounterMetricFamily(name, family.help, labels=family.labels)
            for name, family in COUNTERS.items()
        }
        for (name, *labels), value in {**ZEROS, **self.status.counts}.items():
            found[name].add_metric(labels, value)
        return found.values()

    def histograms(self) -> Iterable[Metric]:
        found = {
            name: HistogramMetricFamily(name, family.help, labels=family.labels)
            for name, family in HISTOGRAMS.items()
        }
        for (name, *labels), histogram in {**EMPTY, **self.status.histograms}.items():
            bounds = [*(str(float(bound)) for bound in histogram.bounds), "+Inf"]
            buckets = list(zip(bounds, accumulate(histogram.counts), strict=True))
            found[name].add_metric(labels, buckets, histogram.sum)
        return found.values()

    def gauges(self) -> Iterator[Metric]:
        status, sight = self.status, self.sight
        depths = {stage: depth for stage, (depth, _) in sight.queues.items()}
        sizes = {stage: size for stage, (_, size) in sight.queues.items()}
        waits, most = "Messages that wait for a stage.", "How many can, before senders wait."
        yield gauge_by("stage", "atlas_stage_queue_depth", waits, depths)
        yield gauge_by("stage", "atlas_stage_queue_size", most, sizes)
        yield GaugeMetricFamily(
            "atlas_last_commit_timestamp_seconds",
            "When the last transaction was committed; 0 if none was since the start.",
            0 if status.last_commit_at is None else status.last_commit_at.timestamp(),
        )
        paused, press = status.paused_reason is not None, sight.press
        for name, text, value in (
            ("atlas_upload_paused", "1 from a pause to the next outcome.", paused),
            ("atlas_is_draining", "1 once we were told to end.", sight.is_draining),
            (
                "atlas_edge_exports_in_flight",
                "Exports that are read and not yet safe.",
                press.inside,
            ),
            ("atlas_edge_queue_depth", "Bodies that wait for room to be read.", press.waiting),
            (
                "atlas_edge_inflight_bytes",
                "Memory of bodies in flight; JSON four times.",
                press.bytes,
            ),
            ("atlas_tasks", "Tasks of the event loop.", sight.tasks),
        ):
            yield GaugeMetricFamily(name, text, value)

    def journal(self, depth: JournalTotals) -> Iterator[Metric]:
        rows = "Bytes of their rows, as NDJSON."
        yield gauge_by("status", "atlas_journal_exports", "Exports in the journal.", depth.exports)
        yield gauge_by("status", "atlas_journal_bytes", rows, depth.bytes)
        yield GaugeMetricFamily(
            "atlas_journal_failed_exports",
            "Exports that have failed, and wait to be tried apart from the others.",
            depth.failed,
        )
        yield GaugeMetricFamily(
            "atlas_journal_oldest_seconds",
            "Age of the oldest export that waits for Foundry.",
            depth.oldest_seconds(self.status.clock()),
        )
        if depth.free_bytes is not None:
            free = "Bytes that are free on the disk of the journal."
            yield GaugeMetricFamily("atlas_journal_disk_free_bytes", free, depth.free_bytes)
        yield GaugeMetricFamily(
            "atlas_journal_imbalance_exports",
            "By how many exports the ledger differs from what is there. Never but 0.",
            depth.imbalance,
        )


def gauge_by(
    label: str, name: str, text: str, values: Mapping[Status, int] | Mapping[str, int]
) -> GaugeMetricFamily:
    found = GaugeMetricFamily(name, text, labels=[label])
    for value, number in values.items():
        found.add_metric([value], number)
    return found
