"""Which event moves what. A scrape asks beside it how the journal and the queues are just now."""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import Metric

from atlas.core import events
from atlas.core.events import Event
from atlas.core.messages import Depth
from atlas.core.ports import Clock
from atlas.outside.metrics.families import Families

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

Queues = Mapping[str, tuple[int, int]]


class Metrics:
    """Counts what happens. `now` is asked when something is committed, and at a scrape."""

    def __init__(self, version: str, now: Clock) -> None:
        self._version = version
        self._now = now
        self._of = Families()
        self._last_commit = 0.0
        self._is_paused = False
        self._moves: Mapping[type[Event], Callable[[Any], None]] = self._table()

    def watch(self, event: Event) -> None:
        """What no metric tells is passed over."""
        move = self._moves.get(type(event))
        if move is not None:
            move(event)

    def text(self, depth: Depth | None, queues: Queues, *, is_draining: bool) -> bytes:
        """All of it; without what is asked of the journal, if that does not answer."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(Scrape([*self._told(depth, queues, is_draining=is_draining)]))
        ProcessCollector(registry=registry)
        return generate_latest(registry)

    def _told(self, depth: Depth | None, queues: Queues, *, is_draining: bool) -> Iterator[Metric]:
        yield InfoMetricFamily("atlas", "Which Atlas this is.", {"version": self._version})
        for family in self._of.all():
            yield family.family()
        yield from of_queues(queues)
        if depth is not None:
            yield from of_journal(depth, self._now())
        yield gauge(
            "atlas_last_commit_timestamp_seconds",
            "When the last transaction was committed; 0 if none was since the start.",
            self._last_commit,
        )
        yield gauge(
            "atlas_upload_paused", "1 from a pause to the next outcome.", float(self._is_paused)
        )
        yield gauge("atlas_is_draining", "1 once we were told to end.", float(is_draining))

    def _table(self) -> Mapping[type[Event], Callable[[Any], None]]:
        of = self._of
        return {
            events.RequestAnswered: self._request,
            events.RequestRead: lambda event: of.request_bytes.add((), event.bytes),
            events.RequestRefused: lambda event: of.refusals.add((event.code,)),
            events.StageWorked: lambda event: of.stage_seconds.note((event.stage,), event.seconds),
            events.ActorCrashed: lambda event: of.crashes.add((event.actor.lower(),)),
            events.LinesRejected: self._rejected,
            events.ExportAccepted: self._accepted,
            events.ExportReplayed: lambda _: of.exports.add(("replayed",)),
            events.ExportQuarantined: lambda _: of.exports.add(("quarantined",)),
            events.ExportCommitted: self._committed,
            events.ExportSetAside: self._set_aside,
            events.CountsDiffer: lambda _: of.differ.add(),
            events.ClientStuck: lambda _: of.stuck.add(),
            events.JournalDamaged: lambda _: of.damaged.add(),
            events.LedgerUnbalanced: lambda _: of.unbalanced.add(),
            events.GroupCommitted: self._group,
            events.GroupRecovered: self._recovered,
            events.UploadPaused: self._paused,
            events.FoundryCalled: self._called,
            events.FoundryTokenFetched: lambda _: of.tokens.add(("ok",)),
            events.FoundryTokenRefused: lambda _: of.tokens.add(("failed",)),
            events.KeysFetched: lambda _: of.keys.add(("ok",)),
            events.KeysUnavailable: lambda _: of.keys.add(("failed",)),
            events.SecondWriter: lambda _: of.second_writer.add(),
            events.OrphanAborted: lambda _: of.orphans.add(("aborted",)),
            events.OrphanSuspected: lambda _: of.orphans.add(("suspected",)),
        }

    def _request(self, event: events.RequestAnswered) -> None:
        self._of.requests.add((event.route, event.method, str(event.status)))
        self._of.request_seconds.note((event.route,), event.seconds)

    def _rejected(self, event: events.LinesRejected | events.ExportAccepted) -> None:
        for reason, lines in event.reasons.items():
            self._of.rejected.add((reason,), lines)

    def _accepted(self, event: events.ExportAccepted) -> None:
        self._of.exports.add(("accepted",))
        self._of.rows.add(("accepted",), event.records)
        self._rejected(event)

    def _committed(self, event: events.ExportCommitted) -> None:
        self._of.exports.add(("committed",))
        self._of.rows.add(("committed",), event.records)
        self._of.committed_bytes.add((), event.bytes)

    def _set_aside(self, _event: events.ExportSetAside) -> None:
        self._of.exports.add(("set_aside",))
        self._is_paused = False

    def _group(self, event: events.GroupCommitted) -> None:
        self._of.groups.add((event.because,))
        self._of.group_exports.note((), event.exports)
        self._of.group_bytes.note((), event.bytes)
        self._of.group_seconds.note((), event.seconds)
        self._works()

    def _recovered(self, event: events.GroupRecovered) -> None:
        if event.committed:
            self._works()

    def _works(self) -> None:
        self._is_paused = False
        self._last_commit = self._now().timestamp()

    def _paused(self, _event: events.UploadPaused) -> None:
        self._is_paused = True
        self._of.pauses.add()

    def _called(self, event: events.FoundryCalled) -> None:
        self._of.calls.add((event.operation, str(event.status)))
        self._of.call_seconds.note((event.operation,), event.seconds)
        if event.is_retry:
            self._of.retries.add((event.operation,))


class Scrape:
    """What one scrape is told: what a registry collects from."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        return self._families


def of_queues(queues: Queues) -> Iterator[Metric]:
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
    waited = (now - depth.oldest).total_seconds() if depth.oldest else 0.0
    yield gauge(
        "atlas_journal_oldest_seconds",
        "How long the export has waited that has waited for Foundry for longest.",
        max(waited, 0.0),
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
