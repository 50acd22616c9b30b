"""Turns events into OpenTelemetry spans, and sends them by OTLP over HTTP.

    POST /api/v1/healthkit/export     a request, continuing the trace of the phone, if any
        decode, flatten, journal      the work of each stage
        upload                        until the rows are committed; linked to the group
    group                             a transaction, in a trace of its own
        foundry put, foundry commit   the calls to Foundry meanwhile

The ids of a group are derived from its transaction, so spans can refer to it after a restart, too.
Spans are created when they end; only the start of the open group is kept in memory.
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

NANOSECONDS_PER_SECOND = 1_000_000_000
EXPORT_SECONDS = 2.0  # timeout for a batch of spans
SHUTDOWN_SECONDS = 2.0  # to flush the remaining spans; OpenTelemetry's default is 30
SPANS_MAX = 8192  # spans that wait for the collector; the oldest are dropped


@contextmanager
def open_otlp_traces(endpoint: str, version: str, dataset: str) -> Iterator["Traces"]:
    """Open traces that are sent to the collector at this URL."""
    # OpenTelemetry's own log lines would break Atlas's JSON log
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL + 1)
    with open_traces(
        OTLPSpanExporter(endpoint, timeout=EXPORT_SECONDS), version, dataset
    ) as traces:
        yield traces


@contextmanager
def open_traces(exporter: SpanExporter, version: str, dataset: str) -> Iterator["Traces"]:
    """Open traces. An unavailable or hanging collector affects nothing but the traces."""
    processor = BatchSpanProcessor(exporter, max_queue_size=SPANS_MAX)
    attributes = {"service.name": "atlas", "service.version": version, "atlas.dataset": dataset}
    ids = PresetIds()
    provider = TracerProvider(
        ALWAYS_ON, Resource(attributes), shutdown_on_exit=False, id_generator=ids
    )
    provider.add_span_processor(processor)
    try:
        yield Traces(provider.get_tracer("atlas"), ids)
    finally:
        flush = threading.Thread(target=processor.shutdown, daemon=True)
        flush.start()
        flush.join(SHUTDOWN_SECONDS)


@dataclass(frozen=True, slots=True)
class Span:
    """A span that ends now."""

    name: str
    context: SpanContext
    start: int  # Unix time in nanoseconds
    parent: SpanContext | None = None
    kind: SpanKind = SpanKind.INTERNAL
    attributes: Mapping[str, str | int] = field(default_factory=dict)
    links: tuple[Link, ...] = ()
    is_error: bool = False


class PresetIds(IdGenerator):
    """An id generator that returns the ids that Atlas has chosen for the next span."""

    def __init__(self) -> None:
        self.next = SpanContext(0, 0, is_remote=False)

    def generate_trace_id(self) -> int:
        return self.next.trace_id

    def generate_span_id(self) -> int:
        return self.next.span_id


class Traces:
    """Turns events into spans. Events without a trace yield none."""

    def __init__(self, tracer: Tracer, ids: PresetIds) -> None:
        self._tracer = tracer
        self._ids = ids
        self._open: tuple[str, int] | None = None  # the open transaction and its start

    def handle(self, event: Event) -> None:
        span = self._build_span(event)
        if span is not None:
            self._export(span)

    def _build_span(self, event: Event) -> Span | None:
        match event:
            case events.StageCompleted(trace=Trace() as trace):
                return Span(
                    event.stage,
                    build_child_context(trace),
                    compute_start(event.seconds),
                    build_span_context(trace),
                )
            case events.RequestAnswered(trace=Trace() as trace):
                return build_request_span(event, trace)
            case events.ExportCommitted(trace=Trace() as trace):
                return build_upload_span(event, trace, self._start_time(event.transaction))
            case events.FoundryCalled() if self._open is not None:
                return build_call_span(event, derive_group_trace(self._open[0]))
            case events.GroupStarted():
                self._open = event.transaction, time.time_ns()
            case events.GroupCommitted():
                start, self._open = self._start_time(event.transaction), None
                return build_group_span(event, start)
            case events.UploadPaused() | events.GroupRecovered():
                self._open = None
        return None

    def _start_time(self, transaction: str) -> int:
        """Return the start of a transaction; now, if it was started before a restart."""
        if self._open is not None and self._open[0] == transaction:
            return self._open[1]
        return time.time_ns()

    def _export(self, span: Span) -> None:
        parent = Context()
        if span.parent is not None:
            parent = set_span_in_context(NonRecordingSpan(span.parent), parent)
        self._ids.next = span.context
        exported = self._tracer.start_span(
            span.name, parent, span.kind, span.attributes, span.links, span.start
        )
        if span.is_error:
            exported.set_status(StatusCode.ERROR)
        exported.end()


def build_request_span(event: events.RequestAnswered, trace: Trace) -> Span:
    parent = None if trace.parent is None else build_span_context(Trace(trace.id, trace.parent))
    return Span(
        f"{event.method} {event.route}",
        build_span_context(trace),
        compute_start(event.seconds),
        parent=parent,
        kind=SpanKind.SERVER,
        attributes={
            "http.request.method": event.method,
            "http.route": event.route,
            "http.response.status_code": event.status,
            "atlas.correlation_id": event.correlation_id,
        },
        is_error=event.status >= 500,
    )


def build_upload_span(event: events.ExportCommitted, trace: Trace, start: int) -> Span:
    return Span(
        "upload",
        build_child_context(trace),
        start,
        parent=build_span_context(trace),
        attributes={
            "atlas.transaction": event.transaction,
            "atlas.receipt": event.id,
            "atlas.rows": event.records,
        },
        links=(Link(build_span_context(derive_group_trace(event.transaction))),),
    )


def build_group_span(event: events.GroupCommitted, start: int) -> Span:
    return Span(
        "group",
        build_span_context(derive_group_trace(event.transaction)),
        start,
        attributes={
            "atlas.transaction": event.transaction,
            "atlas.exports": event.exports,
            "atlas.rows": event.rows,
            "atlas.trigger": event.trigger,
        },
    )


def build_call_span(event: events.FoundryCalled, trace: Trace) -> Span:
    return Span(
        f"foundry {event.operation}",
        build_child_context(trace),
        compute_start(event.seconds),
        parent=build_span_context(trace),
        kind=SpanKind.CLIENT,
        attributes={"http.response.status_code": event.status},
        is_error=not 200 <= event.status < 400,
    )


def derive_group_trace(transaction: str) -> Trace:
    digest = hashlib.sha256(transaction.encode()).hexdigest()
    return Trace(digest[:32], digest[32:48])


def build_span_context(trace: Trace) -> SpanContext:
    """Build a context that is always sampled: unsampled requests have no trace."""
    sampled = TraceFlags(TraceFlags.SAMPLED)
    return SpanContext(int(trace.id, 16), int(trace.span, 16), is_remote=False, trace_flags=sampled)


def build_child_context(trace: Trace) -> SpanContext:
    """Build the context of a new span in the same trace."""
    return build_span_context(Trace(trace.id, secrets.token_hex(8)))


def compute_start(seconds: float) -> int:
    return time.time_ns() - int(seconds * NANOSECONDS_PER_SECOND)
