"""Files as the journal keeps them: compressed with Zstandard, in frames one behind the other.

That none is missing is for the journal's seal to know: a frame at the end leaves no gap.
"""

import threading

import zstandard

LEVEL = -1  # a third faster than 1 for an export of 11 records, and 2 % of it larger
STEP_BYTES = 128 * 1024  # no large block (computing/memory.py)


class Contexts(threading.local):
    """One of each for every thread: to make one costs twice what a small export does."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=LEVEL)
        self.decompressor = zstandard.ZstdDecompressor()


_contexts = Contexts()


def pack(rows: bytes) -> bytes:
    """One frame."""
    return _contexts.compressor.compress(rows)


def unpack_into(file: bytearray, packed: bytes) -> None:
    """Add to a file what is in these frames. Raises zstandard.ZstdError."""
    reader = _contexts.decompressor.stream_reader(packed, read_across_frames=True)
    while step := reader.read(STEP_BYTES):
        file += step


def unpack(packed: bytes) -> bytes:
    """Raises zstandard.ZstdError."""
    file = bytearray()
    unpack_into(file, packed)
    return bytes(file)
