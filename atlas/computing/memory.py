"""Large blocks of memory go back to the system when they are freed.

glibc does so at first. When it sees a large block freed it begins to keep such blocks instead, up
to 32 MiB each: what is quicker for a program that needs them again at once is twice the memory for
one that is done with a body. To be told a threshold ends its learning.

A worker keeps a few MiB of what is smaller than a MiB, for the next piece: a new page costs the
kernel more than what is made in it costs us. The service itself does not: with the same limits it
takes a tenth less of the processor for exports of 3 MB, and 20 to 40 MiB more for streams.
"""

import ctypes
from contextlib import suppress

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
LARGE_BYTES = 256 * 1024
LARGE_BYTES_OF_WORKER, KEPT_BYTES_OF_WORKER = 1024 * 1024, 4 * 1024 * 1024


def give_back_large_blocks() -> None:
    """For the rest of this process; where the C library is another, nothing."""
    limit(M_MMAP_THRESHOLD, LARGE_BYTES)


def keep_blocks_of_a_worker() -> None:
    """The same, in a worker."""
    limit(M_MMAP_THRESHOLD, LARGE_BYTES_OF_WORKER)
    limit(M_TRIM_THRESHOLD, KEPT_BYTES_OF_WORKER)


def limit(parameter: int, bytes: int) -> None:
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).mallopt(parameter, bytes)
