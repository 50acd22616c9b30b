"""Exports the metrics of Atlas in the Prometheus text format."""

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
ZEROS = {key: 0 for name, family in COUNTERS.items() for key in family.keys(name)}
EMPTY = {
    key: Histogram(BOUNDS[name]) for name, family in HISTOGRAMS.items() for key in family.keys(name)
}


def exposition(status: StatusAggregator, gauges: RuntimeGauges) -> bytes:
    """Return all metrics; without those of the journal if it did not answer."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(StatusCollector(status, gauges))
    ProcessCollector(registry=registry)
    return generate_latest(registry)


@dataclass(frozen=True, eq=False)
class StatusCollector(Collector):
    """Collects the metrics of Atlas itself; those of the process are separate."""

    status: StatusAggregator
    gauges: RuntimeGauges

    def collect(self) -> Iterator[Metric]:
        version = self.status.about.version
        yield InfoMetricFamily("atlas", "Version of Atlas.", {"version": version})
        yield from self.collect_counters()
        yield from self.collect_histograms()
        yield from self.collect_gauges()
        if self.gauges.totals is not None:
            yield from self.collect_journal(self.gauges.totals)

    def collect_counters(self) -> Iterable[Metric]:
        families = {
            name: CounterMetricFamily(name, family.help, labels=family.labels)
            for name, family in COUNTERS.items()
        }
        for (name, *labels), value in {**ZEROS, **self.status.counts}.items():
            families[name].add_metric(labels, value)
        return families.values()

    def collect_histograms(self) -> Iterable[Metric]:
        families = {
            name: HistogramMetricFamily(name, family.help, labels=family.labels)
            for name, family in HISTOGRAMS.items()
        }
        for (name, *labels), histogram in {**EMPTY, **self.status.histograms}.items():
            bounds = [*(str(float(bound)) for bound in histogram.bounds), "+Inf"]
            buckets = list(zip(bounds, accumulate(histogram.counts), strict=True))
            families[name].add_metric(labels, buckets, histogram.sum)
        return families.values()

    def collect_gauges(self) -> Iterator[Metric]:
        status, gauges = self.status, self.gauges
        depths = {stage: depth for stage, (depth, _) in gauges.queues.items()}
        sizes = {stage: size for stage, (_, size) in gauges.queues.items()}
        queued, size = "Messages in a stage's queue.", "Size of a stage's queue."
        yield build_gauge("atlas_stage_queue_depth", queued, "stage", depths)
        yield build_gauge("atlas_stage_queue_size", size, "stage", sizes)
        paused, load = status.paused_reason is not None, gauges.admission
        last_commit = 0 if status.last_commit_at is None else status.last_commit_at.timestamp()
        for name, text, value in (
            (
                "atlas_last_commit_timestamp_seconds",
                "Time of the last commit; 0 if there was none since the start.",
                last_commit,
            ),
            ("atlas_upload_paused", "1 while uploads are paused.", paused),
            ("atlas_is_draining", "1 during the shutdown.", gauges.is_draining),
            (
                "atlas_edge_exports_in_flight",
                "Exports received but not yet in the journal.",
                load.inside,
            ),
            ("atlas_edge_queue_depth", "Bodies that wait to be read.", load.waiting),
            (
                "atlas_edge_inflight_bytes",
                "Memory for bodies in flight; JSON counts four times.",
                load.bytes,
            ),
            ("atlas_tasks", "Tasks of the event loop.", gauges.tasks),
        ):
            yield GaugeMetricFamily(name, text, value)

    def collect_journal(self, totals: JournalTotals) -> Iterator[Metric]:
        exports, rows = "Exports in the journal.", "Bytes of their rows, as NDJSON."
        yield build_gauge("atlas_journal_exports", exports, "status", totals.exports)
        yield build_gauge("atlas_journal_bytes", rows, "status", totals.bytes)
        yield GaugeMetricFamily(
            "atlas_journal_failed_exports",
            "Exports that have failed and wait for a retry in a smaller group.",
            totals.failed,
        )
        yield GaugeMetricFamily(
            "atlas_journal_oldest_seconds",
            "Age of the oldest export that is not committed yet.",
            totals.oldest_seconds(self.status.clock()),
        )
        if totals.free_bytes is not None:
            free = "Free bytes on the disk of the journal."
            yield GaugeMetricFamily("atlas_journal_disk_free_bytes", free, totals.free_bytes)
        yield GaugeMetricFamily(
            "atlas_journal_imbalance_exports",
            "Exports by which the ledger differs from the journal; 0 unless there is a bug.",
            totals.imbalance,
        )


def build_gauge(
    name: str, text: str, label: str, values: Mapping[Status, int] | Mapping[str, int]
) -> GaugeMetricFamily:
    gauge = GaugeMetricFamily(name, text, labels=[label])
    for value, number in values.items():
        gauge.add_metric([value], number)
    return gauge
