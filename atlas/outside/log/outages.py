"""Failures that repeat until something works again.

The first is logged as it is, the others at debug only: an hour without Foundry is two lines, one
when it begins and one when it is over.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from atlas.core import events
from atlas.core.events import Event

# by the event that ends them: failures, and the message that says so (None: no message)
RECOVERIES: dict[type[Event], dict[type[Event], str | None]] = {
    events.GroupCommitted: {
        events.UploadPaused: "Foundry accepts uploads again",
        events.OrphanSuspected: None,
    },
    events.GroupRecovered: {events.UploadPaused: "Foundry accepts uploads again"},
    events.LeadershipLost: {events.UploadPaused: None, events.OrphanSuspected: None},
    events.FoundryTokenFetched: {events.FoundryTokenRefused: "Foundry gives tokens again"},
    events.KeysFetched: {events.KeysUnavailable: "Auth0 signing keys can be fetched again"},
}
REPEATED = frozenset(kind for failures in RECOVERIES.values() for kind in failures)


class Recovery(NamedTuple):
    """The end of a failure that lasted `seconds`, during which it was met `tries` times."""

    message: str
    seconds: float
    tries: int


@dataclass(slots=True)
class LastingFailure:
    """A failure that lasts."""

    began_at: float
    tries: int = 1


@dataclass(frozen=True, slots=True)
class Outages:
    """Tracks the failures that last."""

    monotonic: Callable[[], float]
    lasting: dict[tuple[type[Event], str], LastingFailure] = field(default_factory=dict)

    def record_failure(self, event: Event) -> bool:
        """Record a failure. Return True if it is the first since this last worked."""
        failure = type(event), get_issuer(event)
        outage = self.lasting.get(failure)
        if outage is not None:
            outage.tries += 1
            return False
        self.lasting[failure] = LastingFailure(self.monotonic())
        return True

    def end(self, event: Event) -> list[Recovery]:
        """End the failures that this event ends."""
        if isinstance(event, events.GroupRecovered) and not event.committed:
            return []
        failures, issuer = RECOVERIES[type(event)], get_issuer(event)
        ended = [
            (message, self.lasting.pop((kind, issuer), None)) for kind, message in failures.items()
        ]
        return [
            Recovery(message, self.monotonic() - outage.began_at, outage.tries)
            for message, outage in ended
            if message is not None and outage is not None
        ]


def get_issuer(event: Event) -> str:
    """Return the issuer of an event about keys, of which each fails by itself; "" for others."""
    if isinstance(event, events.KeysFetched | events.KeysUnavailable):
        return event.issuer
    return ""
