"""Counts events. The operator page, `atlas top` and the metrics all read these numbers."""

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

from atlas.core import events, identifiers
from atlas.core.about import About
from atlas.core.counted_events import COUNTED_EVENTS
from atlas.core.events import Event, EventSink
from atlas.core.histograms import EMPTY, Histograms, Key
from atlas.core.phones import PhoneTotals
from atlas.core.ports import Clock
from atlas.core.recent_calls import RecentLatency
from atlas.core.status import (
    COMMITS_MAX,
    HISTORY_MAX,
    FoundryStatus,
    HistoryPoint,
    JournalStatus,
    JournalTotals,
    RecentCommit,
    RuntimeGauges,
    StageStatus,
    StatusCounts,
    StatusSnapshot,
    build_journal_status,
    format_optional,
    take_last,
)
from atlas.core.verdict import judge

STAGES = "authenticate", "decode", "flatten", "journal"


class Cursor(NamedTuple):
    """The number of commits and history points that a viewer has received."""

    commits: int = 0
    moments: int = 0


FROM_START = Cursor()


class StatusAggregator:
    """Everything that events reveal about the service since its start.

    Uploads are paused while nothing shows that Foundry accepts exports other than those that it
    refuses. `paused_reason` is the latest reason, `paused_at` the time of the first one.
    `is_leading`: this replica holds the lease; without other replicas there is none.
    """

    def __init__(self, about: About, clock: Clock) -> None:
        self.about = about
        self.clock = clock
        self.counts = Counter[Key]()
        self.histograms = Histograms()
        self.latency = RecentLatency()
        self.paused_reason: str | None = None
        self.paused_at: datetime | None = None
        self.last_commit_at: datetime | None = None
        self.is_leading = False
        self.phones = PhoneTotals()
        self.cursor = FROM_START
        self._started = identifiers.format_timestamp(clock())
        self._commits: deque[RecentCommit] = deque(maxlen=COMMITS_MAX)
        self._history: deque[HistoryPoint] = deque(maxlen=HISTORY_MAX)
        self._last_totals = JournalTotals({}, {})
        self._handlers: Mapping[type[Event], Callable[[Any], None]] = {
            **{kind: partial(self._count, key) for kind, key in COUNTED_EVENTS.items()},
            events.RequestAnswered: self._on_request_answered,
            events.RequestRead: self._on_request_read,
            events.RequestsShed: self._on_requests_shed,
            events.StageCompleted: self._on_stage_completed,
            events.LinesRejected: self._on_lines_rejected,
            events.ExportAccepted: self._on_export_accepted,
            events.ExportCommitted: self._on_export_committed,
            events.ExportSetAside: self._on_export_set_aside,
            events.GroupCommitted: self._on_group_committed,
            events.GroupRecovered: self._on_group_recovered,
            events.UploadPaused: self._on_upload_paused,
            events.FoundryCalled: self._on_foundry_called,
            events.RowsPublished: self._on_rows_published,
            events.StreamRowsSkipped: self._on_rows_lost,
            events.StreamRowsDropped: self._on_rows_lost,
            events.LeadershipTaken: self._on_leadership_taken,
            events.LeadershipLost: self._on_leadership_lost,
            events.ExportsOfferedAgain: self._on_exports_offered_again,
            events.ExportsStored: self._on_exports_stored,
            events.PhonesCounted: self._on_phones_counted,
        }

    def find_handler(self, kind: type[Event]) -> EventSink | None:
        """Return the function that counts events of this type, if there is one."""
        return self._handlers.get(kind)

    def handle(self, event: Event) -> None:
        if (handle := self.find_handler(type(event))) is not None:
            handle(event)

    def total(self, name: str) -> int:
        """Return the sum over all labels."""
        return sum(count for key, count in self.counts.items() if key[0] == name)

    def by_label(self, name: str) -> Counter[str]:
        return Counter({key[1]: count for key, count in self.counts.items() if key[0] == name})

    def record_history(self, totals: JournalTotals) -> None:
        """Add a point to the history."""
        at, waiting = int(self.clock().timestamp()), totals.exports.get("accepted", 0)
        self._history.append(HistoryPoint(at, waiting, totals.oldest_seconds(self.clock())))
        self.cursor = Cursor(self.cursor.commits, self.cursor.moments + 1)

    def take_snapshot(self, gauges: RuntimeGauges, since: Cursor = FROM_START) -> StatusSnapshot:
        """Return the status; of commits and history only those after `since`.

        While the journal does not respond, its last totals are shown.
        """
        about = self.about
        if gauges.totals is not None:
            self._last_totals = gauges.totals
        totals = self._last_totals
        journal = build_journal_status(totals, about.bytes_max, about.exports_max, self.clock())
        foundry = FoundryStatus(
            self.paused_reason,
            format_optional(self.paused_at),
            format_optional(self.last_commit_at),
        )
        replicas = () if totals.database is None else totals.database.replicas
        return StatusSnapshot(
            at=identifiers.format_timestamp(self.clock()),
            version=about.version,
            started=self._started,
            dataset=about.dataset,
            branch=about.branch,
            is_draining=gauges.is_draining,
            verdict=judge(gauges, journal, foundry, replicas),
            stages=tuple(self._list_stages(gauges, journal)),
            counts=self._build_counts(),
            rejects=self.by_label("atlas_lines_rejected"),
            refusals=self.by_label("atlas_refusals"),
            journal=journal,
            foundry=foundry,
            commits=take_last(self._commits, self.cursor.commits - since.commits),
            history=take_last(self._history, self.cursor.moments - since.moments),
            phones=self.phones,
            replicas=replicas,
            latency=self.latency.summarize(),
            dataset_url=about.dataset_url,
        )

    def _build_counts(self) -> StatusCounts:
        exports = self.by_label("atlas_exports")
        return StatusCounts(
            requests=self.total("atlas_http_requests"),
            refused=self.total("atlas_refusals"),
            accepted=exports["accepted"],
            replayed=exports["replayed"],
            committed=exports["committed"],
            set_aside=exports["set_aside"] + exports["quarantined"],
            rows=self.counts["atlas_rows", "committed"],
            rejected=self.total("atlas_lines_rejected"),
            bytes_in=self.total("atlas_request_bytes"),
            bytes_out=self.total("atlas_committed_bytes"),
            foundry_calls=self.total("atlas_foundry_calls"),
            foundry_retries=self.total("atlas_foundry_retries"),
        )

    def _list_stages(self, gauges: RuntimeGauges, journal: JournalStatus) -> Iterator[StageStatus]:
        crashes = self.by_label("atlas_stage_crashes")
        for name in STAGES:
            work = self.histograms.get(("atlas_stage_seconds", name), EMPTY)
            queue = gauges.queues.get(name, (0, 0))
            yield StageStatus(name, sum(work.counts), *queue, crashes[name], work.sum)
        committed = self.counts["atlas_exports", "committed"]
        queue = journal.exports, journal.exports_max
        seconds = self.histograms.get(("atlas_group_seconds",), EMPTY).sum
        yield StageStatus("upload", committed, *queue, crashes["upload"], seconds)

    def _count(self, key: Callable[[Event], Key], event: Event) -> None:
        self.counts[key(event)] += 1

    def _on_request_answered(self, event: events.RequestAnswered) -> None:
        self.counts["atlas_http_requests", event.route, event.method, str(event.status)] += 1
        self.histograms["atlas_http_request_seconds", event.route].observe(event.seconds)
        self.latency.add_request(event)

    def _on_request_read(self, event: events.RequestRead) -> None:
        self.counts[("atlas_request_bytes",)] += event.bytes

    def _on_requests_shed(self, event: events.RequestsShed) -> None:
        for route, requests in event.routes.items():
            self.counts["atlas_http_requests", route, "POST", str(event.status)] += requests
        self.counts["atlas_refusals", event.code] += event.requests
        self.latency.add_shed_requests(event)

    def _on_stage_completed(self, event: events.StageCompleted) -> None:
        self.histograms["atlas_stage_seconds", event.stage].observe(event.seconds)

    def _on_lines_rejected(self, event: events.LinesRejected | events.ExportAccepted) -> None:
        for reason, lines in event.reasons.items():
            self.counts["atlas_lines_rejected", reason] += lines

    def _on_export_accepted(self, event: events.ExportAccepted) -> None:
        self.counts["atlas_exports", "accepted"] += 1
        self.counts["atlas_rows", "accepted"] += event.records
        self._on_lines_rejected(event)

    def _on_export_committed(self, event: events.ExportCommitted) -> None:
        self.counts["atlas_exports", "committed"] += 1
        self.counts["atlas_rows", "committed"] += event.records
        self.counts[("atlas_committed_bytes",)] += event.bytes

    def _on_export_set_aside(self, _event: events.ExportSetAside) -> None:
        self.counts["atlas_exports", "set_aside"] += 1
        self._resume()

    def _on_group_committed(self, event: events.GroupCommitted) -> None:
        self.counts["atlas_groups", event.trigger] += 1
        self.histograms[("atlas_group_exports",)].observe(event.exports)
        self.histograms[("atlas_group_bytes",)].observe(event.bytes)
        self.histograms[("atlas_group_seconds",)].observe(event.seconds)
        self._resume(committed_at=self.clock())
        self._commits.append(
            RecentCommit(
                at=identifiers.format_timestamp(self.clock()),
                transaction=event.transaction,
                exports=event.exports,
                rows=event.rows,
                bytes=event.bytes,
                seconds=event.seconds,
                trigger=event.trigger,
            )
        )
        self.cursor = Cursor(self.cursor.commits + 1, self.cursor.moments)

    def _on_group_recovered(self, event: events.GroupRecovered) -> None:
        """End a pause only if something turned out to be committed."""
        if event.committed:
            self._resume(committed_at=self.clock())

    def _on_upload_paused(self, event: events.UploadPaused) -> None:
        self.counts[("atlas_upload_pauses",)] += 1
        if not event.is_outage:
            self._resume()
            return
        self.paused_reason = event.reason
        if self.paused_at is None:
            self.paused_at = self.clock()

    def _on_foundry_called(self, event: events.FoundryCalled) -> None:
        self.counts["atlas_foundry_calls", event.operation, str(event.status)] += 1
        if event.is_retry:
            self.counts["atlas_foundry_retries", event.operation] += 1
        self.histograms["atlas_foundry_call_seconds", event.operation].observe(event.seconds)
        self.latency.add_foundry_call(event)

    def _on_rows_published(self, event: events.RowsPublished) -> None:
        self.counts["atlas_stream_rows", "published"] += event.rows
        for delay in event.delays:
            self.histograms[("atlas_stream_delay_seconds",)].observe(delay)

    def _on_rows_lost(self, event: events.StreamRowsSkipped | events.StreamRowsDropped) -> None:
        self.counts["atlas_stream_rows", event.reason] += event.rows

    def _on_leadership_taken(self, _event: events.LeadershipTaken) -> None:
        self.counts[("atlas_leadership_taken",)] += 1
        self.is_leading = True

    def _on_leadership_lost(self, event: events.LeadershipLost) -> None:
        """End a pause, too: the next one is of another replica."""
        self.counts["atlas_leadership_lost", event.reason] += 1
        self.is_leading = False
        self._resume()

    def _on_exports_offered_again(self, event: events.ExportsOfferedAgain) -> None:
        self.counts["atlas_journal_offered_again", "lost"] += event.lost
        self.counts["atlas_journal_offered_again", "present"] += event.exports - event.lost

    def _on_exports_stored(self, event: events.ExportsStored) -> None:
        self.histograms[("atlas_journal_commit_seconds",)].observe(event.seconds)
        self.histograms[("atlas_journal_batch_exports",)].observe(event.exports)

    def _on_phones_counted(self, event: events.PhonesCounted) -> None:
        self.phones = PhoneTotals(event.active, event.quiet, event.stuck)

    def _resume(self, committed_at: datetime | None = None) -> None:
        self.paused_reason = self.paused_at = None
        if committed_at is not None:
            self.last_commit_at = committed_at
