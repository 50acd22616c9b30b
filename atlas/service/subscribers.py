"""The subscribers to events: traces, status, log."""

import random
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Protocol

from atlas import __version__
from atlas.core.about import About
from atlas.core.errors import ConfigurationError
from atlas.core.events import Event, EventSink
from atlas.core.identifiers import build_dataset_url
from atlas.core.ports import Clock
from atlas.core.status_aggregator import StatusAggregator
from atlas.core.traces import Sampler, Trace, never_sample
from atlas.service.extras import describe_missing_extra
from atlas.settings import Settings


def utc_now() -> datetime:
    return datetime.now(UTC)


class EventSubscriber(Protocol):
    """Handles some kinds of events."""

    def find_handler(self, kind: type[Event], /) -> EventSink | None: ...


@dataclass(frozen=True, slots=True)
class EventSubscribers:
    """Publishes each event to the subscribers that handle it; the log is last, being slowest."""

    status: StatusAggregator
    log: EventSubscriber | None
    traces: EventSink | None = None
    sample: Callable[[str], Trace | None] = never_sample
    _handlers: dict[type[Event], tuple[EventSink, ...]] = field(init=False, default_factory=dict)

    def publish(self, event: Event) -> None:
        handlers = self._handlers.get(type(event))
        if handlers is None:
            handlers = self._handlers[type(event)] = self._find_handlers(type(event))
        for handle in handlers:
            handle(event)

    def _find_handlers(self, kind: type[Event]) -> tuple[EventSink, ...]:
        log = None if self.log is None else self.log.find_handler(kind)
        handlers = self.traces, self.status.find_handler(kind), log
        return tuple(handle for handle in handlers if handle is not None)


@contextmanager
def add_tracing(subscribers: EventSubscribers, settings: Settings) -> Iterator[EventSubscribers]:
    """Add tracing, if an endpoint is set. Raises ConfigurationError."""
    if not settings.traces.endpoint:
        yield subscribers
        return
    try:
        from atlas.outside import traces  # noqa: PLC0415 - optional dependency
    except ImportError as error:
        raise ConfigurationError(
            describe_missing_extra("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OpenTelemetry", "otel")
        ) from error
    sample = Sampler(settings.traces.share, secrets.token_hex, random.SystemRandom().random)
    rid = settings.foundry.dataset_rid
    with ExitStack() as stack:
        try:
            exporter = traces.open_otlp_traces(settings.traces.endpoint, __version__, rid)
            tracer = stack.enter_context(exporter)
        except ValueError as error:
            raise ConfigurationError(
                f"An OTEL_ environment variable is invalid: {error}."
            ) from error
        yield replace(subscribers, traces=tracer.handle, sample=sample)


def build_subscribers(
    settings: Settings, log: EventSubscriber | None = None, clock: Clock = utc_now
) -> EventSubscribers:
    """Build the subscribers, without tracing."""
    foundry, journal = settings.foundry, settings.journal
    about = About(
        version=__version__,
        dataset=foundry.dataset_rid,
        branch=foundry.branch,
        bytes_max=journal.bytes_max,
        exports_max=journal.exports_max,
        is_shared=journal.is_shared,
        dataset_url=build_dataset_url(foundry.host, foundry.dataset_rid, foundry.branch),
        is_streamed=bool(settings.stream.rid),
    )
    return EventSubscribers(StatusAggregator(about, clock), log)
