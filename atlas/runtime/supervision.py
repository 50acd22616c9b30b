"""Restarts stages that crash, until they crash too often."""

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

import anyio

from atlas.core.errors import AtlasError

T = TypeVar("T")

OnCrash = Callable[[str, Exception], None]


@dataclass(slots=True)
class RestartBudget:
    """Allows `crashes_max` crashes in any `window_seconds`; one more ends the service.

    A crash counts only if nothing has succeeded since the last one, because a bad message does not
    mean a bad stage.
    """

    crashes_max: int = 5
    window_seconds: float = 30.0
    crashes: deque[float] = field(default_factory=deque)
    has_made_progress: bool = False

    def record_crash(self, now: float) -> bool:
        """Count a crash. Return False if there were too many."""
        if not self.has_made_progress:
            self.crashes.append(now)
        self.has_made_progress = False
        while self.crashes and self.crashes[0] <= now - self.window_seconds:
            self.crashes.popleft()
        return len(self.crashes) <= self.crashes_max


async def supervise(
    name: str,
    run: Callable[[], Awaitable[None]],
    restarts: RestartBudget,
    on_crash: OnCrash,
    *,
    is_vital: bool = True,
) -> None:
    """Call `run` until it returns, again after each crash: a crash costs one message.

    After too many crashes, the last one is raised, or, if `run` is not vital, `run` is not called
    again.
    """
    while True:
        try:
            return await run()
        except Exception as error:
            on_crash(name, error)
            if not restarts.record_crash(anyio.current_time()):
                if is_vital:
                    raise
                return None


async def answer_crashes(name: str, work: Awaitable[T], on_crash: OnCrash) -> T:
    """Await the work. A crash is reported, and raised as an AtlasError."""
    try:
        return await work
    except AtlasError:
        raise
    except Exception as crash:
        on_crash(name, crash)
        raise AtlasError from crash
