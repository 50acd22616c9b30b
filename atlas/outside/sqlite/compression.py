"""Files as the journal keeps them: compressed with Zstandard, in frames one behind the other.

That none is missing is for the journal's seal to know: a frame at the end leaves no gap.
"""

import sys

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

LEVEL = -1  # a third faster than 1 for an export of 11 records, and 2 % of it larger
STEP_BYTES = 128 * 1024  # no large block (computing/malloc.py)

# One for all threads, which take turns: to make one costs four times what a small export does.
_compressor = zstd.ZstdCompressor(level=LEVEL)


def compress(rows: bytes) -> bytes:
    """Compress into one frame."""
    return _compressor.compress(rows, zstd.ZstdCompressor.FLUSH_FRAME)


def decompress_into(file: bytearray, packed: bytes) -> None:
    """Append the content of these frames to a file. Raises ZstdError."""
    rest = memoryview(packed)
    while rest:
        size = zstd.get_frame_size(rest)
        frame = zstd.ZstdDecompressor()
        file += frame.decompress(rest[:size], STEP_BYTES)
        while not frame.eof:
            file += frame.decompress(b"", STEP_BYTES)
        rest = rest[size:]


def decompress(packed: bytes) -> bytes:
    """Raises ZstdError."""
    file = bytearray()
    decompress_into(file, packed)
    return bytes(file)
