"""Where the outcome of a message goes, and what wakes those who wait for one."""

from dataclasses import dataclass
from typing import Generic, TypeVar
from weakref import WeakValueDictionary

import anyio

from atlas.core.errors import Unavailable

T = TypeVar("T")


class Reply(Generic[T]):
    """Where the outcome of one message goes. The first outcome counts; later ones are ignored."""

    def __init__(self) -> None:
        self._settled = anyio.Event()
        self._outcome: T | Exception | None = None

    def settle(self, outcome: T | Exception) -> None:
        if not self._settled.is_set():
            self._outcome = outcome
            self._settled.set()

    async def outcome(self) -> T:
        await self._settled.wait()
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome  # type: ignore[return-value]  # settled, and not by an error


class Promise(Reply[T]):
    """A reply that may have many readers, or none any more."""


class Promises(Generic[T]):
    """The promises somebody waits for, by name. One that nobody holds any more is forgotten."""

    def __init__(self) -> None:
        self._waited_for: WeakValueDictionary[str, Promise[T]] = WeakValueDictionary()
        self._is_over = False

    def of(self, key: str) -> Promise[T]:
        promise = self._waited_for.setdefault(key, Promise())
        if self._is_over:
            promise.settle(Unavailable())
        return promise

    def settle(self, key: str, outcome: T | Exception) -> None:
        if promise := self._waited_for.pop(key, None):
            promise.settle(outcome)

    def call_off(self) -> None:
        """Nobody is to wait any longer: not for these, and not for those to come."""
        self._is_over = True
        for promise in list(self._waited_for.values()):
            promise.settle(Unavailable())


@dataclass(frozen=True, slots=True)
class Pending(Generic[T]):
    """An answer that holds already, and the promise of a better one."""

    now: T
    later: Promise[T]


class Bell:
    """Wakes the one who listens. Rings that were not heard yet are one ring."""

    def __init__(self) -> None:
        self._rung = anyio.Event()
        self.is_down = False

    def ring(self) -> None:
        self._rung.set()

    def take_down(self) -> None:
        """Ring for the last time."""
        self.is_down = True
        self._rung.set()

    async def heard(self) -> bool:
        """Wait for a ring; False when no more will come."""
        if self.is_down:
            return False
        await self._rung.wait()
        self._rung = anyio.Event()
        return not self.is_down

    async def down_within(self, seconds: float) -> bool:
        """Pause; cut short, and True, when the bell is taken down."""
        rang = False
        with anyio.move_on_after(seconds):
            while await self.heard():
                rang = True
        if rang:
            self._rung.set()  # what rang in the meantime is still to be heard
        return self.is_down
