"""Connects to several hosts at once, and keeps the first connection."""

import asyncio
from collections.abc import Coroutine, Iterable
from functools import partial
from typing import TypeAlias

import asyncpg

from atlas.outside.postgres.errors import is_connection_lost

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


async def connect_first(attempts: Iterable[Coroutine[None, None, Connection]]) -> Connection:
    """Return the first connection. If all fail, raises an error that will not pass, if any."""
    tasks = [asyncio.create_task(each) for each in attempts]
    used: Connection | None = None
    try:
        used = await find_first(tasks)
    finally:
        for each in tasks:
            each.cancel()
            each.add_done_callback(partial(terminate_other, used))
    return used


async def find_first(tasks: Iterable[asyncio.Task[Connection]]) -> Connection:
    errors, pending = list[BaseException](), set(tasks)
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for each in done:
            error = each.exception()
            if error is None:
                return each.result()
            errors.append(error)
    raise min(errors, key=is_connection_lost)


def terminate_other(used: "Connection | None", attempt: asyncio.Task[Connection]) -> None:
    if not attempt.cancelled() and attempt.exception() is None and attempt.result() is not used:
        attempt.result().terminate()
