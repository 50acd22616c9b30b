"""Limits the number of connections, and chooses which one is closed to admit another."""

from typing import Protocol

REFUSED_MAX = 64  # at once with an answer; others are closed without one


class Evictable(Protocol):
    """A connection that can be closed to admit another."""

    def evict(self) -> None:
        """Close at once. No request is under way."""
        ...


class ConnectionLimiter:
    """Admits connections of a listener up to its limit.

    At the limit, the connection that has been idle for longest is evicted, so that idle clients do
    not lock others out.
    """

    def __init__(self, connections_max: int) -> None:
        self.connections_max = connections_max
        self._admitted: set[Evictable] = set()
        self._idle: dict[Evictable, None] = {}
        self._refused: set[Evictable] = set()

    def admit(self, connection: Evictable) -> bool:
        """Admit a connection. False if there are too many, and all have a request under way."""
        if len(self._admitted) >= self.connections_max:
            longest = next(iter(self._idle), None)
            if longest is None:
                return False
            self.remove(longest)
            longest.evict()
        self._admitted.add(connection)
        self._idle[connection] = None
        return True

    def admit_to_refuse(self, connection: Evictable) -> bool:
        """Admit a connection only to send it a refusal. False if there are too many of these."""
        if len(self._refused) >= REFUSED_MAX:
            return False
        self._refused.add(connection)
        return True

    def mark_busy(self, connection: Evictable) -> None:
        self._idle.pop(connection, None)

    def mark_idle(self, connection: Evictable) -> None:
        if connection in self._admitted:
            self._idle[connection] = None

    def remove(self, connection: Evictable) -> None:
        self._admitted.discard(connection)
        self._refused.discard(connection)
        self._idle.pop(connection, None)
