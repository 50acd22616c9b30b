"""Stages, and the bounded channels between them."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

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
        rescue: Rescue[Answer] | None = None,
        size: int = 16,
        at_once: int = 1,
    ) -> Address[In, Answer]:
        """Start a stage that sends on what it makes; with a rescue, what it cannot bear there."""

        async def step(envelope: Envelope[In, Answer]) -> bool:
            if rescue is not None and rescue.knows(envelope.body):
                await rescue.address.send(envelope)
                return True
            try:
                made = await stage.handle(envelope.body)
            except AtlasError:
                raise
            except Exception as crash:
                if rescue is None:
                    raise
                self.on_crash(type(stage).__name__, crash)
                await rescue.address.send(envelope)  # and no twin of it comes here again
                return False
            await onward.send(envelope.forward(made))
            return True

        return self._start(_Work(type(stage).__name__, step, onward.stream), size, at_once)

    def spawn_last(
        self, stage: Stage[In, Answer], *, size: int = 16, at_once: int = 1
    ) -> Address[In, Answer]:
        """Start a stage whose result is the answer."""

        async def step(envelope: Envelope[In, Answer]) -> bool:
            envelope.reply.settle(await stage.handle(envelope.body))
            return True

        return self._start(_Work(type(stage).__name__, step, nullcontext()), size, at_once)

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


def turn_away(inbox: MemoryObjectReceiveStream[Envelope[Any, Any]]) -> None:
    """Answer what is left in the inbox of a stage that is no more."""
    with suppress(anyio.WouldBlock, anyio.EndOfStream):
        while True:
            inbox.receive_nowait().reply.settle(Unavailable())
