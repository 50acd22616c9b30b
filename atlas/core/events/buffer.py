"""Events that occur while a journal is opened, before anybody subscribes to them."""

from collections.abc import Sequence

from atlas.core.events.event import Event, EventSink


class EventBuffer(list[Event]):
    """Buffers events until a subscriber is attached, then forwards them immediately."""

    def __init__(self) -> None:
        super().__init__()
        self._emit: EventSink = self.append

    def add(self, events: Sequence[Event]) -> None:
        for event in events:
            self._emit(event)

    def subscribe(self, emit: EventSink) -> None:
        self._emit = emit
        self.add(self)
