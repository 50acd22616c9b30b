"""Whether it makes sense to come in now, or too many are inside already.

By Little's law, who comes now waits for as long as it takes to work off those who are inside. That
is compared with what a sender should wait; how many are worked off in a second is measured, while
there are enough of them that this is our pace and not that of who comes. So the limit follows what
this machine can do, and what the exports of these days are.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from atlas.core.errors import Overloaded

FEW = 64  # never too many, and enough to measure our pace by
PATIENCE_SECONDS = 3.0
PER_SECOND_AT_FIRST = 200.0
SAMPLE_SECONDS = 1.0  # of being busy
AGAIN_SECONDS_MIN, AGAIN_SECONDS_MAX = 1.0, 30.0  # the answer says up to twice as much


@dataclass(slots=True)
class Crowd:
    """Exports on their way, from where they are read to where they are safe, or refused.

    Who is inside must not be sent away for his deadline: patience is well below that.
    """

    elapsed: Callable[[], float]
    patience_seconds: float = PATIENCE_SECONDS
    inside: int = 0
    per_second: float = PER_SECOND_AT_FIRST
    _away: int = 0  # refusals whose senders may come again; no more than there is time to tell of
    _is_measuring: bool = False
    _done: int = 0  # since this sample was begun
    _busy_seconds: float = 0.0
    _moved_at: float = 0.0

    def look(self, waiting: int) -> None:
        """Raises Overloaded, with when to come again: all who were turned away will.

        `waiting` is how many bodies wait to be read.
        """
        inside = self.inside + waiting
        if inside < FEW or self._wait_seconds(inside) <= self.patience_seconds:
            return
        self._away = min(self._away + 1, int(AGAIN_SECONDS_MAX * self.per_second))
        again = (inside + self._away) / self.per_second
        raise Overloaded(min(max(again, AGAIN_SECONDS_MIN), AGAIN_SECONDS_MAX))

    @contextmanager
    def one(self) -> Iterator[None]:
        """An export is inside."""
        if not self._is_busy():
            self._moved_at = self.elapsed()
        self.inside += 1
        self._is_measuring = self._is_measuring or self._is_busy()
        try:
            yield
        finally:
            if self._is_measuring:
                self._measure()
            self.inside -= 1
            self._is_measuring = self._is_measuring and self.inside > 0
            self._away = max(0, self._away - 1) if self.inside else 0

    def _is_busy(self) -> bool:
        return self.inside >= FEW

    def _wait_seconds(self, inside: int) -> float:
        """For whoever comes now; when nobody has got on for longer than that, for so long."""
        stalled = self.elapsed() - self._moved_at if self._is_busy() else 0.0
        return max(inside / self.per_second, stalled)

    def _measure(self) -> None:
        """Another one is done. Of those who end together, as a group does, each counts; the time of
        the last few does not.
        """
        now = self.elapsed()
        self._done += 1
        if self.inside >= FEW / 4:
            self._busy_seconds += now - self._moved_at
        self._moved_at = now
        if self._busy_seconds >= SAMPLE_SECONDS:
            self.per_second = (self.per_second + self._done / self._busy_seconds) / 2
            self._done, self._busy_seconds = 0, 0.0
