"""The type of all events, and of the functions that take them."""

from collections.abc import Callable

from msgspec import Struct


class Event(Struct, frozen=True):
    """A fact about the service, worth a log line or a metric."""


EventSink = Callable[[Event], None]
