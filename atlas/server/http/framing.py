"""Finds the next place where a message may end: chunk sizes, and the empty line behind headers.

A chunked body cannot end before the line with the size of its last chunk (RFC 9112, section 7.1).
So the parser is fed up to the end of each such line, with the data of the chunk before, which is
not looked at here. Whether the line is valid is decided by the parser.
"""

import re
from dataclasses import dataclass

from atlas.core.errors import BadRequest

EMPTY_LINE = b"\r\n\r\n"
LINE_END_BYTES = 2
FRAME_BYTES = 16  # size and line ends of a chunk; more than that is an extension
SMALL_CHUNKS_MAX = 16 * 1024
SMALL_BYTES = 64  # of data: each chunk costs as much time as some thousand bytes
SIZE = re.compile(rb"([0-9A-Fa-f]+)(?:;[^\n]*)?\r\n")


def find_end_of_headers(data: bytes, at: int, tail: bytes) -> int:
    """The index behind the first empty line from `at` on, or the end of the data.

    `tail`: the last three bytes before, as an empty line may come in two pieces.
    """
    if tail:
        end = (tail + data[at : at + 3]).find(EMPTY_LINE)
        if end >= 0:
            return at + end + len(EMPTY_LINE) - len(tail)
    end = data.find(EMPTY_LINE, at)
    return len(data) if end < 0 else end + len(EMPTY_LINE)


@dataclass(slots=True)
class ChunkedTracker:
    """Tracks the chunks of one body as they come."""

    overhead: int = 0  # bytes that are not of the body, beyond plain frames
    is_over: bool = False  # the last chunk has come; trailers follow
    _bytes_left: int = 0  # of the current chunk and its line end
    _line: bytes = b""  # with the next size, as far as it has come
    _chunks: int = 0
    _data_bytes: int = 0

    def find_boundary(self, data: bytes, at: int) -> int:
        """The index behind the next line with a size, or the end of the data."""
        line_end = data.find(b"\n", at + self._bytes_left)
        return len(data) if line_end < 0 else line_end + 1

    def track(self, piece: bytes) -> None:
        """Count a piece, up to the next boundary at most, that goes to the parser now."""
        if self.is_over:
            self.overhead += len(piece)
        elif len(piece) <= self._bytes_left:
            self._bytes_left -= len(piece)
        else:
            line = piece[self._bytes_left :]
            self._bytes_left = 0
            self._line += line
            self.overhead += len(line)

    def start_chunk(self) -> None:
        """The parser has read a size: it must be that of the tracked line. Raises BadRequest."""
        match = SIZE.fullmatch(self._line)
        if match is None:
            raise BadRequest("The body comes in chunks whose sizes could be read in two ways.")
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
            raise BadRequest("The body comes in too small chunks.")
