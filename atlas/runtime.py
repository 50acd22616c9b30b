"""Actors over bounded channels.

Three rules, and nothing here knows about health data:

1. A message moves one stage forward or its reply is settled. No reply is left waiting.
2. Every channel is bounded. A full one makes its sender wait, back to the socket.
3. Closing the first address ends the pipeline: each stage drains, then closes the next.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar
from weakref import WeakValueDictionary

import anyio
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from atlas.core.errors import AtlasError, Unavailable

In = TypeVar("In")
Out = TypeVar("Out")
Answer = TypeVar("Answer")
In_contra = TypeVar("In_contra", contravariant=True)
Out_co = TypeVar("Out_co", covariant=True)
T = TypeVar("T")

OnCrash = Callable[[str, Exception], None]


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

    def settle(self, key: str, outcome: T) -> None:
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


@dataclass(frozen=True, slots=True)
class Envelope(Generic[In, Answer]):
    """A message and where its outcome goes. The reply travels along; the message changes."""

    body: In
    reply: Reply[Answer]

    def forward(self, body: Out) -> "Envelope[Out, Answer]":
        return Envelope(body, self.reply)


@dataclass(frozen=True, slots=True)
class Address(Generic[In, Answer]):
    """Where a stage is reached, and what comes back from the end of its pipeline."""

    stream: MemoryObjectSendStream[Envelope[In, Answer]]

    async def ask(self, message: In) -> Answer:
        reply = Reply[Answer]()
        await self.send(Envelope(message, reply))
        return await reply.outcome()

    async def send(self, envelope: Envelope[In, Answer]) -> None:
        try:
            await self.stream.send(envelope)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
            raise Unavailable from error


class Stage(Protocol[In_contra, Out_co]):
    """One message in, one message out. An AtlasError is an answer, too."""

    async def handle(self, message: In_contra, /) -> Out_co: ...


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


@dataclass(frozen=True, slots=True)
class Stages:
    """Starts stages in a task group, and tells of their crashes."""

    tasks: TaskGroup
    on_crash: OnCrash

    def spawn(
        self,
        stage: Stage[In, Out],
        onward: Address[Out, Answer],
        *,
        size: int = 16,
        at_once: int = 1,
    ) -> Address[In, Answer]:
        """Start a stage that sends on what it makes."""

        async def step(envelope: Envelope[In, Answer]) -> None:
            await onward.send(envelope.forward(await stage.handle(envelope.body)))

        return self._start(_Work(type(stage).__name__, step, onward.stream), size, at_once)

    def spawn_last(
        self, stage: Stage[In, Answer], *, size: int = 16, at_once: int = 1
    ) -> Address[In, Answer]:
        """Start a stage whose result is the answer."""

        async def step(envelope: Envelope[In, Answer]) -> None:
            envelope.reply.settle(await stage.handle(envelope.body))

        return self._start(_Work(type(stage).__name__, step, nullcontext()), size, at_once)

    def _start(self, work: "_Work[In, Answer]", size: int, at_once: int) -> Address[In, Answer]:
        async def run() -> None:
            async for envelope in inbox:
                with answering(envelope.reply):
                    await work.step(envelope)
                    restarts.has_worked = True

        async def live() -> None:
            async with inbox, work.onward:
                try:
                    async with anyio.create_task_group() as workers:
                        for _ in range(at_once):
                            workers.start_soon(supervise, work.name, run, restarts, self.on_crash)
                finally:
                    turn_away(inbox)

        restarts = Restarts()
        stream, inbox = anyio.create_memory_object_stream[Envelope[In, Answer]](size)
        self.tasks.start_soon(live, name=work.name)
        return Address(stream)


@dataclass(frozen=True, slots=True)
class _Work(Generic[In, Answer]):
    """What a stage does with each envelope, and what it closes when it ends."""

    name: str
    step: Callable[[Envelope[In, Answer]], Awaitable[None]]
    onward: AbstractAsyncContextManager[object]


@contextmanager
def answering(reply: Reply[Any]) -> Iterator[None]:
    """Whatever happens inside, the reply is not left waiting. An AtlasError is an answer."""
    try:
        yield
    except AtlasError as answer:
        reply.settle(answer)
    except Exception:
        reply.settle(AtlasError())
        raise
    except BaseException:
        reply.settle(Unavailable())
        raise


def turn_away(inbox: MemoryObjectReceiveStream[Envelope[Any, Any]]) -> None:
    """Answer what is left in the inbox of a stage that is no more."""
    with suppress(anyio.WouldBlock, anyio.EndOfStream):
        while True:
            inbox.receive_nowait().reply.settle(Unavailable())


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


async def side_by_side(
    work: Callable[[T], Awaitable[None]], items: Collection[T], at_once: int
) -> None:
    """Do the work for each item, so many at once. The first that fails ends them all, and raises.

    Its own error, not a group of them: who asked is told what went wrong, not how we did it.
    """
    failed: list[Exception] = []
    queue = iter(items)

    async def worker() -> None:
        for item in queue:
            try:
                await work(item)
            except Exception as error:  # noqa: BLE001 - it is raised again, outside the group
                failed.append(error)
                workers.cancel_scope.cancel()
                return

    async with anyio.create_task_group() as workers:
        for _ in range(min(at_once, len(items))):
            workers.start_soon(worker)
    if failed:
        raise failed[0]
