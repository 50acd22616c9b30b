"""Files as the journal keeps them: compressed with Zstandard."""

import threading

import zstandard

LEVEL = -1  # a third faster than 1 for an export of 11 records, and 2 % of it larger

_of_this_thread = threading.local()  # to make one costs twice what a small export does


def pack(file: bytes) -> bytes:
    try:
        packed: bytes = _of_this_thread.compressor.compress(file)
    except AttributeError:
        _of_this_thread.compressor = zstandard.ZstdCompressor(level=LEVEL)
        return pack(file)
    return packed


def unpack(packed: bytes) -> bytes:
    """Raises zstandard.ZstdError."""
    return zstandard.decompress(packed)
