"""How many connections there may be, and who goes when there are too many."""

from typing import Protocol

TURNED_AWAY_MAX = 64  # who are told so at once; the others see the connection close


class Guest(Protocol):
    """A connection, as whoever has the places sees it."""

    def make_room(self) -> None:
        """End at once: nothing of a request of theirs is under way."""
        ...


class Places:
    """Who has one at a listener, and in which order they began to have no request under way.

    Whoever only holds a connection goes first, so that idle ones lock nobody out.
    """

    def __init__(self, connections_max: int) -> None:
        self.connections_max = connections_max
        self._taken: set[Guest] = set()
        self._idle: dict[Guest, None] = {}
        self._turned_away: set[Guest] = set()

    def take(self, guest: Guest) -> bool:
        """False when all that are here have a request under way."""
        if len(self._taken) >= self.connections_max:
            longest = next(iter(self._idle), None)
            if longest is None:
                return False
            self.leave(longest)
            longest.make_room()
        self._taken.add(guest)
        self._idle[guest] = None
        return True

    def turn_away(self, guest: Guest) -> bool:
        """False when too many are being told already."""
        if len(self._turned_away) >= TURNED_AWAY_MAX:
            return False
        self._turned_away.add(guest)
        return True

    def busy(self, guest: Guest) -> None:
        self._idle.pop(guest, None)

    def idle(self, guest: Guest) -> None:
        if guest in self._taken:
            self._idle[guest] = None

    def leave(self, guest: Guest) -> None:
        self._taken.discard(guest)
        self._turned_away.discard(guest)
        self._idle.pop(guest, None)
