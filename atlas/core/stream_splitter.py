"""A streamed body is cut into parts, each of which is an export of its own.

Where it is cut decides what is recognised when it is sent again, so that depends on nothing but the
bytes: at the first line end after each PART_BYTES.
"""

from collections.abc import Iterator
from typing import NamedTuple

from atlas.core.records import LINE_BYTES_MAX

PART_BYTES = 4 * 1024 * 1024  # never to be changed: what was sent before would come in twice


class SplitPart(NamedTuple):
    """Whole lines: from where to where in the body, and the number of the first of them."""

    text: bytes
    offset: int
    end: int
    first: int


class StreamSplitter:
    """Takes a body as it comes, and holds no more of it than one part and the longest line.

    Of a line that is too long only so much is kept that it is seen to be.
    """

    def __init__(self, part_bytes: int = PART_BYTES, line_bytes_max: int = LINE_BYTES_MAX) -> None:
        self._part_bytes = part_bytes
        self._line_bytes_max = line_bytes_max
        self._text = bytearray()
        self._offset = 0
        self._first = 1
        self._searched = part_bytes - 1  # no line ends between here and where a part may
        self._line: int | None = None  # where the line begins that a full part ends with
        self._dropped = 0  # bytes of that line

    def feed(self, chunk: bytes) -> Iterator[SplitPart]:
        """The parts that are full with this."""
        self._text += chunk
        while len(self._text) > self._searched:
            end = self._text.find(b"\n", self._searched) + 1
            if not end:
                self._drop()
                return
            yield self._cut(end)

    def flush(self) -> SplitPart | None:
        """What is left when the body has ended as it should; None if nothing is."""
        return self._cut(len(self._text)) if self._text else None

    def _drop(self) -> None:
        """What nobody needs of the line that does not end."""
        if self._line is None:
            self._line = self._text.rfind(b"\n") + 1
        needed = self._line + self._line_bytes_max + 1
        self._dropped += max(0, len(self._text) - needed)
        del self._text[needed:]
        self._searched = len(self._text)

    def _cut(self, end: int) -> SplitPart:
        offset, self._offset = self._offset, self._offset + end + self._dropped
        piece = SplitPart(bytes(self._text[:end]), offset, self._offset, self._first)
        del self._text[:end]
        self._first += piece.text.count(b"\n")
        self._searched, self._line, self._dropped = self._part_bytes - 1, None, 0
        return piece
