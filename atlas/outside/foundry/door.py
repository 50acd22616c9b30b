"""The one door to Foundry: all calls pass here, and what one has learned holds for all.

While Foundry answers, nobody waits, as long as it is not asked more often than it allows. When it
says in how many seconds it wants to hear from us, that is said to all. When it does not answer
several times in a row, it is away: then one call at a time goes and looks, ever less often.
"""

from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import anyio

FAILURES_MAX = 3  # in a row, of all calls: more, and Foundry is away
PAUSE_SECONDS, PAUSE_SECONDS_MAX = 0.2, 5.0
MINUTE_SECONDS = 60.0
JITTER_SECONDS = 0.5  # or all would come at once when a Retry-After is over


class Door:
    """`calls_max` is how often Foundry may be asked in any minute."""

    def __init__(
        self, elapsed: Callable[[], float], random: Callable[[], float], calls_max: int
    ) -> None:
        self._elapsed = elapsed
        self._random = random
        self._calls_max = calls_max
        self._calls: deque[float] = deque()  # when, those of the last minute
        self._failures = 0
        self._opens_at = 0.0
        self._one_at_a_time = anyio.Lock()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for it, and have it for one call."""
        async with AsyncExitStack() as held:
            if self._failures >= FAILURES_MAX:
                await held.enter_async_context(self._one_at_a_time)
                if self._failures < FAILURES_MAX:
                    await held.aclose()  # somebody has been answered meanwhile
            if seconds := self.seconds_to_turn():
                await anyio.sleep(seconds)
            while not self.calls_left():  # noqa: ASYNC110 - it is time that is waited for
                await anyio.sleep(self._calls[0] + MINUTE_SECONDS - self._elapsed())
            self._calls.append(self._elapsed())
            yield

    def seconds_to_turn(self) -> float:
        """How long whoever comes now has to wait, by what all have learned."""
        return max(0.0, self._opens_at - self._elapsed())

    def calls_left(self) -> int:
        """How many may come now, by what Foundry allows in a minute."""
        while self._calls and self._elapsed() - self._calls[0] >= MINUTE_SECONDS:
            self._calls.popleft()
        return self._calls_max - len(self._calls)

    def worked(self) -> None:
        self._failures = 0

    def failed(self, retry_seconds: float | None) -> None:
        """Full jitter, capped; what Foundry says itself is obeyed."""
        self._failures += 1
        pause = 0.0
        if retry_seconds is not None:
            pause = retry_seconds + self._random() * JITTER_SECONDS
        elif self._failures >= FAILURES_MAX:
            doubled = PAUSE_SECONDS * 2.0 ** min(self._failures - FAILURES_MAX, 10)
            pause = self._random() * min(doubled, PAUSE_SECONDS_MAX)
        self._opens_at = max(self._opens_at, self._elapsed() + pause)
