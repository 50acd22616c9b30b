"""The subscribers to events: traces, status, log."""

import random
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol

from atlas import __version__
from atlas.core.errors import ConfigurationError
from atlas.core.events import Event, EventSink
from atlas.core.ports import Clock
from atlas.core.status_aggregator import About, StatusAggregator
from atlas.core.traces import Sampler, Trace, never_sample
from atlas.settings import Settings


class EventSubscriber(Protocol):
    """Reads events of some kinds."""

    def find_handler(self, kind: type[Event], /) -> EventSink | None: ...


@dataclass(frozen=True, slots=True)
class EventSubscribers:
    """Each is told of what it reads; the log comes last, as it takes longest."""

    status: StatusAggregator
    log: EventSubscriber | None
    traces: EventSink | None = None
    sample: Callable[[str], Trace | None] = never_sample
    _handlers: dict[type[Event], tuple[EventSink, ...]] = field(init=False, default_factory=dict)

    def publish(self, event: Event) -> None:
        handlers = self._handlers.get(type(event))
        if handlers is None:
            handlers = self._handlers[type(event)] = self._find_handlers(type(event))
        for read in handlers:
            read(event)

    def _find_handlers(self, kind: type[Event]) -> tuple[EventSink, ...]:
        subscribers: list[EventSubscriber] = [self.status]
        if self.log is not None:
            subscribers.append(self.log)
        handlers = [source.find_handler(kind) for source in subscribers]
        return tuple(read for read in (self.traces, *handlers) if read is not None)


@contextmanager
def add_tracing(subscribers: EventSubscribers, settings: Settings) -> Iterator[EventSubscribers]:
    """With the traces, if they are to be sent anywhere. Raises ConfigurationError."""
    if not settings.traces.endpoint:
        yield subscribers
        return
    try:
        from atlas.outside import traces  # noqa: PLC0415 - for who wants it only
    except ImportError as error:
        raise ConfigurationError(
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT needs OpenTelemetry: "
            "pip install 'atlas-healthkit[otel]'."
        ) from error
    sample = Sampler(settings.traces.share, secrets.token_hex, random.SystemRandom().random)
    rid = settings.foundry.dataset_rid
    with ExitStack() as stack:
        try:
            exporter = traces.open_otlp_traces(settings.traces.endpoint, __version__, rid)
            tracer = stack.enter_context(exporter)
        except ValueError as error:
            raise ConfigurationError(
                f"An OTEL_ variable of OpenTelemetry is wrong: {error}."
            ) from error
        yield replace(subscribers, traces=tracer.handle, sample=sample)


def build_subscribers(
    settings: Settings, log: EventSubscriber | None, clock: Clock
) -> EventSubscribers:
    """All of them, from now on."""
    foundry, journal = settings.foundry, settings.journal
    info = About(
        version=__version__,
        dataset=foundry.dataset_rid,
        branch=foundry.branch,
        bytes_max=journal.bytes_max,
        exports_max=journal.exports_max,
    )
    return EventSubscribers(StatusAggregator(info, clock), log)
