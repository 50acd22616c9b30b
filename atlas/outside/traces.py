"""Traces, as a reader of events: spans, sent by OTLP over HTTP. Names are OpenTelemetry's.

    POST /api/v1/healthkit/export     a request, in the trace that its phone has begun, if any
        decode, flatten, journal      what the actors took for it
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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    Tracer,
    set_span_in_context,
)

from atlas.core import events
from atlas.core.events import Event
from atlas.core.traces import Trace

NANOSECONDS = 1_000_000_000  # of a second: spans are measured in them
EXPORT_SECONDS = 2.0  # for a batch of spans
END_SECONDS = 2.0  # for what is left when we end; by itself it would take half a minute
SPANS_MAX = 8192  # that wait for the collector; older ones are dropped


@contextmanager
def collected(endpoint: str, version: str, dataset: str) -> Iterator["Traces"]:
    """Traces to the collector at this URL, and what is left of them at the end, if it takes it."""
    # its own words are no lines of ours: who misses his traces looks at the collector
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL + 1)
    with exported(OTLPSpanExporter(endpoint, timeout=EXPORT_SECONDS), version, dataset) as found:
        yield found


@contextmanager
def exported(exporter: SpanExporter, version: str, dataset: str) -> Iterator["Traces"]:
    """A collector that is away, or hangs, costs nobody anything but the traces."""
    processor = BatchSpanProcessor(exporter, max_queue_size=SPANS_MAX)
    about = {"service.name": "atlas", "service.version": version, "atlas.dataset": dataset}
    ids = GivenIds()
    provider = TracerProvider(ALWAYS_ON, Resource(about), shutdown_on_exit=False, id_generator=ids)
    provider.add_span_processor(processor)
    try:
        yield Traces(provider.get_tracer("atlas"), ids)
    finally:
        ending = threading.Thread(target=processor.shutdown, daemon=True)
        ending.start()
        ending.join(END_SECONDS)


@dataclass(frozen=True, slots=True)
class Span:
    """One that ends now and began at this moment, in nanoseconds of the wall's clock."""

    name: str
    context: SpanContext
    began: int
    parent: SpanContext | None = None
    kind: SpanKind = SpanKind.INTERNAL
    attributes: Mapping[str, str | int] = field(default_factory=dict)
    links: tuple[Link, ...] = ()
    is_error: bool = False


class GivenIds(IdGenerator):
    """The ids of the next span, which Atlas has chosen itself."""

    def __init__(self) -> None:
        self.next = SpanContext(0, 0, is_remote=False)

    def generate_trace_id(self) -> int:
        return self.next.trace_id

    def generate_span_id(self) -> int:
        return self.next.span_id


class Traces:
    """Makes spans of events. What has no trace makes none."""

    def __init__(self, tracer: Tracer, ids: GivenIds) -> None:
        self._tracer = tracer
        self._ids = ids
        self._open: tuple[str, int] | None = None  # the transaction of the group, and since when

    def watch(self, event: Event) -> None:
        span = self._span(event)
        if span is not None:
            self._end(span)

    def _span(self, event: Event) -> Span | None:
        match event:
            case events.StageWorked(trace=Trace() as trace):
                return Span(event.stage, within(trace), ago(event.seconds), of(trace))
            case events.RequestAnswered(trace=Trace() as trace):
                return request(event, trace)
            case events.ExportCommitted(trace=Trace() as trace):
                return upload(event, trace, self._began(event.transaction))
            case events.FoundryCalled() if self._open is not None:
                return call(event, group_of(self._open[0]))
            case events.GroupStarted():
                self._open = event.transaction, time.time_ns()
            case events.GroupCommitted():
                began, self._open = self._began(event.transaction), None
                return group(event, began)
            case events.UploadPaused() | events.GroupRecovered():
                self._open = None
        return None

    def _began(self, transaction: str) -> int:
        """Of one that was begun in an earlier life nobody knows."""
        if self._open is not None and self._open[0] == transaction:
            return self._open[1]
        return time.time_ns()

    def _end(self, span: Span) -> None:
        parent = Context()
        if span.parent is not None:
            parent = set_span_in_context(NonRecordingSpan(span.parent), parent)
        self._ids.next = span.context
        made = self._tracer.start_span(
            span.name, parent, span.kind, span.attributes, span.links, span.began
        )
        if span.is_error:
            made.set_status(StatusCode.ERROR)
        made.end()


def request(event: events.RequestAnswered, trace: Trace) -> Span:
    return Span(
        f"{event.method} {event.route}",
        of(trace),
        ago(event.seconds),
        parent=of(Trace(trace.id, trace.parent)) if trace.parent is not None else None,
        kind=SpanKind.SERVER,
        attributes={
            "http.request.method": event.method,
            "http.route": event.route,
            "http.response.status_code": event.status,
            "atlas.correlation_id": event.correlation_id,
        },
        is_error=event.status >= 500,
    )


def upload(event: events.ExportCommitted, trace: Trace, began: int) -> Span:
    return Span(
        "upload",
        within(trace),
        began,
        parent=of(trace),
        attributes={
            "atlas.transaction": event.transaction,
            "atlas.receipt": event.id,
            "atlas.rows": event.records,
        },
        links=(Link(of(group_of(event.transaction))),),
    )


def group(event: events.GroupCommitted, began: int) -> Span:
    return Span(
        "group",
        of(group_of(event.transaction)),
        began,
        attributes={
            "atlas.transaction": event.transaction,
            "atlas.exports": event.exports,
            "atlas.rows": event.rows,
            "atlas.because": event.because,
        },
    )


def call(event: events.FoundryCalled, trace: Trace) -> Span:
    return Span(
        f"foundry {event.operation}",
        within(trace),
        ago(event.seconds),
        parent=of(trace),
        kind=SpanKind.CLIENT,
        attributes={"http.response.status_code": event.status},
        is_error=not 200 <= event.status < 400,
    )


def group_of(transaction: str) -> Trace:
    digest = hashlib.sha256(transaction.encode()).hexdigest()
    return Trace(digest[:32], digest[32:48])


def of(trace: Trace) -> SpanContext:
    """All that we tell of is recorded: what is not wanted has no trace."""
    sampled = TraceFlags(TraceFlags.SAMPLED)
    return SpanContext(int(trace.id, 16), int(trace.span, 16), is_remote=False, trace_flags=sampled)


def within(trace: Trace) -> SpanContext:
    """A new span of the same trace."""
    return of(Trace(trace.id, secrets.token_hex(8)))


def ago(seconds: float) -> int:
    return time.time_ns() - int(seconds * NANOSECONDS)
