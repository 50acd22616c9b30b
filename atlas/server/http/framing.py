"""Finds the next index at which a message may end: after a chunk size, or after an empty line.

A chunked body cannot end before the line with the size of its last chunk (RFC 9112, section 7.1).
So the parser is fed up to the end of each such line, together with the data of the previous chunk,
which is skipped here. The parser checks that the line is valid.
"""

import re
from dataclasses import dataclass

from atlas.core.errors import BadRequest

EMPTY_LINE = b"\r\n\r\n"
LINE_END_BYTES = 2
FRAME_BYTES = 16  # size line and line end of a chunk; more than that is an extension
SMALL_CHUNKS_MAX = 16 * 1024
SMALL_BYTES = 64  # average data per chunk; each chunk costs as much time as thousands of bytes
SIZE = re.compile(rb"([0-9A-Fa-f]+)(?:;[^\n]*)?\r\n")


def find_end_of_headers(data: bytes, start: int, tail: bytes) -> int:
    """Return the index after the first empty line from `start` on, or the length of the data.

    `tail`: up to three bytes before `start`, because an empty line may arrive in two parts.
    """
    if tail:
        end = (tail + data[start : start + 3]).find(EMPTY_LINE)
        if end >= 0:
            return start + end + len(EMPTY_LINE) - len(tail)
    end = data.find(EMPTY_LINE, start)
    return len(data) if end < 0 else end + len(EMPTY_LINE)


@dataclass(slots=True)
class ChunkedTracker:
    """Tracks the chunks of one body.

    `overhead`: bytes of extensions and trailers. `is_over`: the last chunk was read, and trailers
    may follow.
    """

    overhead: int = 0
    is_over: bool = False
    _bytes_left: int = 0  # of the current chunk and its line end
    _line: bytes = b""  # the received part of the next size line
    _chunks: int = 0
    _data_bytes: int = 0

    def find_boundary(self, data: bytes, start: int) -> int:
        """Return the index after the next size line, or the length of the data."""
        line_end = data.find(b"\n", start + self._bytes_left)
        return len(data) if line_end < 0 else line_end + 1

    def track(self, segment: bytes) -> None:
        """Count the bytes that the parser is fed next, at most up to the next boundary."""
        if self.is_over:
            self.overhead += len(segment)
        elif len(segment) <= self._bytes_left:
            self._bytes_left -= len(segment)
        else:
            line = segment[self._bytes_left :]
            self._bytes_left = 0
            self._line += line
            self.overhead += len(line)

    def start_chunk(self) -> None:
        """Start the chunk whose size the parser has read. Raises BadRequest.

        The tracked line must hold a size, or the parser and this tracker would disagree.
        """
        match = SIZE.fullmatch(self._line)
        if match is None:
            raise BadRequest("The chunked body has an ambiguous chunk size.")
        size = int(match[1], 16)
        self._line = b""
        self.overhead = max(0, self.overhead + LINE_END_BYTES - FRAME_BYTES)
        if size == 0:
            self.is_over = True
            return
        self._bytes_left = size + LINE_END_BYTES
        self._chunks += 1
        self._data_bytes += size
        if self._chunks > SMALL_CHUNKS_MAX and self._data_bytes < SMALL_BYTES * self._chunks:
            raise BadRequest("The body has too many small chunks.")
