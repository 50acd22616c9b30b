"""A transport that closes even if the peer does not read, and delivers the last response."""

import asyncio
from typing import Any

from atlas.core.events import ConnectionAborted, EventSink

LINGER_BYTES_MAX = 1024 * 1024
LINGER_SECONDS = 2.0


class LingeringTransport(asyncio.Transport):
    """A transport that always closes.

    The connection is aborted if the peer reads nothing for `write_timeout_seconds` while written
    bytes are unsent, also during the close. A close with unread input sends FIN, then discards a
    bounded amount of input for a bounded time, because closing a socket with unread bytes sends
    RST, which can destroy the response before the peer has read it.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        write_timeout_seconds: float,
        emit: EventSink,
    ) -> None:
        super().__init__()
        self.has_unread_input = True  # the peer may be in the middle of a message
        self.has_received_eof = False
        self.is_closing_down = False
        self._transport = transport
        self._loop = loop
        self._write_timeout_seconds = write_timeout_seconds
        self._emit = emit
        self._discard_bytes_left = LINGER_BYTES_MAX
        self._lingers_until = 0.0
        self._written = self._sent = 0
        self._progress_at = 0.0  # time at which the peer last read something
        self._timer: asyncio.TimerHandle | None = None

    def write(self, data: Any) -> None:
        if self.is_closing_down:
            return
        self._transport.write(data)
        self._written += len(data)
        if self._timer is None:
            self._progress_at = self._loop.time()
            self._timer = self._loop.call_later(self._write_timeout_seconds, self._check_progress)

    def close(self) -> None:
        """Close once everything written has been sent."""
        if self.is_closing():
            return
        self.is_closing_down = True
        self._progress_at = self._loop.time()
        if self.has_unread_input and not self.has_received_eof:
            self._lingers_until = self._progress_at + LINGER_SECONDS
            self._transport.resume_reading()
            try:
                self._transport.write_eof()
            except OSError:  # the peer has reset the connection, and the loop has not noticed yet
                self.abort()
            else:
                self._schedule_check(min(LINGER_SECONDS, self._write_timeout_seconds))
        else:
            self._transport.close()  # the timer of `write` aborts it if the peer does not read

    def discard(self, count: int) -> None:
        """Count received bytes that are discarded during the close.

        At the limit, reading stops until the time limit. The connection is not aborted at once,
        because a proxy that is cut off while it sends reports that instead of the response.
        """
        self._discard_bytes_left -= count
        if self._discard_bytes_left < 0:
            self._transport.pause_reading()

    def abort(self) -> None:
        self.is_closing_down = True
        self._transport.abort()

    def connection_lost(self) -> None:
        """Stop the timer."""
        self.is_closing_down = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _schedule_check(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self._check_progress)

    def _check_progress(self) -> None:
        self._timer, now = None, self._loop.time()
        unsent = self._transport.get_write_buffer_size()
        if self._written - unsent > self._sent:
            self._sent, self._progress_at = self._written - unsent, now
        if unsent:
            left = self._progress_at + self._write_timeout_seconds - now
            if left > 0:
                self._schedule_check(left)
            else:
                self._emit(ConnectionAborted("not_read"))
                self.abort()
        elif self.is_closing_down:
            left = self._lingers_until - now
            if left > 0:
                self._schedule_check(left)
            else:
                self.abort()

    def is_closing(self) -> bool:
        return self.is_closing_down or self._transport.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)

    def pause_reading(self) -> None:
        if not self.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if not self.is_closing():
            self._transport.resume_reading()
