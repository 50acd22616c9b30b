"""Detects other writers on the branch."""

from dataclasses import dataclass

from atlas.core.events import EventSink, ForeignWriterDetected

FOREIGN_HEADS_MAX = 3  # different foreign transactions in a row before the event is emitted


@dataclass(slots=True)
class ForeignWriters:
    """Detects other writers on the branch.

    A single foreign transaction that stays open is a long build; a series of different ones shows
    that another service writes to the branch.
    """

    emit: EventSink
    last_head: str = ""
    heads_seen: int = 0

    def record(self, head: str) -> None:
        if head != self.last_head:
            self.last_head, self.heads_seen = head, self.heads_seen + 1
        if self.heads_seen >= FOREIGN_HEADS_MAX:
            self.emit(ForeignWriterDetected(self.heads_seen))
            self.heads_seen = 0

    def reset(self) -> None:
        self.last_head, self.heads_seen = "", 0
