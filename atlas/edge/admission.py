"""Admission checks, the cheapest refusal first.

LoadShedder   before the token is checked: can the export be finished in time?
RateLimiter   after authentication: has the user sent too many requests lately?
Quota         before the body is read (runtime/quota.py): is there memory for it?
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from atlas.core.errors import Overloaded, RateLimited
from atlas.core.status import AdmissionLoad
from atlas.runtime import Quota

MIN_IN_FLIGHT = 64  # below this nothing is refused; enough to measure the rate of the service
WAIT_SECONDS_MAX = 3.0
INITIAL_PER_SECOND = 200.0
SAMPLE_SECONDS = 1.0  # under load
RETRY_SECONDS_MIN, RETRY_SECONDS_MAX = 1.0, 30.0  # Retry-After is up to twice as long

RATE_WINDOW_SECONDS = 60.0
SHARED_SECONDS = 15.0  # a user with a larger debt is known to all replicas
USERS_MAX = 100_000  # above this, the users that have been silent for longest are dropped


@dataclass(slots=True)
class LoadShedder:
    """Refuses an export that would wait too long behind those in flight.

    An export is in flight from its submission until it is safe or refused. By Little's law, a new
    export waits until those in flight are served; that must take at most `wait_seconds_max`. The
    rate is measured only while enough exports are in flight that the service is the bottleneck,
    not its senders. So the limit follows the machine and the size of the exports.

    An admitted export must not time out: keep `wait_seconds_max` well below the reply deadline.
    """

    monotonic: Callable[[], float]
    wait_seconds_max: float = WAIT_SECONDS_MAX
    in_flight: int = 0
    per_second: float = INITIAL_PER_SECOND
    _expected_back: int = 0  # refused senders that will retry
    _is_measuring: bool = False
    _done: int = 0  # exports in this sample
    _busy_seconds: float = 0.0
    _progress_at: float = 0.0

    def is_overloaded(self, waiting: int) -> bool:
        in_flight = self.in_flight + waiting
        return in_flight >= MIN_IN_FLIGHT and self._wait_seconds(in_flight) > self.wait_seconds_max

    def check(self, waiting: int) -> None:
        """Raise Overloaded if an export would wait too long.

        Its retry delay accounts for all refused senders.

        `waiting` is the number of bodies that wait to be read.
        """
        if not self.is_overloaded(waiting):
            return
        in_flight = self.in_flight + waiting
        expected_max = int(RETRY_SECONDS_MAX * self.per_second)
        self._expected_back = min(self._expected_back + 1, expected_max)
        seconds = (in_flight + self._expected_back) / self.per_second
        raise Overloaded(min(max(seconds, RETRY_SECONDS_MIN), RETRY_SECONDS_MAX))

    def track(self) -> "LoadShedder":
        """Return a context manager that counts one more export in flight."""
        return self

    def __enter__(self) -> None:
        if not self._is_loaded():
            self._progress_at = self.monotonic()
        self.in_flight += 1
        self._is_measuring = self._is_measuring or self._is_loaded()

    def __exit__(self, *_: object) -> None:
        if self._is_measuring:
            self._update_rate()
        self.in_flight -= 1
        self._is_measuring = self._is_measuring and self.in_flight > 0
        self._expected_back = max(0, self._expected_back - 1) if self.in_flight else 0

    def _is_loaded(self) -> bool:
        return self.in_flight >= MIN_IN_FLIGHT

    def _wait_seconds(self, in_flight: int) -> float:
        """Estimate the wait of a new export: at least the time since an export was finished."""
        stalled = self.monotonic() - self._progress_at if self._is_loaded() else 0.0
        return max(in_flight / self.per_second, stalled)

    def _update_rate(self) -> None:
        """Count a finished export. Time with only a few exports in flight does not count."""
        now = self.monotonic()
        self._done += 1
        if self.in_flight >= MIN_IN_FLIGHT / 4:
            self._busy_seconds += now - self._progress_at
        self._progress_at = now
        if self._busy_seconds >= SAMPLE_SECONDS:
            self.per_second = (self.per_second + self._done / self._busy_seconds) / 2
            self._done, self._busy_seconds = 0, 0.0


@dataclass(frozen=True, slots=True)
class RateLimiter:
    """Allows each user `requests_max` in `window_seconds` on average; 0 means no limit.

    This is the generic cell rate algorithm (ITU-T I.371). It stores one time for each user: the
    time at which the requests so far would end at an even rate. After a pause, a user may send a
    window's requests at once, so any window has at most twice as many. The library `limits` uses
    the wall clock: set back by an hour, it would lock users out for that hour.

    The debt of a user is the time until then. `is_shared`: replicas exchange large debts, so that a
    user cannot use each of them up to the limit. A phone sends a few requests a day, so it never
    costs an exchange.
    """

    requests_max: int
    monotonic: Callable[[], float]
    is_shared: bool = False
    window_seconds: float = RATE_WINDOW_SECONDS
    _arrival_times: OrderedDict[str, float] = field(default_factory=OrderedDict)
    _usage: dict[str, float] = field(default_factory=dict)  # seconds since the last exchange

    def acquire(self, user: str) -> None:
        """Count one request. Raises RateLimited; a refused request is not counted."""
        if not self.requests_max:
            return
        now, interval = self.monotonic(), self.window_seconds / self.requests_max
        until = max(now, self._arrival_times.get(user, now)) + interval
        too_soon = until - now - self.window_seconds
        if too_soon > interval / 1000:  # more than accumulated rounding errors
            raise RateLimited(self.requests_max, int(self.window_seconds), too_soon)
        self._arrival_times[user] = until
        self._arrival_times.move_to_end(user)
        debt = until - now
        if self.is_shared and debt > SHARED_SECONDS:
            self._usage[user] = self._usage.get(user, debt - interval) + interval
        if len(self._arrival_times) > USERS_MAX or next(iter(self._arrival_times.values())) < now:
            self._arrival_times.popitem(last=False)

    def take_usage(self) -> dict[str, float]:
        """Return what users with a large debt have used here since the last call, in seconds."""
        now, usage = self.monotonic(), dict(self._usage)
        for user in usage:
            if self._arrival_times.get(user, now) - now > SHARED_SECONDS:
                self._usage[user] = 0.0
            else:
                del self._usage[user]
        return usage

    def raise_debts(self, debts: Mapping[str, float]) -> None:
        """Raise debts to those that users have at all replicas together, in seconds."""
        now = self.monotonic()
        for user, debt in debts.items():
            self._arrival_times[user] = max(self._arrival_times.get(user, now), now + debt)


@dataclass(frozen=True, slots=True)
class Admission:
    """The checks that an upload must pass."""

    shedder: LoadShedder
    rate_limiter: RateLimiter
    quota: Quota

    def is_overloaded(self) -> bool:
        """True if an export would wait too long. Bodies that wait to be read count as well."""
        return self.shedder.is_overloaded(self.quota.waiting)

    def check_load(self) -> None:
        """Raise Overloaded if an export would wait too long."""
        self.shedder.check(self.quota.waiting)

    def measure_load(self) -> AdmissionLoad:
        """Measure the current load, for the status."""
        return AdmissionLoad(self.shedder.in_flight, self.quota.waiting, self.quota.bytes)
