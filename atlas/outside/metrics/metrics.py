"""Which event moves what. A scrape asks beside it how the journal and the queues are just now."""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import Metric

from atlas.core import events
from atlas.core.events import Event, Watch
from atlas.core.pause import Outcome, Pause
from atlas.core.picture import Depth, Sight
from atlas.core.ports import Clock
from atlas.outside.metrics.families import Families

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4


class Metrics:
    """Counts what happens. `now` is asked when a group has ended, and at a scrape."""

    def __init__(self, version: str, now: Clock) -> None:
        self._version = version
        self._now = now
        self._of = Families()
        self._pause = Pause()
        self._moves: Mapping[type[Event], Callable[[Any], None]] = self._table()

    def reader(self, kind: type[Event]) -> Watch | None:
        """The counter of events of this kind, if there is one."""
        return self._moves.get(kind)

    def watch(self, event: Event) -> None:
        read = self.reader(type(event))
        if read is not None:
            read(event)

    def text(self, sight: Sight) -> bytes:
        """All of it; without what is asked of the journal, if that does not answer."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(Scrape([*self._told(sight)]))
        ProcessCollector(registry=registry)
        return generate_latest(registry)

    def _told(self, sight: Sight) -> Iterator[Metric]:
        paused, last = self._pause.reason is not None, self._pause.last_commit
        yield InfoMetricFamily("atlas", "Which Atlas this is.", {"version": self._version})
        for family in self._of.all():
            yield family.family()
        yield from of_queues(sight.queues)
        if sight.depth is not None:
            yield from of_journal(sight.depth, self._now())
        yield gauge(
            "atlas_last_commit_timestamp_seconds",
            "When the last transaction was committed; 0 if none was since the start.",
            0.0 if last is None else last.timestamp(),
        )
        yield gauge("atlas_upload_paused", "1 from a pause to the next outcome.", float(paused))
        yield gauge("atlas_is_draining", "1 once we were told to end.", float(sight.is_draining))
        press = sight.press
        yield gauge("atlas_edge_exports", "Exports that are read and not yet safe.", press.inside)
        yield gauge(
            "atlas_edge_queue_depth", "Bodies that wait for room to be read.", press.waiting
        )
        yield gauge(
            "atlas_edge_flight_bytes", "What bodies in flight weigh; JSON four times.", press.bytes
        )
        yield gauge("atlas_tasks", "Tasks of the event loop.", sight.tasks)

    def _table(self) -> Mapping[type[Event], Callable[[Any], None]]:
        senders, stages, journal = self._of.senders, self._of.stages, self._of.journal
        groups, calls = self._of.groups, self._of.calls
        return {
            events.RequestAnswered: self._request,
            events.RequestRead: lambda event: senders.bytes.add((), event.bytes),
            events.RequestRefused: lambda event: senders.refusals.add((event.code,)),
            events.RequestsShed: self._shed,
            events.ConnectionRefused: lambda event: senders.refused.add((event.code,)),
            events.ConnectionCut: lambda event: senders.cut.add((event.why,)),
            events.StageWorked: lambda event: stages.seconds.observe((event.stage,), event.seconds),
            events.ActorCrashed: lambda event: stages.crashes.add((event.stage,)),
            events.LinesRejected: self._rejected,
            events.ExportAccepted: self._accepted,
            events.ExportReplayed: lambda _: stages.exports.add(("replayed",)),
            events.ExportQuarantined: lambda _: stages.exports.add(("quarantined",)),
            events.ExportCommitted: self._committed,
            events.ExportFailed: lambda event: stages.failed.add((event.cause,)),
            events.ExportSetAside: self._set_aside,
            events.CountsDiffer: lambda _: senders.differ.add(),
            events.ClientStuck: lambda _: senders.stuck.add(),
            events.JournalDamaged: lambda _: journal.damaged.add(),
            events.LedgerUnbalanced: lambda _: journal.unbalanced.add(),
            events.GroupCommitted: self._group,
            events.GroupRecovered: self._went,
            events.UploadPaused: self._paused,
            events.FoundryCalled: self._called,
            events.FoundryTokenFetched: lambda _: calls.tokens.add(("ok",)),
            events.FoundryTokenRefused: lambda _: calls.tokens.add(("failed",)),
            events.KeysFetched: lambda _: senders.keys.add(("ok",)),
            events.KeysUnavailable: lambda _: senders.keys.add(("failed",)),
            events.SecondWriter: lambda _: groups.second_writer.add(),
            events.OrphanAborted: lambda _: groups.orphans.add(("aborted",)),
            events.OrphanSuspected: lambda _: groups.orphans.add(("suspected",)),
        }

    def _request(self, event: events.RequestAnswered) -> None:
        self._of.senders.requests.add((event.route, event.method, str(event.status)))
        self._of.senders.seconds.observe((event.route,), event.seconds)

    def _shed(self, event: events.RequestsShed) -> None:
        for route, requests in event.routes.items():
            self._of.senders.requests.add((route, "POST", str(event.status)), requests)
        self._of.senders.refusals.add((event.code,), event.requests)

    def _rejected(self, event: events.LinesRejected | events.ExportAccepted) -> None:
        for reason, lines in event.reasons.items():
            self._of.stages.rejected.add((reason,), lines)

    def _accepted(self, event: events.ExportAccepted) -> None:
        self._of.stages.exports.add(("accepted",))
        self._of.stages.rows.add(("accepted",), event.records)
        self._rejected(event)

    def _committed(self, event: events.ExportCommitted) -> None:
        self._of.stages.exports.add(("committed",))
        self._of.stages.rows.add(("committed",), event.records)
        self._of.stages.committed_bytes.add((), event.bytes)

    def _set_aside(self, event: events.ExportSetAside) -> None:
        self._of.stages.exports.add(("set_aside",))
        self._went(event)

    def _group(self, event: events.GroupCommitted) -> None:
        groups = self._of.groups
        groups.committed.add((event.because,))
        groups.exports.observe((), event.exports)
        groups.bytes.observe((), event.bytes)
        groups.seconds.observe((), event.seconds)
        self._went(event)

    def _paused(self, event: events.UploadPaused) -> None:
        self._of.groups.pauses.add()
        self._went(event)

    def _went(self, event: Outcome) -> None:
        self._pause.watch(event, self._now())

    def _called(self, event: events.FoundryCalled) -> None:
        calls = self._of.calls
        calls.answered.add((event.operation, str(event.status)))
        calls.seconds.observe((event.operation,), event.seconds)
        if event.is_retry:
            calls.retries.add((event.operation,))


class Scrape:
    """What one scrape is told: what a registry collects from."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        return self._families


