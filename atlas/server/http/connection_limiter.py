"""The limits of a listener, and the admission of its connections."""

from dataclasses import dataclass
from typing import Protocol

REJECTED_MAX = 64  # connections that are sent a rejection at once; others are closed without one


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Limits of each connection, and of the number of connections.

    `header_bytes_max` includes the request line. A connection is aborted if its client reads
    nothing of a response for `write_timeout_seconds`. It is closed after `idle_seconds` without a
    request, which is longer than balancers keep it: if they send a request while it is being
    closed, they answer 502.
    """

    header_bytes_max: int = 16 * 1024
    header_seconds: float = 10.0
    write_timeout_seconds: float = 10.0
    idle_seconds: float = 620.0
    connections_max: int = 10_000


class Evictable(Protocol):
    """A connection that can be closed to admit another."""

    def evict(self) -> None:
        """Close at once. Called only while no request is in progress."""
        ...


class ConnectionLimiter:
    """Admits connections of a listener, up to its limit.

    At the limit it evicts the connection that has been idle longest, so that idle clients do not
    lock others out.
    """

    def __init__(self, connections_max: int) -> None:
        self.connections_max = connections_max
        self._admitted: set[Evictable] = set()
        self._idle: dict[Evictable, None] = {}
        self._rejected: set[Evictable] = set()

    def admit(self, connection: Evictable) -> bool:
        """Admit a connection. False if the limit is reached and no connection is idle."""
        if len(self._admitted) >= self.connections_max:
            longest_idle = next(iter(self._idle), None)
            if longest_idle is None:
                return False
            self.remove(longest_idle)
            longest_idle.evict()
        self._admitted.add(connection)
        self._idle[connection] = None
        return True

    def admit_for_rejection(self, connection: Evictable) -> bool:
        """Admit a connection only to send it a rejection. False if there are too many of these."""
        if len(self._rejected) >= REJECTED_MAX:
            return False
        self._rejected.add(connection)
        return True

    def mark_busy(self, connection: Evictable) -> None:
        self._idle.pop(connection, None)

    def mark_idle(self, connection: Evictable) -> None:
        if connection in self._admitted:
            self._idle[connection] = None

    def remove(self, connection: Evictable) -> None:
        self._admitted.discard(connection)
        self._rejected.discard(connection)
        self._idle.pop(connection, None)
