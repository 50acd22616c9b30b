"""Where the outcome of a message goes, and what wakes those who wait for one."""

import asyncio
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, TypeVar
from weakref import WeakValueDictionary

import anyio

from atlas.core.errors import AtlasError, Unavailable

T = TypeVar("T")


class Reply(Generic[T]):
    """Where the outcome of one message goes. The first outcome counts; later ones are ignored.

    As a context manager it is not left waiting, whatever happens inside: an AtlasError is an
    answer, a crash is answered and goes on, and so is the end of the stage.

    A plain future and a timer, where an event and a cancel scope would do: those cost 15 µs each
    time, half of a hop between actors.
    """

    __slots__ = ("__weakref__", "_is_settled", "_outcome", "_waiters")

    def __init__(self) -> None:
        self._is_settled = False
        self._outcome: T | Exception | None = None
        self._waiters: list[asyncio.Future[None]] = []

    def settle(self, outcome: T | Exception) -> None:
        if not self._is_settled:
            self._is_settled = True
            self._outcome = outcome
            for waiter in self._waiters:
                wake(waiter)

    async def outcome(self, seconds: float | None = None) -> T:
        """The outcome, for which to wait so long at most. Raises TimeoutError, and the outcome if
        it is an error.
        """
        if not self._is_settled and (seconds is None or seconds > 0):
            await self._settled(seconds)
        if not self._is_settled:
            raise TimeoutError
        outcome = self._outcome
        if not isinstance(outcome, Exception):
            return outcome  # type: ignore[return-value]  # settled, and not by None
        try:
            raise outcome
        finally:
            del self, outcome  # the error knows this frame: it would be a cycle

    async def _settled(self, seconds: float | None) -> None:
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        self._waiters.append(waiter)
        timer = None if seconds is None else loop.call_later(seconds, wake, waiter)
        try:
            await waiter
        finally:
            self._waiters.remove(waiter)
            if timer is not None:
                timer.cancel()

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> bool:
        if error is None:
            return False
        if isinstance(error, AtlasError):
            self.settle(error.with_traceback(None))  # it knows this stage, which knows the reply
            return True
        self.settle(AtlasError() if isinstance(error, Exception) else Unavailable())
        return False


def wake(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)


class Promise(Reply[T]):
    """A reply that may have many readers, or none any more."""

    __slots__ = ()


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
