"""Stages, and the bounded channels between them."""

import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import anyio
from anyio.abc import TaskGroup

from atlas.core.errors import AtlasError, FlowFull, Unavailable
from atlas.runtime.channels import Channel
from atlas.runtime.replies import Reply
from atlas.runtime.supervision import OnCrash, RestartBudget, supervise

In = TypeVar("In")
Out = TypeVar("Out")
Answer = TypeVar("Answer")
In_contra = TypeVar("In_contra", contravariant=True)
Out_co = TypeVar("Out_co", covariant=True)


class Envelope(NamedTuple, Generic[In, Answer]):
    """A message and its reply. The reply is passed on from stage to stage, the message changes."""

    body: In
    reply: Reply[Answer]


class Address(NamedTuple, Generic[In, Answer]):
    """The inbox of a stage; `ask` returns the answer of the last stage of its pipeline."""

    channel: Channel[Envelope[In, Answer]]

    async def ask(self, message: In, seconds: float | None = None) -> Answer:
        """Send a message and wait for the answer, for `seconds` at most in total.

        Raises FlowFull when the time is up, Unavailable when the stage has ended, and the stages'
        errors.
        """
        reply: Reply[Answer] = Reply()
        envelope = Envelope(message, reply)
        try:
            try:
                self.channel.send_nowait(envelope)  # the usual case
            except anyio.WouldBlock:
                began = anyio.current_time()
                with anyio.fail_after(seconds):
                    await self.channel.send(envelope)
                if seconds is not None:
                    seconds -= anyio.current_time() - began
            del envelope, message  # or they stay in memory during the wait
            return await reply.outcome(seconds)
        except TimeoutError as error:
            raise FlowFull from error
        finally:
            del reply  # the error refers to this frame: a reference cycle

    async def send(self, envelope: Envelope[In, Answer]) -> None:
        """Send an envelope. Raises Unavailable when the stage has ended."""
        await self.channel.send(envelope)


@dataclass(frozen=True, slots=True)
class DeadLetterRoute(Generic[Answer]):
    """The stage that takes messages that crash others. It `contains` those that skip the others."""

    address: Address[Any, Answer]
    contains: Callable[[Any], bool]


class Stage(Protocol[In_contra, Out_co]):
    """Handles one message and returns the next one, or raises an AtlasError as the answer."""

    async def handle(self, message: In_contra, /) -> Out_co: ...


class QueueLoad(NamedTuple):
    """The number of messages that wait for a stage, and the maximum."""

    depth: int
    size: int


StageObserver = Callable[[str, Any, float], None]


def ignore_work(_stage: str, _message: object, _seconds: float) -> None:
    """Observe nothing."""


@dataclass(frozen=True, slots=True)
class Stages:
    """Starts stages in a task group, and reports their crashes and their work.

    `on_work` receives the name of the stage, the message, and the seconds that it took.
    """

    tasks: TaskGroup
    on_crash: OnCrash
    on_work: StageObserver = ignore_work
    inboxes: dict[str, Channel[Any]] = field(default_factory=dict)

    def measure_queues(self) -> Mapping[str, QueueLoad]:
        """Return the load of each stage's queue, by name."""
        statistics = ((name, inbox.statistics()) for name, inbox in self.inboxes.items())
        return {
            name: QueueLoad(each.current_buffer_used, int(each.max_buffer_size))
            for name, each in statistics
        }

    def start_stage(
        self,
        stage: Stage[In, Out],
        next_stage: Address[Out, Answer],
        *,
        dead_letter_route: DeadLetterRoute[Answer] | None = None,
        size: int = 16,
        concurrency: int = 1,
    ) -> Address[In, Answer]:
        """Start a stage that sends its results to the next one.

        A message that crashes it goes to `dead_letter_route`.
        """
        name, on_work = derive_stage_name(stage), self.on_work

        async def step(envelope: Envelope[In, Answer]) -> bool:
            body, reply = envelope
            if dead_letter_route is not None and dead_letter_route.contains(body):
                await dead_letter_route.address.send(envelope)
                return True
            began = time.perf_counter()
            try:
                result = await stage.handle(body)
            except AtlasError:
                raise
            except Exception as crash:
                if dead_letter_route is None:
                    raise
                self.on_crash(name, crash)
                # from now on the route contains the message, so that equal ones skip this stage
                await dead_letter_route.address.send(envelope)
                return False
            finally:
                on_work(name, body, time.perf_counter() - began)
            await next_stage.send(Envelope(result, reply))
            return True

        return self._start(name, step, next_stage.channel, size, concurrency)

    def start_sink(
        self, stage: Stage[In, Answer], *, size: int = 16, concurrency: int = 1
    ) -> Address[In, Answer]:
        """Start the last stage of a pipeline: its result is the answer."""
        name, on_work = derive_stage_name(stage), self.on_work

        async def step(envelope: Envelope[In, Answer]) -> bool:
            body, reply = envelope
            began = time.perf_counter()
            try:
                reply.resolve(await stage.handle(body))
            finally:
                on_work(name, body, time.perf_counter() - began)
            return True

        return self._start(name, step, nullcontext(), size, concurrency)

    def _start(
        self,
        name: str,
        step: Callable[[Envelope[In, Answer]], Awaitable[bool]],
        next_stage: AbstractAsyncContextManager[object],
        size: int,
        concurrency: int,
    ) -> Address[In, Answer]:
        """Start the workers of a stage, and close the next stage when they end.

        A step returns True if the stage has handled the message.
        """

        async def run() -> None:
            with suppress(anyio.EndOfStream):
                while True:
                    envelope = await inbox.receive()
                    with envelope.reply:
                        if await step(envelope):
                            restarts.has_made_progress = True
                    del envelope  # or it would stay in memory until the next one arrives

        async def run_workers() -> None:
            async with next_stage:
                try:
                    async with anyio.create_task_group() as workers:
                        for _ in range(concurrency):
                            workers.start_soon(supervise, name, run, restarts, self.on_crash)
                finally:
                    reject_remaining(inbox)

        restarts = RestartBudget()
        inbox = Channel[Envelope[In, Answer]](size)
        self.inboxes[name] = inbox
        self.tasks.start_soon(run_workers, name=name)
        return Address(inbox)


def derive_stage_name(stage: object) -> str:
    """Return the name of a stage in events and metrics."""
    return type(stage).__name__.lower()


def reject_remaining(inbox: Channel[Envelope[Any, Any]]) -> None:
    """Reject the messages left in the inbox of a stage that has ended."""
    with suppress(anyio.WouldBlock, anyio.EndOfStream):
        while True:
            inbox.receive_nowait().reply.resolve(Unavailable())
    inbox.close_receiver()
