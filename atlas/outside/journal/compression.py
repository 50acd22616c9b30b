"""Compression of stored payloads: Zstandard, one or more consecutive frames.

A missing last frame is not noticed here; decryption of the row detects it.
"""

import sys
from collections.abc import Iterator

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

LEVEL = -1  # for an export of 11 records, a third faster than level 1 and 2 % larger
FRAME_MAGIC = bytes.fromhex("28b52ffd")  # the first bytes of a frame
STEP_BYTES = 128 * 1024  # avoids large blocks: see computing/malloc.py

# Shared by all threads, which take turns: creating one costs four times as much as a small export.
_compressor = zstd.ZstdCompressor(level=LEVEL)


def compress(rows: bytes) -> bytes:
    """Compress into one frame."""
    return _compressor.compress(rows, zstd.ZstdCompressor.FLUSH_FRAME)


def decompress_into(file: bytearray, compressed: bytes | memoryview) -> None:
    """Append the content of all frames to `file`. Raises ZstdError."""
    rest = memoryview(compressed)
    while rest:
        size = zstd.get_frame_size(rest)
        frame = zstd.ZstdDecompressor()
        file += frame.decompress(rest[:size], STEP_BYTES)
        while not frame.eof:
            file += frame.decompress(b"", STEP_BYTES)
        rest = rest[size:]


def decompress_parts(compressed: bytes, bytes_max: int) -> Iterator[bytes]:
    """Yield the content in parts of whole frames, each not much larger than this.

    Raises ZstdError.
    """
    part, rest = bytearray(), memoryview(compressed)
    while rest:
        size = zstd.get_frame_size(rest)
        decompress_into(part, rest[:size])
        rest = rest[size:]
        if len(part) >= bytes_max or not rest:
            yield bytes(part)
            part.clear()


def decompress(compressed: bytes) -> bytes:
    """Return the content of all frames. Raises ZstdError."""
    file = bytearray()
    decompress_into(file, compressed)
    return bytes(file)
