"""The base class of all events, and the type of the functions that take them."""

from collections.abc import Callable

from msgspec import Struct


class Event(Struct, frozen=True):
    """A fact about the service, worth a log line or a metric."""


EventSink = Callable[[Event], None]
