"""Latency and failures of the last five minutes. The metrics count since the start."""

from collections import deque

from atlas.core import events
from atlas.core.histograms import Histogram
from atlas.core.status import HISTORY_STEP_SECONDS, CallStatistics, LatencyStatus

WINDOW_SECONDS = 300
STEPS = int(WINDOW_SECONDS / HISTORY_STEP_SECONDS)
BOUNDS_SECONDS = tuple(0.001 * 1.1**step for step in range(121))  # up to 93 s


class RecentCalls:
    """Counts calls and their durations, and forgets those of more than five minutes ago.

    `_earlier` has the totals at each of the last steps of the history, the oldest first.
    """

    def __init__(self) -> None:
        self._durations = Histogram(BOUNDS_SECONDS)
        self._totals = [0, 0]  # calls, failed calls
        self._earlier: deque[tuple[list[int], list[int]]] = deque(maxlen=STEPS)
        self.end_step()

    def add(self, seconds: float, *, is_failure: bool = False) -> None:
        self._durations.observe(seconds)
        self._totals[0] += 1
        self._totals[1] += is_failure

    def add_failures(self, calls: int) -> None:
        """Add failed calls, whose durations do not count."""
        self._totals[0] += calls
        self._totals[1] += calls

    def end_step(self) -> None:
        self._earlier.append((list(self._durations.counts), list(self._totals)))

    def summarize(self) -> CallStatistics:
        counts, totals = self._earlier[0]
        recent = [now - then for now, then in zip(self._durations.counts, counts, strict=True)]
        calls, failed = (now - then for now, then in zip(self._totals, totals, strict=True))
        return CallStatistics(
            calls, failed, estimate_quantile(recent, 0.5), estimate_quantile(recent, 0.99)
        )


class RecentLatency:
    """Measures exports from phones and calls to Foundry; LatencyStatus says which ones count."""

    def __init__(self) -> None:
        self._phones = RecentCalls()
        self._foundry = RecentCalls()

    def add_request(self, event: events.RequestAnswered) -> None:
        if event.method != "POST":
            return
        if 200 <= event.status < 300:
            self._phones.add(event.seconds)
        elif event.status >= 500:
            self._phones.add_failures(1)

    def add_shed_requests(self, event: events.RequestsShed) -> None:
        self._phones.add_failures(event.requests)

    def add_foundry_call(self, event: events.FoundryCalled) -> None:
        is_success = 0 < event.status < 400 or event.status == 404
        self._foundry.add(event.seconds, is_failure=not is_success)

    def end_step(self) -> None:
        """Begin the next step of the window; to be called with each point of the history."""
        self._phones.end_step()
        self._foundry.end_step()

    def summarize(self) -> LatencyStatus:
        return LatencyStatus(self._phones.summarize(), self._foundry.summarize())


def estimate_quantile(counts: list[int], share: float) -> float | None:
    """Estimate a quantile, by interpolation between two bounds. None without values."""
    rank = share * sum(counts)
    if not rank:
        return None
    lower = 0.0
    for upper, count in zip(BOUNDS_SECONDS, counts, strict=False):
        if rank <= count:
            return lower + (upper - lower) * rank / count
        rank -= count
        lower = upper
    return lower
