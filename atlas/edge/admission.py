"""Admission checks, the cheapest refusal first.

LoadShedder   before a token is looked at: would it be done in time?
RateLimiter   of a user whom we know: has he sent too much of late?
Quota         of a body (runtime/quota.py): is there memory for it?
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from atlas.core.errors import Overloaded, RateLimited
from atlas.core.picture import Press
from atlas.runtime import Quota

MIN_IN_FLIGHT = 64  # never too many, and enough to measure our pace by
WAIT_SECONDS_MAX = 3.0
PER_SECOND_AT_FIRST = 200.0
SAMPLE_SECONDS = 1.0  # of being busy
AGAIN_SECONDS_MIN, AGAIN_SECONDS_MAX = 1.0, 30.0  # the answer says up to twice as much

RATE_WINDOW_SECONDS = 60.0
USERS_MAX = 100_000  # whoever has sent nothing for the longest makes room


@dataclass(slots=True)
class LoadShedder:
    """Refuses an export that would wait for too long behind those in flight.

    Those are counted from where they are submitted to where they are safe, or refused. By Little's
    law an export waits for as long as it takes to serve them. That is compared with what its sender
    should wait. How many are served in a second is measured, while there are enough of them that
    this is our pace and not that of the senders. So the limit follows what this machine can do, and
    what the exports of these days are.

    An admitted export must not time out: keep `wait_seconds_max` well below the reply deadline.
    """

    elapsed: Callable[[], float]
    wait_seconds_max: float = WAIT_SECONDS_MAX
    in_flight: int = 0
    per_second: float = PER_SECOND_AT_FIRST
    _expected_back: int = 0  # refused senders who may come again, as far as there is time to tell
    _is_measuring: bool = False
    _done: int = 0  # since this sample was begun
    _busy_seconds: float = 0.0
    _moved_at: float = 0.0

    def is_overloaded(self, waiting: int) -> bool:
        in_flight = self.in_flight + waiting
        return in_flight >= MIN_IN_FLIGHT and self._wait_seconds(in_flight) > self.wait_seconds_max

    def check(self, waiting: int) -> None:
        """Raises Overloaded, with when to come again: all who were turned away will.

        `waiting` is how many bodies wait to be read.
        """
        if not self.is_overloaded(waiting):
            return
        in_flight = self.in_flight + waiting
        most = int(AGAIN_SECONDS_MAX * self.per_second)
        self._expected_back = min(self._expected_back + 1, most)
        again = (in_flight + self._expected_back) / self.per_second
        raise Overloaded(min(max(again, AGAIN_SECONDS_MIN), AGAIN_SECONDS_MAX))

    def track(self) -> "LoadShedder":
        """A context in which one more export is in flight."""
        return self

    def __enter__(self) -> None:
        if not self._is_busy():
            self._moved_at = self.elapsed()
        self.in_flight += 1
        self._is_measuring = self._is_measuring or self._is_busy()

    def __exit__(self, *_: object) -> None:
        if self._is_measuring:
            self._measure()
        self.in_flight -= 1
        self._is_measuring = self._is_measuring and self.in_flight > 0
        self._expected_back = max(0, self._expected_back - 1) if self.in_flight else 0

    def _is_busy(self) -> bool:
        return self.in_flight >= MIN_IN_FLIGHT

    def _wait_seconds(self, in_flight: int) -> float:
        """For the next export; when none has got on for longer than that, for so long."""
        stalled = self.elapsed() - self._moved_at if self._is_busy() else 0.0
        return max(in_flight / self.per_second, stalled)

    def _measure(self) -> None:
        """Another one is done. Of those that end together, as a group does, each counts; the time
        of the last few does not.
        """
        now = self.elapsed()
        self._done += 1
        if self.in_flight >= MIN_IN_FLIGHT / 4:
            self._busy_seconds += now - self._moved_at
        self._moved_at = now
        if self._busy_seconds >= SAMPLE_SECONDS:
            self.per_second = (self.per_second + self._done / self._busy_seconds) / 2
            self._done, self._busy_seconds = 0, 0.0


@dataclass(frozen=True, slots=True)
class RateLimiter:
    """`per_minute` requests of each user on average; 0 is no limit. `elapsed` is a monotonic clock.

    The generic cell rate algorithm (ITU-T I.371): of each user one moment is kept, until which all
    requests so far are spread out evenly. A user who was away may send a whole minute's at once, so
    in no minute are there more than twice as many. The library `limits` goes by the wall clock: set
    back by an hour, it would shut users out for so long.
    """

    per_minute: int
    elapsed: Callable[[], float]
    _arrival_times: OrderedDict[str, float] = field(default_factory=OrderedDict)

    def acquire(self, user: str) -> None:
        """One request more. Raises RateLimited, which counts for nothing."""
        if not self.per_minute:
            return
        now, each = self.elapsed(), RATE_WINDOW_SECONDS / self.per_minute
        until = max(now, self._arrival_times.get(user, now)) + each
        too_soon = until - now - RATE_WINDOW_SECONDS
        if too_soon > each / 1000:  # rounding errors add up to less than this
            raise RateLimited(self.per_minute, int(RATE_WINDOW_SECONDS), too_soon)
        self._arrival_times[user] = until
        self._arrival_times.move_to_end(user)
        if len(self._arrival_times) > USERS_MAX or next(iter(self._arrival_times.values())) < now:
            self._arrival_times.popitem(last=False)


@dataclass(frozen=True, slots=True)
class Admission:
    shedder: LoadShedder
    rate: RateLimiter
    quota: Quota

    def is_overloaded(self) -> bool:
        """Whether an export would wait for too long. Bodies that wait to be read count, too."""
        return self.shedder.is_overloaded(self.quota.waiting)

    def check_load(self) -> None:
        """Raises Overloaded."""
        self.shedder.check(self.quota.waiting)

    def load(self) -> Press:
        """How full it is just now."""
        return Press(self.shedder.in_flight, self.quota.waiting, self.quota.bytes)
