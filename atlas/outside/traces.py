"""Traces, as a reader of events: spans, sent by OTLP over HTTP. Names are OpenTelemetry's.

    POST /api/v1/healthkit/export     a request, in the trace that its phone has begun, if any
        authenticate ... journal      what the actors took for it
        upload                        until its rows were committed; linked to the group
    group                             a transaction, in a trace of its own
        foundry put, foundry commit   what was asked of Foundry meanwhile

The ids of a group are a digest of its transaction: whoever knows that can name its span, also in
a later life. Everything is told when it has ended, so nothing is kept but when a group began.
"""

import hashlib
import logging
import secrets
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from atlas.core import events, traces
from atlas.core.events import Event
from atlas.core.traces import Trace

SECOND = 1_000_000_000  # nanoseconds, which spans are measured in
EXPORT_SECONDS = 2.0  # for a batch of spans: a collector that is away holds up no end of ours
END_SECONDS = 2.0  # for what is left when we end; by itself it would take half a minute
SPANS_MAX = 8192  # that wait for it; older ones are dropped
SCOPE = InstrumentationScope("atlas")

# its own words are no lines of ours; a collector that is away costs nobody anything but the traces
logging.getLogger("opentelemetry").setLevel(logging.CRITICAL + 1)

Attributes = Mapping[str, str | int]


@contextmanager
def collected(endpoint: str, version: str, dataset: str) -> Iterator["Traces"]:
    """Traces to the collector at this URL, and what is left of them at the end, if it takes it."""
    with exported(OTLPSpanExporter(endpoint, timeout=EXPORT_SECONDS), version, dataset) as traces:
        yield traces


@contextmanager
def exported(exporter: SpanExporter, version: str, dataset: str) -> Iterator["Traces"]:
    processor = BatchSpanProcessor(exporter, max_queue_size=SPANS_MAX)
    about = {"service.name": "atlas", "service.version": version, "atlas.dataset": dataset}
    try:
        yield Traces(processor, Resource(about))
    finally:
        ending = threading.Thread(target=processor.shutdown, daemon=True)
        ending.start()
        ending.join(END_SECONDS)


class Traces:
    """Makes spans of events. One without a trace makes none."""

    def __init__(self, processor: BatchSpanProcessor, resource: Resource) -> None:
        self._processor = processor
        self._resource = resource
        self._group: tuple[str, int] | None = None  # the one that is open: its RID, since when

    def watch(self, event: Event) -> None:
        if isinstance(event, events.StageWorked):
            self.stage(event)
        elif isinstance(event, events.RequestAnswered):
            self.request(event)
        elif isinstance(event, events.FoundryCalled):
            self.call(event)
        elif isinstance(event, events.ExportCommitted):
            self.upload(event)
        elif isinstance(event, events.GroupStarted):
            self._group = event.transaction, time.time_ns()
        elif isinstance(event, events.GroupCommitted):
            self.group(event)

    def request(self, event: events.RequestAnswered) -> None:
        trace = traces.read(event.trace)
        if trace is None:
            return
        self.end(
            f"{event.method} {event.route}",
            of(trace),
            parent=of(Trace(trace.id, event.parent)) if event.parent else None,
            began=ago(event.seconds),
            kind=SpanKind.SERVER,
            attributes={
                "http.request.method": event.method,
                "http.route": event.route,
                "http.response.status_code": event.status,
                "atlas.correlation_id": event.correlation_id,
            },
            is_error=event.status >= 500,
        )

    def stage(self, event: events.StageWorked) -> None:
        trace = traces.read(event.trace)
        if trace is not None:
            self.end(event.stage, within(trace), parent=of(trace), began=ago(event.seconds))

    def upload(self, event: events.ExportCommitted) -> None:
        trace = traces.read(event.trace)
        if trace is None:
            return
        self.end(
            "upload",
            within(trace),
            parent=of(trace),
            began=self.began(event.transaction),
            attributes={
                "atlas.transaction": event.transaction,
                "atlas.receipt": event.id,
                "atlas.rows": event.records,
            },
            links=[Link(of(group_of(event.transaction)))],
        )

    def group(self, event: events.GroupCommitted) -> None:
        began, self._group = self.began(event.transaction), None
        self.end(
            "group",
            of(group_of(event.transaction)),
            began=began,
            attributes={
                "atlas.transaction": event.transaction,
                "atlas.exports": event.exports,
                "atlas.rows": event.rows,
                "atlas.because": event.because,
            },
        )

    def call(self, event: events.FoundryCalled) -> None:
        """Of the group that is open; what is asked before that belongs to none."""
        if self._group is None:
            return
        trace = group_of(self._group[0])
        self.end(
            f"foundry {event.operation}",
            within(trace),
            parent=of(trace),
            began=ago(event.seconds),
            kind=SpanKind.CLIENT,
            attributes={"http.response.status_code": event.status},
            is_error=not 200 <= event.status < 400,
        )

    def began(self, transaction: str) -> int:
        """Of one that was begun in an earlier life nobody knows."""
        is_open = self._group is not None and self._group[0] == transaction
        return self._group[1] if is_open and self._group else time.time_ns()

    def end(
        self,
        name: str,
        context: SpanContext,
        began: int,
        *,
        parent: SpanContext | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes | None = None,
        links: Sequence[Link] = (),
        is_error: bool = False,
    ) -> None:
        """A span that ends now."""
        self._processor.on_end(
            ReadableSpan(
                name,
                context,
                parent,
                self._resource,
                attributes,
                links=links,
                kind=kind,
                status=Status(StatusCode.ERROR if is_error else StatusCode.UNSET),
                start_time=began,
                end_time=time.time_ns(),
                instrumentation_scope=SCOPE,
            )
        )


def of(trace: Trace) -> SpanContext:
    """All that we tell of is recorded: what is not wanted has no trace."""
    sampled = TraceFlags(TraceFlags.SAMPLED)
    return SpanContext(int(trace.id, 16), int(trace.span, 16), is_remote=False, trace_flags=sampled)


def within(trace: Trace) -> SpanContext:
    """A new span of the same trace."""
    return of(Trace(trace.id, secrets.token_hex(8)))


def group_of(transaction: str) -> Trace:
    digest = hashlib.sha256(transaction.encode()).hexdigest()
    return Trace(digest[:32], digest[32:48])


def ago(seconds: float) -> int:
    return time.time_ns() - int(seconds * SECOND)
