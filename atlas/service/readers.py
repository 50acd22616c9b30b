"""The subscribers to events: traces, status, log."""

import random
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol

from atlas import __version__
from atlas.core.errors import BadSetting
from atlas.core.events import Event, Watch
from atlas.core.ports import Clock
from atlas.core.status_aggregator import About, StatusAggregator
from atlas.core.traces import Sampler, Trace, not_sampled
from atlas.settings import Settings


class EventReader(Protocol):
    """Reads events of some kinds."""

    def reader(self, kind: type[Event], /) -> Watch | None: ...


@dataclass(frozen=True, slots=True)
class Readers:
    """Each is told of what it reads; the log comes last, as it takes longest."""

    status: StatusAggregator
    log: EventReader | None
    traces: Watch | None = None
    sample: Callable[[str], Trace | None] = not_sampled
    _by_kind: dict[type[Event], tuple[Watch, ...]] = field(init=False, default_factory=dict)

    def watch(self, event: Event) -> None:
        readers = self._by_kind.get(type(event))
        if readers is None:
            readers = self._by_kind[type(event)] = self._readers(type(event))
        for read in readers:
            read(event)

    def _readers(self, kind: type[Event]) -> tuple[Watch, ...]:
        sources: list[EventReader] = [self.status]
        if self.log is not None:
            sources.append(self.log)
        found = [source.reader(kind) for source in sources]
        return tuple(read for read in (self.traces, *found) if read is not None)


@contextmanager
def traced(readers: Readers, settings: Settings) -> Iterator[Readers]:
    """With the traces, if they are to be sent anywhere. Raises BadSetting."""
    if not settings.traces.endpoint:
        yield readers
        return
    try:
        from atlas.outside import traces  # noqa: PLC0415 - for who wants it only
    except ImportError as error:
        raise BadSetting(
            "ATLAS_TRACES needs OpenTelemetry: pip install 'atlas-healthkit[otel]'."
        ) from error
    sample = Sampler(settings.traces.share, secrets.token_hex, random.SystemRandom().random)
    rid = settings.foundry.dataset_rid
    with ExitStack() as ours:
        try:
            to = traces.collected(settings.traces.endpoint, __version__, rid)
            found = ours.enter_context(to)
        except ValueError as error:
            raise BadSetting(f"An OTEL_ variable of OpenTelemetry is wrong: {error}.") from error
        yield replace(readers, traces=found.watch, sample=sample)


def reading(settings: Settings, log: EventReader | None, now: Clock) -> Readers:
    """All of them, from now on."""
    foundry, journal = settings.foundry, settings.journal
    about = About(
        version=__version__,
        dataset=foundry.dataset_rid,
        branch=foundry.branch,
        bytes_max=journal.bytes_max,
        exports_max=journal.exports_max,
    )
    return Readers(StatusAggregator(about, now), log)
