"""Splits a streamed body into parts, each of which is an export of its own.

A part that is sent again is recognized only if it is cut at the same place. So the cuts depend on
nothing but the bytes: a part ends at the first line end after PART_BYTES.
"""

from collections.abc import Iterator
from typing import NamedTuple

from atlas.core.records import LINE_BYTES_MAX

PART_BYTES = 4 * 1024 * 1024  # never change this: bodies that are sent again would be stored twice


class SplitPart(NamedTuple):
    """Whole lines of a body, their byte offsets in it, and the number of the first line."""

    text: bytes
    offset: int
    end: int
    first: int


class StreamSplitter:
    """Takes a body in chunks, and holds at most one part and the longest valid line.

    Of a line that is too long, it keeps just enough bytes for the line to be rejected.
    """

    def __init__(self, part_bytes: int = PART_BYTES, line_bytes_max: int = LINE_BYTES_MAX) -> None:
        self._part_bytes = part_bytes
        self._line_bytes_max = line_bytes_max
        self._text = bytearray()
        self._offset = 0
        self._first = 1
        self._search_start = part_bytes - 1  # the part's first line end is not before this
        self._last_line: int | None = None  # start of the unfinished line that ends a full part
        self._dropped = 0  # bytes of that line

    def feed(self, chunk: bytes) -> Iterator[SplitPart]:
        """Add a chunk, and yield the parts that are complete."""
        self._text += chunk
        while len(self._text) > self._search_start:
            end = self._text.find(b"\n", self._search_start) + 1
            if not end:
                self._drop()
                return
            yield self._cut(end)

    def flush(self) -> SplitPart | None:
        """Return the rest at the end of the body; None if there is none."""
        return self._cut(len(self._text)) if self._text else None

    def _drop(self) -> None:
        """Drop the bytes of an unfinished line beyond the longest valid line."""
        if self._last_line is None:
            self._last_line = self._text.rfind(b"\n") + 1
        needed = self._last_line + self._line_bytes_max + 1
        self._dropped += max(0, len(self._text) - needed)
        del self._text[needed:]
        self._search_start = len(self._text)

    def _cut(self, end: int) -> SplitPart:
        offset, self._offset = self._offset, self._offset + end + self._dropped
        part = SplitPart(bytes(self._text[:end]), offset, self._offset, self._first)
        del self._text[:end]
        self._first += part.text.count(b"\n")
        self._search_start, self._last_line, self._dropped = self._part_bytes - 1, None, 0
        return part
