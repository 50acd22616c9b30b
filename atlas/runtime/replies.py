"""One-shot results of messages, and a wake-up flag."""

import asyncio
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, TypeVar
from weakref import WeakValueDictionary

import anyio

from atlas.core.errors import AtlasError, Unavailable

T = TypeVar("T")


class Reply(Generic[T]):
    """The outcome of one message. The first outcome counts; later ones are ignored.

    As a context manager it is always resolved: an AtlasError raised inside is the outcome. After
    any other exception, or when the stage is cancelled, it is resolved with an error and the
    exception goes on.

    It uses plain futures and a timer instead of an event and a cancel scope: those take 15 µs, half
    the time of a hop between actors.
    """

    __slots__ = ("__weakref__", "_is_resolved", "_outcome", "_waiters")

    def __init__(self) -> None:
        self._is_resolved = False
        self._outcome: T | Exception | None = None
        self._waiters: list[asyncio.Future[None]] = []

    def resolve(self, outcome: T | Exception) -> None:
        if not self._is_resolved:
            self._is_resolved = True
            self._outcome = outcome
            for waiter in self._waiters:
                wake(waiter)

    async def outcome(self, seconds: float | None = None) -> T:
        """Wait for the outcome, for `seconds` at most, and return it.

        Raises TimeoutError when the time is up, and the outcome itself if it is an error.
        """
        if not self._is_resolved and (seconds is None or seconds > 0):
            await self._wait(seconds)
        if not self._is_resolved:
            raise TimeoutError
        outcome = self._outcome
        if not isinstance(outcome, Exception):
            return outcome  # type: ignore[return-value]  # resolved, and not by None
        try:
            raise outcome
        finally:
            del self, outcome  # the error refers to this frame: a reference cycle

    async def _wait(self, seconds: float | None) -> None:
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
            self.resolve(error.detach())  # avoids a reference cycle
            return True
        self.resolve(AtlasError() if isinstance(error, Exception) else Unavailable())
        return False


def wake(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)


class Completion(Reply[T]):
    """A reply that may have several readers, or none. `is_acknowledged`: its export is stored."""

    __slots__ = ("is_acknowledged",)

    def __init__(self) -> None:
        super().__init__()
        self.is_acknowledged = False


class CompletionRegistry(Generic[T]):
    """The completions that someone waits for, by key. They are referenced weakly."""

    def __init__(self) -> None:
        self._completions: WeakValueDictionary[str, Completion[T]] = WeakValueDictionary()
        self._is_cancelled = False

    def get(self, key: str) -> Completion[T]:
        completion = self._completions.setdefault(key, Completion())
        if self._is_cancelled:
            completion.resolve(Unavailable())
        return completion

    def resolve(self, key: str, outcome: T | Exception) -> None:
        if completion := self._completions.pop(key, None):
            completion.resolve(outcome)

    def list_acknowledged(self) -> list[str]:
        """Return the keys whose exports are stored and not completed."""
        return [key for key, each in list(self._completions.items()) if each.is_acknowledged]

    def cancel_all(self) -> None:
        """Resolve all completions with Unavailable, including those requested later."""
        self._is_cancelled = True
        for completion in list(self._completions.values()):
            completion.resolve(Unavailable())


@dataclass(frozen=True, slots=True)
class Acknowledgement(Generic[T]):
    """A receipt that is valid now, and the completion that replaces it."""

    receipt: T
    completion: Completion[T]


class Wakeup:
    """A flag that wakes its only waiter. Notifications before a wait count as one."""

    def __init__(self) -> None:
        self._notified = anyio.Event()
        self.is_closed = False

    def notify(self) -> None:
        self._notified.set()

    def close(self) -> None:
        """Notify for the last time."""
        self.is_closed = True
        self._notified.set()

    async def wait(self) -> bool:
        """Wait for a notification. Return False if the flag is closed."""
        if self.is_closed:
            return False
        await self._notified.wait()
        self._notified = anyio.Event()
        return not self.is_closed

    async def sleep_unless_closed(self, seconds: float) -> bool:
        """Sleep for `seconds`, or until the flag is closed. Return True if it is closed."""
        was_notified = False
        with anyio.move_on_after(seconds):
            while await self.wait():
                was_notified = True
        if was_notified:
            self._notified.set()  # the next wait gets the notification
        return self.is_closed
