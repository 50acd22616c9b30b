"""What a crash costs: one message and one restart, and too many of them the service."""

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

import anyio

from atlas.core.errors import AtlasError

T = TypeVar("T")

OnCrash = Callable[[str, Exception], None]


@dataclass(slots=True)
class Restarts:
    """At most `intensity` crashes in any `period` seconds; one more ends the service.

    A crash counts only if nothing has worked since the last one: a bad message is not a bad stage.
    """

    intensity: int = 5
    period: float = 30.0
    crashes: deque[float] = field(default_factory=deque)
    has_worked: bool = False

    def allow(self, now: float) -> bool:
        if not self.has_worked:
            self.crashes.append(now)
        self.has_worked = False
        while self.crashes and self.crashes[0] <= now - self.period:
            self.crashes.popleft()
        return len(self.crashes) <= self.intensity


async def supervise(
    name: str, run: Callable[[], Awaitable[None]], restarts: Restarts, on_crash: OnCrash
) -> None:
    """Run until it returns. A crash costs one message and one restart."""
    while True:
        try:
            return await run()
        except Exception as error:
            on_crash(name, error)
            if not restarts.allow(anyio.current_time()):
                raise


async def answer_crashes(name: str, work: Awaitable[T], on_crash: OnCrash) -> T:
    """Await the work. Raises AtlasError for a crash of it, which is told."""
    try:
        return await work
    except AtlasError:
        raise
    except Exception as crash:
        on_crash(name, crash)
        raise AtlasError from crash
