"""Stages, and the bounded channels between them."""

import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import anyio
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from atlas.core.errors import AtlasError, Unavailable
from atlas.runtime.replies import Reply
from atlas.runtime.supervision import OnCrash, Restarts, answering, supervise

In = TypeVar("In")
Out = TypeVar("Out")
Answer = TypeVar("Answer")
In_contra = TypeVar("In_contra", contravariant=True)
Out_co = TypeVar("Out_co", covariant=True)


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
            with suppress(anyio.WouldBlock):
                return self.stream.send_nowait(envelope)  # as a rule there is room
            await self.stream.send(envelope)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
            raise Unavailable from error


@dataclass(frozen=True, slots=True)
class Rescue(Generic[Answer]):
    """Where stages send a message that they cannot bear: in place of an answer, and ever after."""

    address: Address[Any, Answer]
    knows: Callable[[Any], bool]


class Stage(Protocol[In_contra, Out_co]):
    """One message in, one message out. An AtlasError is an answer, too."""

    async def handle(self, message: In_contra, /) -> Out_co: ...


class Queue(NamedTuple):
    """How many messages wait for a stage, and how many can."""

    depth: int
    size: int


OnWork = Callable[[str, Any, float], None]


def nobody_asks(_stage: str, _message: object, _seconds: float) -> None:
    """Who started the stages does not want to know what they do."""


@dataclass(frozen=True, slots=True)
class Stages:
    """Starts stages in a task group, and tells of their crashes.

    And of their work: which stage, on what message, for how many seconds.
    """

    tasks: TaskGroup
    on_crash: OnCrash
    on_work: OnWork = nobody_asks
    inboxes: dict[str, MemoryObjectReceiveStream[Any]] = field(default_factory=dict)

    def queues(self) -> Mapping[str, Queue]:
        """What waits before each stage just now."""
        found = {}
        for name, inbox in self.inboxes.items():
            seen = inbox.statistics()
            found[name] = Queue(seen.current_buffer_used, int(seen.max_buffer_size))
        return found

    def spawn(
        self,
        stage: Stage[In, Out],
        onward: Address[Out, Answer],
        *,
        rescue: Rescue[Answer] | None = None,
        size: int = 16,
        at_once: int = 1,
    ) -> Address[In, Answer]:
        """Start a stage that sends on what it makes; with a rescue, what it cannot bear there."""

        name = name_of(stage)
        handle = self._timed(name, stage)

        async def step(envelope: Envelope[In, Answer]) -> bool:
            if rescue is not None and rescue.knows(envelope.body):
                await rescue.address.send(envelope)
                return True
            try:
                made = await handle(envelope.body)
            except AtlasError:
                raise
            except Exception as crash:
                if rescue is None:
                    raise
                self.on_crash(name, crash)
                await rescue.address.send(envelope)  # and no twin of it comes here again
                return False
            await onward.send(envelope.forward(made))
            return True

        return self._start(_Work(name, step, onward.stream), size, at_once)

    def spawn_last(
        self, stage: Stage[In, Answer], *, size: int = 16, at_once: int = 1
    ) -> Address[In, Answer]:
        """Start a stage whose result is the answer."""
        name = name_of(stage)
        handle = self._timed(name, stage)

        async def step(envelope: Envelope[In, Answer]) -> bool:
            envelope.reply.settle(await handle(envelope.body))
            return True

        return self._start(_Work(name, step, nullcontext()), size, at_once)

    def _timed(self, name: str, stage: Stage[In, Out]) -> Callable[[In], Awaitable[Out]]:
        """Its work, of which is told how long it took, however it ended."""

        async def handle(message: In) -> Out:
            began = time.perf_counter()
            try:
                return await stage.handle(message)
            finally:
                self.on_work(name, message, time.perf_counter() - began)

        return handle

    def _start(self, work: "_Work[In, Answer]", size: int, at_once: int) -> Address[In, Answer]:
        async def run() -> None:
            async for envelope in inbox:
                with answering(envelope.reply):
                    has_worked = await work.step(envelope)
                    restarts.has_worked = restarts.has_worked or has_worked
                del envelope  # or whoever waits for the next would hold this one

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
        self.inboxes[work.name] = inbox
        self.tasks.start_soon(live, name=work.name)
        return Address(stream)


@dataclass(frozen=True, slots=True)
class _Work(Generic[In, Answer]):
    """What a stage does with each envelope, and what it closes when it ends.

    A step tells whether the stage could bear it.
    """

    name: str
    step: Callable[[Envelope[In, Answer]], Awaitable[bool]]
    onward: AbstractAsyncContextManager[object]


def name_of(stage: object) -> str:
    """As everybody is told it."""
    return type(stage).__name__.lower()


def turn_away(inbox: MemoryObjectReceiveStream[Envelope[Any, Any]]) -> None:
    """Answer what is left in the inbox of a stage that is no more."""
    with suppress(anyio.WouldBlock, anyio.EndOfStream):
        while True:
            inbox.receive_nowait().reply.settle(Unavailable())
