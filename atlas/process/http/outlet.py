"""The way out of a connection.

It ends when nobody reads, and closes so that the last answer is read.
"""

import asyncio
from typing import Any

from atlas.process.http.refusals import Refusals

LINGER_BYTES_MAX = 1024 * 1024
LINGER_SECONDS = 2.0


class Outlet(asyncio.Transport):
    """A transport that ends for certain.

    Whoever takes nothing of what was written for `slow_seconds` is cut off, also while it is being
    closed. And while the other side has sent what nobody has read, closing is: no more is said,
    what still comes is dropped, a little of it and for a little while. A socket that is closed with
    unread bytes is reset, and who is reset while sending reads no answer.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        slow_seconds: float,
        refusals: Refusals,
    ) -> None:
        super().__init__()
        self.is_owed = True  # the other side is not done with what it has begun to send
        self.is_all_said = False  # there it is closed already, for what it would send
        self.is_leaving = False
        self._transport = transport
        self._loop = loop
        self._slow_seconds = slow_seconds
        self._refusals = refusals
        self._drops_left = LINGER_BYTES_MAX
        self._lingers_until = 0.0
        self._written = self._sent = 0
        self._moved = 0.0  # when it was seen that bytes were taken
        self._timer: asyncio.TimerHandle | None = None

    def write(self, data: Any) -> None:
        if self.is_leaving:
            return
        self._transport.write(data)
        self._written += len(data)
        if self._timer is None:
            self._moved = self._loop.time()
            self._timer = self._loop.call_later(self._slow_seconds, self._look)

    def close(self) -> None:
        """What was written is sent first, if it is taken."""
        if self.is_closing():
            return
        self.is_leaving = True
        self._moved = self._loop.time()
        if self.is_owed and not self.is_all_said:
            self._lingers_until = self._moved + LINGER_SECONDS
            self._transport.resume_reading()
            try:
                self._transport.write_eof()
            except OSError:  # the other side has reset it, and the loop has not seen that yet
                self.abort()
            else:
                self._look_in(min(LINGER_SECONDS, self._slow_seconds))
        else:
            self._transport.close()  # whoever has not taken all of it is looked after already

    def drop(self, count: int) -> None:
        """So many bytes have come that nobody will read.

        When they are enough, no more is taken, and we are gone when the time is over. Whoever is
        cut off in the middle of sending, as a proxy is, tells of that instead of our answer.
        """
        self._drops_left -= count
        if self._drops_left < 0:
            self._transport.pause_reading()

    def abort(self) -> None:
        self.is_leaving = True
        self._transport.abort()

    def lost(self) -> None:
        """The connection is gone."""
        self.is_leaving = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_in(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self._look)

    def _look(self) -> None:
        self._timer, now = None, self._loop.time()
        unsent = self._transport.get_write_buffer_size()
        if self._written - unsent > self._sent:
            self._sent, self._moved = self._written - unsent, now
        if unsent:
            left = self._moved + self._slow_seconds - now
            if left > 0:
                self._look_in(left)
            else:
                self._refusals.cut("not_read")
                self.abort()
        elif self.is_leaving:
            left = self._lingers_until - now
            if left > 0:
                self._look_in(left)
            else:
                self.abort()

    def is_closing(self) -> bool:
        return self.is_leaving or self._transport.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)

    def pause_reading(self) -> None:
        if not self.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if not self.is_closing():
            self._transport.resume_reading()
