"""Large blocks of memory go back to the system when they are freed.

glibc does so at first. When it sees a large block freed it begins to keep such blocks instead, up
to 32 MiB each: what is quicker for a program that needs them again at once is twice the memory for
one that is done with a body. To be told a threshold ends its learning.
"""

import ctypes
from contextlib import suppress

M_MMAP_THRESHOLD = -3  # of glibc's malloc.h
LARGE_BYTES = 256 * 1024


def give_back_large_blocks() -> None:
    """For the rest of this process; where the C library is another, nothing."""
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)