def of_queues(queues: Mapping[str, tuple[int, int]]) -> Iterator[Metric]:
    depths = GaugeMetricFamily(
        "atlas_stage_queue_depth", "Messages that wait for a stage.", labels=["stage"]
    )
    sizes = GaugeMetricFamily(
        "atlas_stage_queue_size", "How many can, before senders wait.", labels=["stage"]
    )
    for stage, (depth, size) in queues.items():
        depths.add_metric([stage], depth)
        sizes.add_metric([stage], size)
    yield depths
    yield sizes


def of_journal(depth: Depth, now: datetime) -> Iterator[Metric]:
    for name, what, by_status in (
        ("atlas_journal_exports", "Exports in the journal.", depth.exports),
        ("atlas_journal_bytes", "Bytes of their rows, as NDJSON.", depth.bytes),
    ):
        found = GaugeMetricFamily(name, what, labels=["status"])
        for status, value in by_status.items():
            found.add_metric([status], value)
        yield found
    yield gauge(
        "atlas_journal_failed_exports",
        "Exports that have failed, and wait to be tried apart from the others.",
        depth.failed,
    )
    yield gauge(
        "atlas_journal_oldest_seconds",
        "How long the export has waited that has waited for Foundry for longest.",
        depth.oldest_seconds(now),
    )
    if depth.free_bytes is not None:
        free = "Bytes that are free on the disk of the journal."
        yield gauge("atlas_journal_disk_free_bytes", free, depth.free_bytes)
    yield gauge(
        "atlas_journal_imbalance_exports",
        "By how many exports the ledger differs from what is there. Never but 0.",
        depth.imbalance,
    )


def gauge(name: str, what: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, what, value)
