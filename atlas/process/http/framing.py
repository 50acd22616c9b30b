"""How far a message goes, as far as it has come: chunks, and the empty line at an end.

No body is over before the line that says the size of its last chunk (RFC 9112, section 7.1). So the
parser gets it up to the end of such a line, with all of the chunk before, which nobody looks into.
Whether that is a line of this kind is the parser's word.
"""

import re
from dataclasses import dataclass

from atlas.core.errors import BadRequest

EMPTY_LINE = b"\r\n\r\n"
LINE_END_BYTES = 2
FRAME_BYTES = 16  # size and line ends of a chunk; what is more is an extension
SMALL_CHUNKS_MAX = 16 * 1024
SMALL_BYTES = 64  # of data: each chunk costs as much time as some thousand bytes
SIZE = re.compile(rb"([0-9A-Fa-f]+)(?:;[^\n]*)?\r\n")


def cut_at_empty_line(data: bytes, at: int, tail: bytes) -> int:
    """Behind the first one from there on, or all. `tail`: the last three bytes before."""
    if tail:
        found = (tail + data[at : at + 3]).find(EMPTY_LINE)
        if found >= 0:
            return at + found + len(EMPTY_LINE) - len(tail)
    found = data.find(EMPTY_LINE, at)
    return len(data) if found < 0 else found + len(EMPTY_LINE)


@dataclass(slots=True)
class Chunks:
    """Those of one body, as far as they have come."""

    surplus: int = 0  # bytes that are none of the body, beyond plain frames
    is_over: bool = False  # the last has been; trailers follow
    _left: int = 0  # of the chunk at hand, and of its line end
    _line: bytes = b""  # what says the next size, as far as it has come
    _count: int = 0
    _carried: int = 0

    def cut(self, data: bytes, at: int) -> int:
        """Behind the next line that says a size, or all."""
        found = data.find(b"\n", at + self._left)
        return len(data) if found < 0 else found + 1

    def take(self, piece: bytes) -> None:
        """It goes to the parser now, and no further than `cut` says."""
        if self.is_over:
            self.surplus += len(piece)
        elif len(piece) <= self._left:
            self._left -= len(piece)
        else:
            line = piece[self._left :]
            self._left = 0
            self._line += line
            self.surplus += len(line)

    def begin(self) -> None:
        """The parser has found a size: it must be the one at hand. Raises BadRequest."""
        said = SIZE.fullmatch(self._line)
        if said is None:
            raise BadRequest("The body comes in chunks whose sizes could be read in two ways.")
        size = int(said[1], 16)
        self._line = b""
        self.surplus = max(0, self.surplus + LINE_END_BYTES - FRAME_BYTES)
        if size == 0:
            self.is_over = True
            return
        self._left = size + LINE_END_BYTES
        self._count += 1
        self._carried += size
        if self._count > SMALL_CHUNKS_MAX and self._carried < SMALL_BYTES * self._count:
            raise BadRequest("The body comes in too small chunks.")
