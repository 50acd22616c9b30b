"""Large blocks of memory go back to the system when they are freed.

glibc does so at first. When it sees a large block freed it begins to keep such blocks instead, up
to 32 MiB each: what is quicker for a program that needs them again at once is twice the memory for
one that is done with a body. To be told a threshold ends its learning.

What is smaller is kept for the next, up to a few MiB: a new page costs the kernel more than what is
made in it costs us. Work on large exports is cut into pieces that are so small.
"""

import ctypes
from contextlib import suppress

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
LARGE_BYTES, KEPT_BYTES = 1024 * 1024, 4 * 1024 * 1024


def give_back_large_blocks() -> None:
    """For the rest of this process; where the C library is another, nothing."""
    with suppress(AttributeError, OSError, TypeError):
        library = ctypes.CDLL(None)
        library.mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)
        library.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
