"""Collects the metrics of Atlas, and writes them in the Prometheus text format."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate

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

from atlas.core.messages import Status
from atlas.core.phones import PhoneTotals
from atlas.core.status import DatabaseState, JournalTotals, RuntimeGauges, StreamLag
from atlas.core.status_aggregator import StatusAggregator
from atlas.outside.metrics import families as metric_families

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4


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
        if self.gauges.stream is not None:
            yield from collect_stream(self.gauges.stream)

    def collect_counters(self) -> Iterable[Metric]:
        about = self.status.about
        described = metric_families.select_counters(
            is_shared=about.is_shared, is_streamed=about.is_streamed
        )
        families = {
            name: CounterMetricFamily(name, family.help, labels=family.labels)
            for name, family in described.items()
        }
        zeros = metric_families.build_zeros(described)
        for (name, *labels), value in {**zeros, **self.status.counts}.items():
            if name in families:
                families[name].add_metric(labels, value)
        return families.values()

    def collect_histograms(self) -> Iterable[Metric]:
        about = self.status.about
        described = metric_families.select_histograms(
            is_shared=about.is_shared, is_streamed=about.is_streamed
        )
        families = {
            name: HistogramMetricFamily(name, family.help, labels=family.labels)
            for name, family in described.items()
        }
        empty = metric_families.build_empty(described)
        for (name, *labels), histogram in {**empty, **self.status.histograms}.items():
            if name not in families:
                continue
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
        yield from collect_phones(status.phones)
        if status.about.is_shared:
            leads = "1 while this replica uploads."
            yield GaugeMetricFamily("atlas_uploader_leads", leads, status.is_leading)

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
        if totals.database is not None:
            yield from collect_database(totals.database)


def collect_stream(lag: StreamLag) -> Iterator[Metric]:
    for name, text, value in (
        ("atlas_stream_backlog_rows", "Accepted rows that the stream lacks.", lag.rows),
        (
            "atlas_stream_oldest_seconds",
            "Age of the oldest export that the stream lacks.",
            lag.oldest_seconds,
        ),
        ("atlas_stream_paused", "1 while nothing can be published.", lag.is_paused),
    ):
        yield GaugeMetricFamily(name, text, value)


def collect_phones(totals: PhoneTotals) -> Iterator[Metric]:
    states = {"active": totals.active, "quiet": totals.quiet, "stuck": totals.stuck}
    seen = "Phones with an export in the last 30 days, by state."
    yield build_gauge("atlas_phones", seen, "state", states)
    quiet = "Those of them without an export for ATLAS_QUIET_DAYS."
    yield GaugeMetricFamily("atlas_phones_quiet", quiet, totals.quiet)


def collect_database(database: DatabaseState) -> Iterator[Metric]:
    """Collect what all replicas share; without the numbers that our role may not read."""
    versions = Counter(replica.version for replica in database.replicas)
    yield build_gauge("atlas_replicas", "Replicas that run now.", "version", versions)
    for name, text, value in (
        ("atlas_uploader_epoch", "Replicas that have begun to upload so far.", database.epoch),
        (
            "atlas_notifications_delayed",
            "1 while notifications of the database do not arrive at this replica.",
            database.are_notifications_delayed,
        ),
        (
            "atlas_journal_database_bytes",
            "Size of the journal's tables and indexes in the database.",
            database.bytes,
        ),
        (
            "atlas_journal_dead_rows",
            "Deleted rows of these tables that the database has not cleaned up yet.",
            database.dead_rows,
        ),
        (
            "atlas_journal_oldest_transaction_seconds",
            "Age of the oldest transaction that keeps deleted rows from being cleaned up.",
            database.oldest_transaction_seconds,
        ),
        (
            "atlas_journal_replication_lag_bytes",
            "What the standby that is farthest behind has not yet written to its disk.",
            database.replication_lag_bytes,
        ),
    ):
        if value is not None:
            yield GaugeMetricFamily(name, text, value)


def build_gauge(
    name: str, text: str, label: str, values: Mapping[Status, int] | Mapping[str, int]
) -> GaugeMetricFamily:
    gauge = GaugeMetricFamily(name, text, labels=[label])
    for value, number in values.items():
        gauge.add_metric([value], number)
    return gauge
