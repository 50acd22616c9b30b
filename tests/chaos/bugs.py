"""Bugs: places in the flow that raise what nobody expects; and a brake, which slows one down.

in flatten   an export that says so cannot be flattened
everywhere   each part of the world fails, before or behind what it does, at each Nth call;
             the uploader, which makes dozens of calls for a group, at each 16 Nth: if every
             group met one, no group would come through
brake        flattening lets N exports a second through, as if it were done by somebody slow
"""

import inspect
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import anyio

from atlas.actors.flatten import tabulate
from atlas.core import ndjson
from atlas.core.ports import Compute
from atlas.service import World
from tests.chaos.mines import Mine

IN_FLATTEN, EVERYWHERE, BRAKE = "in flatten", "everywhere", "brake"
PLACES = {IN_FLATTEN, EVERYWHERE, BRAKE}
BREAKS = b'"breaks flatten"'
OF_THE_UPLOADER = 16
INTAKE = (ndjson.decode, ndjson.part, tabulate)


class Bug(Exception):
    """Nobody catches it by its name. It quotes what was given, as Python's own errors do."""


def planted(bug: Mine, world: World) -> World:
    """The same world, with bugs in it."""
    if bug.point == IN_FLATTEN:
        return replace(world, compute=brittle(world.compute))
    if bug.point == BRAKE:
        return replace(world, compute=braked(world.compute, bug.passages))
    store, every = world.store, bug.passages
    return replace(
        world,
        identities=Buggy(world.identities, every, {"user_of"}),
        store=replace(
            store,
            intake=Buggy(store.intake, every),
            outbox=Buggy(store.outbox, every * OF_THE_UPLOADER),
        ),
        branch=Buggy(world.branch, every * OF_THE_UPLOADER),
        compute=failing_compute(world.compute, every),
    )


class Buggy:
    """A port that fails at each Nth call of these methods, or of any."""

    def __init__(self, port: Any, every: int, methods: set[str] | None = None) -> None:
        self._port = port
        self._methods = methods
        self._calls = failing(called, every)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._port, name)
        is_spared = self._methods is not None and name not in self._methods
        if is_spared or not inspect.iscoroutinefunction(method):  # what is no call cannot fail
            return method

        async def fails(*arguments: Any, **named: Any) -> Any:
            return await self._calls(method, *arguments, **named)

        return fails


async def called(method: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    return await method(*arguments, **named)


def failing(call: Callable[..., Any], every: int) -> Any:
    """Fails at each Nth call: half of those before it does anything, half when it is done."""
    calls = 0

    async def fails(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        is_now = calls % every == 0
        if is_now and calls // every % 2:
            raise Bug(arguments)
        outcome = await call(*arguments, **named)
        if is_now:
            raise Bug(arguments)
        return outcome

    return fails


def failing_compute(compute: Compute, every: int) -> Any:
    intake, uploader = failing(compute, every), failing(compute, every * OF_THE_UPLOADER)

    async def fails(size: int, work: Callable[..., Any], /, *args: Any) -> Any:
        return await (intake if work in INTAKE else uploader)(size, work, *args)

    return fails


def brittle(compute: Compute) -> Any:
    async def breaks(size: int, work: Callable[..., Any], /, *args: Any) -> Any:
        if args and isinstance(args[0], bytes) and BREAKS in args[0]:
            raise Bug(args)
        return await compute(size, work, *args)

    return breaks


def braked(compute: Compute, a_second: int) -> Any:
    """Flattening, at so many a second. Turns are kept on a clock, so that none is lost to a loop
    that is late; one that was not needed is gone.
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
