"""Bounded concurrent iteration, and tasks in the background."""

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import TypeVar

import anyio

T = TypeVar("T")


def allow_all(_: object) -> AbstractAsyncContextManager[None]:
    return nullcontext()


async def for_each_concurrently(
    work: Callable[[T], Awaitable[None]],
    items: Iterable[T],
    concurrency: int,
    limiter: Callable[[T], AbstractAsyncContextManager[None]] = allow_all,
) -> None:
    """Call `work` for each item, up to `concurrency` at once, inside the item's `limiter` context.

    The first failure cancels the others and is raised itself, not in an exception group, so that
    callers handle it like the failure of a single call.
    """
    failed: list[Exception] = []
    queue = deque(items)

    async def worker() -> None:
        try:
            while queue:
                item = queue.popleft()
                async with limiter(item):
                    await work(item)
        except Exception as error:  # noqa: BLE001 - it is raised again, outside the group
            failed.append(error)
            workers.cancel_scope.cancel()

    async with anyio.create_task_group() as workers:
        for _ in range(min(concurrency, len(queue))):
            workers.start_soon(worker)
    if failed:
        raise failed[0]


@asynccontextmanager
async def run_in_background(run: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Run a task until the context ends.

    An exception of the context is raised itself, not in an exception group.
    """
    failed: list[Exception] = []

    async def work() -> None:
        await run()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(work)
        try:
            yield
        except Exception as error:  # noqa: BLE001 - it is raised again, outside the group
            failed.append(error)
        tasks.cancel_scope.cancel()
    if failed:
        raise failed[0]
