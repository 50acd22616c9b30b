"""A bounded channel between actors: a memory object stream of anyio, with a cheaper wait.

A receiver of anyio yields to the event loop before it looks for a message, and waits for an event,
which costs another turn: 11 µs for each message. Here it looks at once, and waits for a plain
future: 4 µs. The bound, and the order of waiting senders, are those of anyio.
"""

import asyncio
from collections import deque
from typing import Generic, TypeVar

import anyio
from anyio.lowlevel import checkpoint
from anyio.streams.memory import MemoryObjectStreamStatistics

from atlas.core.errors import Unavailable

T = TypeVar("T")

RECEIVED_MAX = 16  # in a row, before other tasks may run
CLOSED = anyio.BrokenResourceError, anyio.ClosedResourceError


class Channel(Generic[T]):
    """A queue of up to `size` messages; senders wait while it is full.

    Each message goes to one receiver. Leaving the channel as a context manager closes it; the
    messages in it can still be received.
    """

    def __init__(self, size: int) -> None:
        self._inlet, self._outlet = anyio.create_memory_object_stream[T](size)
        self._idle: deque[asyncio.Future[None]] = deque()
        self._in_a_row = 0
        self._loop = asyncio.get_running_loop()

    def send_nowait(self, message: T) -> None:
        """Send without waiting. Raises WouldBlock if it is full, Unavailable if it is closed."""
        try:
            self._inlet.send_nowait(message)
        except CLOSED as error:
            raise Unavailable from error
        self._wake_one()

    async def send(self, message: T) -> None:
        """Send as soon as there is space. Raises Unavailable if it is closed."""
        try:
            self.send_nowait(message)
        except anyio.WouldBlock:
            try:
                await self._inlet.send(message)
            except CLOSED as error:
                raise Unavailable from error
            self._wake_one()

    def receive_nowait(self) -> T:
        """Receive without waiting. Raises WouldBlock if it is empty, EndOfStream if also closed."""
        return self._outlet.receive_nowait()

    async def receive(self) -> T:
        """Wait for the next message. Raises EndOfStream if it is empty and closed."""
        self._in_a_row += 1
        if self._in_a_row > RECEIVED_MAX:
            self._in_a_row = 0
            await checkpoint()
        while True:
            try:
                return self._outlet.receive_nowait()
            except anyio.WouldBlock:
                self._in_a_row = 0
                await self._sleep()

    def statistics(self) -> MemoryObjectStreamStatistics:
        return self._inlet.statistics()

    def close(self) -> None:
        """Refuse further messages. The remaining ones can still be received."""
        self._inlet.close()
        while self._idle:
            self._wake_one()

    def close_receiver(self) -> None:
        """Stop receiving. Senders get Unavailable."""
        self._outlet.close()

    async def __aenter__(self) -> "Channel[T]":
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    async def _sleep(self) -> None:
        waker = self._loop.create_future()
        self._idle.append(waker)
        try:
            await waker
        except asyncio.CancelledError:
            if waker in self._idle:
                self._idle.remove(waker)
            else:  # it was woken for a message, which another receiver must take now
                self._wake_one()
            raise

    def _wake_one(self) -> None:
        while self._idle:
            waker = self._idle.popleft()
            if not waker.done():
                waker.set_result(None)
                return
