"""So many bytes at once: who wants more waits for those who have them, in the order of asking."""

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio


class Budget:
    """Who finds nobody else there is let in, however much he wants."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._taken = 0
        self._waiting: deque[tuple[int, anyio.Event]] = deque()

    @asynccontextmanager
    async def taken(self, size: int) -> AsyncIterator[None]:
        turn = size, anyio.Event()
        self._waiting.append(turn)
        self._let_in()
        try:
            await turn[1].wait()
            yield
        finally:
            if turn[1].is_set():
                self._taken -= size
            else:
                self._waiting.remove(turn)
            self._let_in()

    def _let_in(self) -> None:
        while self._waiting:
            size, turn = self._waiting[0]
            if self._taken and self._taken + size > self._bytes_max:
                return
            self._waiting.popleft()
            self._taken += size
            turn.set()
