"""How many requests of one user there may be, a minute on average.

The generic cell rate algorithm (ITU-T I.371): of each user one moment is kept, until which all that
he has sent is spread out evenly. A user who was away may send a whole minute's at once, so in no
minute are there more than twice as many. It goes by a clock that is never set: the memory of the
library `limits` goes by the wall clock, and a clock that is set back by an hour would shut users
out for so long.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from atlas.core.errors import RateLimited

WINDOW_SECONDS = 60.0
USERS_MAX = 100_000  # whoever has sent nothing for the longest makes room


@dataclass(frozen=True, slots=True)
class RateLimiter:
    """`per_minute` requests of each user; 0 is no limit. `elapsed` is a monotonic clock."""

    per_minute: int
    elapsed: Callable[[], float]
    _arrival_times: OrderedDict[str, float] = field(default_factory=OrderedDict)

    def acquire(self, user: str) -> None:
        """One request more. Raises RateLimited, which counts for nothing."""
        if not self.per_minute:
            return
        now, each = self.elapsed(), WINDOW_SECONDS / self.per_minute
        until = max(now, self._arrival_times.get(user, now)) + each
        too_soon = until - now - WINDOW_SECONDS
        if too_soon > each / 1000:  # rounding errors add up to less than this
            raise RateLimited(self.per_minute, int(WINDOW_SECONDS), too_soon)
        self._arrival_times[user] = until
        self._arrival_times.move_to_end(user)
        if len(self._arrival_times) > USERS_MAX or next(iter(self._arrival_times.values())) < now:
            self._arrival_times.popitem(last=False)
