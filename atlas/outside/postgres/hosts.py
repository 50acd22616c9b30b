"""Connects to several hosts at once, and keeps the first connection."""

import asyncio
from collections.abc import Coroutine, Iterable
from functools import partial
from typing import TypeAlias

import asyncpg

from atlas.outside.postgres.errors import OldPrimary, is_connection_lost

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


async def connect_first(
    attempts: Iterable[Coroutine[None, None, Connection]], seconds: float
) -> Connection:
    """Return the first connection. If all fail, raises the error that says most.

    One that will not pass says more than another. If none succeeds in time, raises OldPrimary if an
    old primary answered, and TimeoutError otherwise.
    """
    tasks = [asyncio.create_task(each) for each in attempts]
    used: Connection | None = None
    try:
        used = await find_first(tasks, seconds)
    finally:
        for each in tasks:
            each.cancel()
            each.add_done_callback(partial(terminate_other, used))
    return used


async def find_first(tasks: Iterable[asyncio.Task[Connection]], seconds: float) -> Connection:
    errors, pending = list[BaseException](), set(tasks)
    try:
        async with asyncio.timeout(seconds):
            while pending:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for each in done:
                    error = each.exception()
                    if error is None:
                        return each.result()
                    errors.append(error)
    except TimeoutError as error:
        errors = [each for each in errors if isinstance(each, OldPrimary)] or [error]
    raise min(errors, key=lambda each: (is_connection_lost(each), not isinstance(each, OldPrimary)))


def terminate_other(used: "Connection | None", attempt: asyncio.Task[Connection]) -> None:
    if not attempt.cancelled() and attempt.exception() is None and attempt.result() is not used:
        attempt.result().terminate()
