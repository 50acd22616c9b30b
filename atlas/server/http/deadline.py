"""A timer that can be restarted with every request at almost no cost."""

import asyncio
from collections.abc import Callable
from math import inf


class Deadline:
    """Calls a callback at a time that can be moved.

    Its timer in the loop is replaced only if it would fire too late; if it fires too early, it is
    scheduled again.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._deadline_at, self._timer_at = inf, inf
        self._callback: Callable[[], None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def arm(self, seconds: float, callback: Callable[[], None]) -> None:
        self._callback = callback
        self._deadline_at = self._loop.time() + seconds
        if self._timer_at > self._deadline_at:
            if self._timer is not None:
                self._timer.cancel()
            self._schedule()

    def cancel(self) -> None:
        self._deadline_at = inf

    def close(self) -> None:
        """Cancel permanently, and drop the references to the timer and the callback."""
        self._deadline_at, self._callback = inf, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _schedule(self) -> None:
        self._timer_at = self._deadline_at
        self._timer = self._loop.call_at(self._timer_at, self._on_timer)

    def _on_timer(self) -> None:
        self._timer, self._timer_at = None, inf
        if self._loop.time() >= self._deadline_at:
            if self._callback is not None:
                self._callback()
        elif self._deadline_at < inf:
            self._schedule()
