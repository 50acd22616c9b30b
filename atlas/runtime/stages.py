"""Stages, and the bounded channels between them."""

import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import anyio
from anyio.abc import TaskGroup

from atlas.core.errors import AtlasError, NoRoom, Unavailable
from atlas.runtime.channels import Channel
from atlas.runtime.replies import Reply
from atlas.runtime.supervision import OnCrash, Restarts, supervise

In = TypeVar("In")
Out = TypeVar("Out")
Answer = TypeVar("Answer")
In_contra = TypeVar("In_contra", contravariant=True)
Out_co = TypeVar("Out_co", covariant=True)


class Envelope(NamedTuple, Generic[In, Answer]):
    """A message and where its outcome goes. The reply travels along; the message changes."""

    body: In
    reply: Reply[Answer]


class Address(NamedTuple, Generic[In, Answer]):
    """Where a stage is reached, and what comes back from the end of its pipeline."""

    channel: Channel[Envelope[In, Answer]]

    async def ask(self, message: In, seconds: float | None = None) -> Answer:
        """The answer, for which to wait so long at most, room in a full channel included.

        Raises NoRoom when that is over, Unavailable when the stage is no more, and its errors.
        """
        reply: Reply[Answer] = Reply()
        envelope = Envelope(message, reply)
        try:
            try:
                self.channel.send_nowait(envelope)  # as a rule there is room
            except anyio.WouldBlock:
                began = anyio.current_time()
                with anyio.fail_after(seconds):
                    await self.channel.send(envelope)
                if seconds is not None:
                    seconds -= anyio.current_time() - began
            del envelope, message  # or it is held for as long as its answer takes
            return await reply.outcome(seconds)
        except TimeoutError as error:
            raise NoRoom from error
        finally:
            del reply  # an error knows this frame: it would be a cycle

    async def send(self, envelope: Envelope[In, Answer]) -> None:
        """Raises Unavailable when the stage is no more."""
        await self.channel.send(envelope)


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
    inboxes: dict[str, Channel[Any]] = field(default_factory=dict)

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
        name, on_work = name_of(stage), self.on_work

        async def step(envelope: Envelope[In, Answer]) -> bool:
            body, reply = envelope
            if rescue is not None and rescue.knows(body):
                await rescue.address.send(envelope)
                return True
            began = time.perf_counter()
            try:
                made = await stage.handle(body)
            except AtlasError:
                raise
            except Exception as crash:
                if rescue is None:
                    raise
                self.on_crash(name, crash)
                await rescue.address.send(envelope)  # and no twin of it comes here again
                return False
            finally:
                on_work(name, body, time.perf_counter() - began)
            await onward.send(Envelope(made, reply))
            return True

        return self._start(_Work(name, step, onward.channel), size, at_once)

    def spawn_last(
        self, stage: Stage[In, Answer], *, size: int = 16, at_once: int = 1
    ) -> Address[In, Answer]:
        """Start a stage whose result is the answer."""
        name, on_work = name_of(stage), self.on_work

        async def step(envelope: Envelope[In, Answer]) -> bool:
            body, reply = envelope
            began = time.perf_counter()
            try:
                reply.settle(await stage.handle(body))
            finally:
                on_work(name, body, time.perf_counter() - began)
            return True

        return self._start(_Work(name, step, nullcontext()), size, at_once)

    def _start(self, work: "_Work[In, Answer]", size: int, at_once: int) -> Address[In, Answer]:
        async def run() -> None:
            with suppress(anyio.EndOfStream):
                while True:
                    envelope = await inbox.receive()
                    with envelope.reply:
                        has_worked = await work.step(envelope)
                        restarts.has_worked = restarts.has_worked or has_worked
                    del envelope  # or whoever waits for the next would hold this one

        async def live() -> None:
            async with work.onward:
                try:
                    async with anyio.create_task_group() as workers:
                        for _ in range(at_once):
                            workers.start_soon(supervise, work.name, run, restarts, self.on_crash)
                finally:
                    turn_away(inbox)

        restarts = Restarts()
        inbox = Channel[Envelope[In, Answer]](size)
        self.inboxes[work.name] = inbox
        self.tasks.start_soon(live, name=work.name)
        return Address(inbox)


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


def turn_away(inbox: Channel[Envelope[Any, Any]]) -> None:
    """Answer what is left in the inbox of a stage that is no more."""
    with suppress(anyio.WouldBlock, anyio.EndOfStream):
        while True:
            inbox.receive_nowait().reply.settle(Unavailable())
    inbox.shut()
