"""Work that is done side by side, and fails as one."""

from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import TypeVar

import anyio

T = TypeVar("T")


async def nothing_more() -> tuple[()]:
    return ()


def room_for_all(_: object) -> AbstractAsyncContextManager[None]:
    return nullcontext()


async def side_by_side(
    work: Callable[[T], Awaitable[None]],
    items: Iterable[T],
    at_once: int,
    more: Callable[[], Awaitable[Iterable[T]]] = nothing_more,
    room: Callable[[T], AbstractAsyncContextManager[None]] = room_for_all,
) -> None:
    """Do the work for each item, so many at once, while there is `room` for it.

    The first that fails ends them all, and raises its own error, not a group of them: who asked is
    told what went wrong, not how we did it. When the last item has found its room, `more` is asked
    for others: once, or it would never end.
    """
    failed: list[Exception] = []
    queue = deque(items)
    is_asked, free, outside = False, at_once, len(queue)

    async def worker() -> None:
        nonlocal is_asked, free, outside
        try:
            while queue:
                item = queue.popleft()
                async with room(item):
                    outside -= 1
                    if not outside and not is_asked:
                        is_asked = True
                        queue.extend(await more())
                        start()
                    await work(item)
        except Exception as error:  # noqa: BLE001 - it is raised again, outside the group
            failed.append(error)
            workers.cancel_scope.cancel()
        finally:
            free += 1

    def start() -> None:
        nonlocal free
        for _ in range(min(free, len(queue))):
            free -= 1
            workers.start_soon(worker)

    async with anyio.create_task_group() as workers:
        start()
    if failed:
        raise failed[0]
