"""Injected bugs, which raise unexpected errors in the flow, and a brake, which slows one step down.

in flatten   an export that contains a marker cannot be flattened
everywhere   each dependency fails at every Nth call, before or after its work; the uploader,
             which makes dozens of calls for a group, at every 16Nth, since otherwise every
             group would fail
brake        flattening is limited to N exports a second, as if the machine were slow
"""

import inspect
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import anyio

from atlas.actors.flatten import tabulate
from atlas.core import ndjson
from atlas.core.ports import CpuExecutor
from atlas.service import Dependencies
from tests.chaos.failpoints import Failpoint

IN_FLATTEN, EVERYWHERE, BRAKE = "in flatten", "everywhere", "brake"
PLACES = {IN_FLATTEN, EVERYWHERE, BRAKE}
FAULT_MARKER = b'"breaks flatten"'
UPLOADER_FACTOR = 16
IDENTITY_METHODS = {"identify_user"}
INTAKE = (ndjson.decode, ndjson.decode_part, tabulate)


class InjectedFault(Exception):
    """An error that no code catches by name. Like Python's own errors it quotes the arguments."""


def inject(fault: Failpoint, world: Dependencies) -> Dependencies:
    """Return the same dependencies, with bugs in them."""
    if fault.point == IN_FLATTEN:
        return replace(world, compute=fail_on_marker(world.compute))
    if fault.point == BRAKE:
        return replace(world, compute=throttle(world.compute, fault.hits))
    store, every = world.store, fault.hits
    return replace(
        world,
        identities=FaultyProxy(world.identities, every, IDENTITY_METHODS),
        store=replace(
            store,
            intake=FaultyProxy(store.intake, every),
            outbox=FaultyProxy(store.outbox, every * UPLOADER_FACTOR),
        ),
        branch=FaultyProxy(world.branch, every * UPLOADER_FACTOR),
        compute=build_failing_compute(world.compute, every),
    )


class FaultyProxy:
    """A port that fails at every Nth call of the given methods, or of any method."""

    def __init__(self, port: Any, every: int, methods: set[str] | None = None) -> None:
        self._port = port
        self._methods = methods
        self._calls = fail_every(call_method, every)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._port, name)
        is_spared = self._methods is not None and name not in self._methods
        if is_spared or not inspect.iscoroutinefunction(method):  # only coroutines can fail
            return method

        async def fails(*arguments: Any, **named: Any) -> Any:
            return await self._calls(method, *arguments, **named)

        return fails


async def call_method(method: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    return await method(*arguments, **named)


def fail_every(call: Callable[..., Any], every: int) -> Any:
    """Fail at every Nth call: alternately before the call and after it."""
    calls = 0

    async def fails(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        is_now = calls % every == 0
        if is_now and calls // every % 2:
            raise InjectedFault(arguments)
        outcome = await call(*arguments, **named)
        if is_now:
            raise InjectedFault(arguments)
        return outcome

    return fails


def build_failing_compute(compute: CpuExecutor, every: int) -> Any:
    intake, uploader = fail_every(compute, every), fail_every(compute, every * UPLOADER_FACTOR)

    async def fails(size: int, work: Callable[..., Any], /, *args: Any) -> Any:
        return await (intake if work in INTAKE else uploader)(size, work, *args)

    return fails


def fail_on_marker(compute: CpuExecutor) -> Any:
    async def breaks(size: int, work: Callable[..., Any], /, *args: Any) -> Any:
        if args and isinstance(args[0], bytes) and FAULT_MARKER in args[0]:
            raise InjectedFault(args)
        return await compute(size, work, *args)

    return breaks


def throttle(compute: CpuExecutor, a_second: int) -> Any:
    """Limit flattening to `a_second` calls. Turns follow the clock, so that a late event loop loses
    none; an unused turn is not kept.
    """
    turn = 0.0

    async def slow(size: int, work: Callable[..., Any], /, *args: Any) -> Any:
        nonlocal turn
        # flattening is the one work that is done in steps
        if inspect.isgeneratorfunction(work):
            now = time.monotonic()
            turn = max(now, turn + 1 / a_second)
            await anyio.sleep(turn - now)
        return await compute(size, work, *args)

    return slow
