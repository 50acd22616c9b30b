"""Drives the leadership protocol: asks for the lease, renews it, and runs the uploader."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Protocol

import anyio
from anyio.abc import TaskGroup

from atlas.core.errors import AtlasError, Deposed, Unavailable
from atlas.core.events import EndOfLead, EventSink, LeadershipLost, LeadershipTaken
from atlas.core.ports import Leadership, LeadStatus
from atlas.replicas.protocol import UPLOADING, advance, trusted_seconds
from atlas.replicas.states import (
    Acquired,
    Finished,
    Input,
    Lost,
    Occupied,
    Phase,
    Released,
    Renewed,
    Term,
    Unanswered,
)

HOLD_WAIT_SECONDS = 40.0  # longer than a call to Foundry and the end of a group
ABANDON_SECONDS = 5.0
RELEASE_SECONDS = 1.0
FAILING_SECONDS, FAILING_SECONDS_MAX = 60.0, 600.0
CALL_SECONDS = 1.0  # a fifth of a lease: then the database counts as not answering
STOPPED: frozenset[Phase] = frozenset({"following", "unconfirmed"})
REASONS: dict[type[Input], EndOfLead] = {
    Lost: "deposed",
    Released: "released",
    Unanswered: "unconfirmed",
}
NOT_RELEASED = "The replica that uploads did not hand over in time. Try again."
STOPPING = "This replica is shutting down. Ask another one."


class Uploads(Protocol):
    """The uploader, as its leader sees it."""

    lead: LeadStatus

    def begin_term(self, *, is_excused: bool) -> None:
        """Forget all earlier work, before `run`. `is_excused`: what is in hand did not fail."""

    def finish(self) -> None:
        """End after the current group."""

    async def abandon(self) -> None:
        """Abort the transaction that was begun and not committed."""


@dataclass(slots=True)
class RunningUploads:
    """The scope that stops the uploader."""

    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    has_ended: anyio.Event = field(default_factory=anyio.Event)


class Leader:
    """Runs the uploader while this replica holds the lease.

    `run` uploads until `finish`, or until another replica leads. `is_candidate`: the lease is taken
    whenever it is free; otherwise, as in a command, only when `hold` needs it. It is kept until
    another replica asks for it.
    """

    def __init__(
        self,
        leadership: Leadership,
        uploads: Uploads,
        run: Callable[[], Awaitable[None]],
        monotonic: Callable[[], float],
        emit: EventSink,
        *,
        is_candidate: bool = True,
    ) -> None:
        self.leadership = leadership
        self.uploads = uploads
        self.run_uploads = run
        self.monotonic = monotonic
        self.emit = emit
        self.is_candidate = is_candidate
        self.term = Term()
        self.due_at: float | None = None  # when the lease is asked for or renewed
        self.running: RunningUploads | None = None
        self.holds = 0  # contexts of `hold` that have the lease, or wait for it
        self.holders = set[anyio.CancelScope]()
        self.failing_seconds = FAILING_SECONDS
        self.is_closed = False
        self.has_changed = anyio.Event()  # ends a wait
        self.is_leading = anyio.Event()

    @property
    def epoch(self) -> int | None:
        """The epoch of the lease; None if this replica does not lead."""
        return self.term.epoch if self.term.phase in UPLOADING else None

    async def run(self) -> None:
        """Follow and lead until `close`, and then until the uploader has ended."""
        self.due_at = self.monotonic()
        async with anyio.create_task_group() as tasks:
            try:
                while not (self.is_closed and self.term.phase == "following"):
                    result = await self.next_input()
                    if result is not None:
                        await self.apply(result, tasks)
            finally:
                if self.running is not None:
                    with anyio.move_on_after(RELEASE_SECONDS, shield=True), suppress(AtlasError):
                        await self.stop()
                        await self.leadership.release()

    def close(self) -> None:
        """Stop taking the lease. `run` ends after the current group, and after every `hold`."""
        self.is_closed = True
        if self.running is not None:
            self.uploads.finish()
        self.is_leading.set()  # operations that wait for it fail
        self.wake()

    def wake(self) -> None:
        """Ask for the lease at once, because it may be free."""
        self.has_changed.set()

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[None]:
        """Keep the lease inside this context. Another replica that holds it is asked to release it.

        Raises Unavailable if it does not do so in time, or if this replica is shutting down, and
        Deposed if the lease is lost inside, which ends the context.
        """
        self.holds += 1
        self.wake()
        scope = anyio.CancelScope()
        try:
            with anyio.move_on_after(HOLD_WAIT_SECONDS):
                while not (self.is_closed or self.term.phase == "leading"):
                    await self.is_leading.wait()
            if self.is_closed:
                raise Unavailable(STOPPING)
            if self.term.phase != "leading":
                raise Unavailable(NOT_RELEASED)
            with scope:
                self.holders.add(scope)
                yield
            if scope.cancelled_caught:
                raise Deposed
        finally:
            self.holders.discard(scope)
            self.holds -= 1
            self.wake()

    # the loop

    async def next_input(self) -> Input | None:
        """Wait until it is time to ask the database, and ask. None if there is nothing to ask."""
        if self.running is not None and self.running.has_ended.is_set():
            if self.uploads.lead.is_deposed:
                return Lost()
            if self.term.phase == "finishing" or (self.is_closed and not self.holds):
                return Finished()
        is_following = self.term.phase == "following"
        is_needed = self.holds > 0 or (self.is_candidate and not self.is_closed)
        due_at = None if is_following and not is_needed else self.due_at
        seconds = None if due_at is None else due_at - self.monotonic()
        with anyio.move_on_after(seconds) as wait:
            await self.has_changed.wait()
        if not wait.cancelled_caught:
            self.has_changed = anyio.Event()
            if not (is_following and is_needed):
                return None
        return await self.ask()

    async def ask(self) -> Input:
        asked_at = self.monotonic()
        trusted = trusted_seconds(self.leadership.lease_seconds, self.term, asked_at)
        with anyio.move_on_after(min(CALL_SECONDS, trusted)):  # the call itself continues
            try:
                match self.term.phase:
                    case "following":
                        epoch = await self.leadership.acquire(is_urgent=self.holds > 0)
                        return Occupied() if epoch is None else Acquired(epoch, asked_at)
                    case "releasing":
                        await self.leadership.release()
                        return Released()
                is_wanted = await self.leadership.renew()
                return Renewed(asked_at, (is_wanted or self.is_stuck()) and not self.holds)
            except Deposed:
                return Lost()
            except Unavailable:
                pass
        return Unanswered(self.monotonic())

    def is_stuck(self) -> bool:
        """True if uploads fail for so long that another replica should try.

        It may reach Foundry where this one cannot. The time doubles, so that the lease does not
        circulate while Foundry is down for all.
        """
        lead = self.uploads.lead
        if lead.has_progressed:
            self.failing_seconds = FAILING_SECONDS
        since = lead.failing_since
        if since is None or self.monotonic() - since < self.failing_seconds:
            return False
        self.failing_seconds = min(2 * self.failing_seconds, FAILING_SECONDS_MAX)
        return True

    async def apply(self, result: Input, tasks: TaskGroup) -> None:
        """Take the step that the protocol decides."""
        before = self.term
        decision = advance(self.leadership.lease_seconds, before, result)
        self.term = decision.term
        self.due_at = None if decision.seconds is None else self.monotonic() + decision.seconds
        match decision.command:
            case "start" | "resume":
                self.start(tasks, is_excused=decision.command == "resume")
            case "finish":
                self.uploads.finish()
            case "cancel" | "abandon":
                for holder in self.holders:
                    holder.cancel()
                await self.stop()
        self.announce(before, result)
        if decision.command == "abandon":  # may wait for seconds, if calls were cut off
            with anyio.move_on_after(ABANDON_SECONDS), suppress(AtlasError):
                await self.uploads.abandon()
        if isinstance(result, Finished):
            self.running = None

    def start(self, tasks: TaskGroup, *, is_excused: bool) -> None:
        running = self.running = RunningUploads()

        async def upload() -> None:
            try:
                with running.scope:
                    await self.run_uploads()
            finally:
                running.has_ended.set()
                self.wake()

        self.uploads.begin_term(is_excused=is_excused)
        if self.is_closed:  # meanwhile
            self.uploads.finish()
        tasks.start_soon(upload)

    async def stop(self) -> None:
        """Stop the uploader, whatever it is doing."""
        running, self.running = self.running, None
        if running is not None:
            running.scope.cancel()
            await running.has_ended.wait()

    def announce(self, before: Term, result: Input) -> None:
        was_leading, is_leading = before.phase == "leading", self.term.phase == "leading"
        if is_leading and not was_leading:
            self.is_leading.set()
            if self.leadership.lease_seconds is not None:
                self.emit(LeadershipTaken(self.term.epoch))
        elif was_leading and not is_leading:
            self.is_leading = anyio.Event()
        has_stopped = self.term.phase in STOPPED and before.phase not in STOPPED
        if has_stopped and self.leadership.lease_seconds is not None:
            self.emit(LeadershipLost(before.epoch, REASONS[type(result)]))
