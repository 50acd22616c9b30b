"""Work that is done side by side, and fails as one."""

from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import TypeVar

import anyio

T = TypeVar("T")


def room_for_all(_: object) -> AbstractAsyncContextManager[None]:
    return nullcontext()


async def side_by_side(
    work: Callable[[T], Awaitable[None]],
    items: Iterable[T],
    at_once: int,
    room: Callable[[T], AbstractAsyncContextManager[None]] = room_for_all,
) -> None:
    """Do the work for each item, so many at once, while there is `room` for it.

    The first that fails ends them all, and raises its own error, not a group of them: who asked is
    told what went wrong, not how we did it.
    """
    failed: list[Exception] = []
    queue = deque(items)

    async def worker() -> None:
        try:
            while queue:
                item = queue.popleft()
                async with room(item):
                    await work(item)
        except Exception as error:  # noqa: BLE001 - it is raised again, outside the group
            failed.append(error)
            workers.cancel_scope.cancel()

    async with anyio.create_task_group() as workers:
        for _ in range(min(at_once, len(queue))):
            workers.start_soon(worker)
    if failed:
        raise failed[0]
