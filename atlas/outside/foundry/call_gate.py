"""Rate limiter and circuit breaker shared by all calls to Foundry.

While Foundry answers, calls wait only for the rate limit. A Retry-After applies to all calls. After
several consecutive failures Foundry counts as down: calls are then made one at a time, at growing
intervals.
"""

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import anyio

FAILURES_MAX = 3  # consecutive failures, across all calls, after which Foundry counts as down
PAUSE_SECONDS, PAUSE_SECONDS_MAX = 0.2, 5.0
MINUTE_SECONDS = 60.0
JITTER_SECONDS = 0.5  # spreads the calls that wait for the same Retry-After
RETRY_JITTER_SECONDS = 0.2  # spreads the retries of calls that failed together

Sleep = Callable[[float], Awaitable[None]]


class CallGate:
    """Delays calls to Foundry. `calls_max` limits the calls in any 60 seconds."""

    def __init__(
        self,
        monotonic: Callable[[], float],
        rng: Callable[[], float],
        calls_max: int,
        sleep: Sleep = anyio.sleep,
    ) -> None:
        self.sleep = sleep
        self._monotonic = monotonic
        self._rng = rng
        self._calls_max = calls_max
        self._calls: deque[float] = deque()  # the times of the calls in the last minute
        self._failures = 0
        self._opens_at = 0.0
        self._lock = anyio.Lock()

    @asynccontextmanager
    async def permit(self) -> AsyncIterator[None]:
        """Wait until a call is allowed, and hold the permit during the call."""
        async with AsyncExitStack() as stack:
            if self._failures >= FAILURES_MAX:
                await stack.enter_async_context(self._lock)
                if self._failures < FAILURES_MAX:
                    await stack.aclose()  # another call has succeeded meanwhile
            if seconds := self.next_call_delay():
                await self.sleep(seconds)
            while not self.count_remaining_calls():
                # The minute may end between these two readings of the clock.
                seconds = self._calls[0] + MINUTE_SECONDS - self._monotonic()
                await self.sleep(max(0.0, seconds))
            self._calls.append(self._monotonic())
            yield

    def next_call_delay(self) -> float:
        """Return the seconds that a call must wait because of earlier failures."""
        return max(0.0, self._opens_at - self._monotonic())

    def backoff(self, attempt: int) -> float:
        """Return the seconds before the next attempt of a call; `attempt` counts from 0."""
        doubled = PAUSE_SECONDS * 2.0**attempt
        return min(doubled + self._rng() * RETRY_JITTER_SECONDS, PAUSE_SECONDS_MAX)

    def count_remaining_calls(self) -> int:
        """Return how many calls fit into this minute before the rate limit."""
        while self._calls and self._monotonic() - self._calls[0] >= MINUTE_SECONDS:
            self._calls.popleft()
        return self._calls_max - len(self._calls)

    def record_success(self) -> None:
        self._failures = 0

    def record_failure(self, retry_seconds: float | None) -> None:
        """Delay the next calls: by a Retry-After, or by capped backoff with full jitter."""
        self._failures += 1
        pause = 0.0
        if retry_seconds is not None:
            pause = retry_seconds + self._rng() * JITTER_SECONDS
        elif self._failures >= FAILURES_MAX:
            doubled = PAUSE_SECONDS * 2.0 ** min(self._failures - FAILURES_MAX, 10)
            pause = self._rng() * min(doubled, PAUSE_SECONDS_MAX)
        self._opens_at = max(self._opens_at, self._monotonic() + pause)
