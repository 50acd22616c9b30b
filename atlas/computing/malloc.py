"""Makes glibc's malloc return memory to the system.

By default, glibc raises the threshold for large blocks as soon as one is freed, and keeps blocks
below it, up to 32 MiB each. That is faster for a program that needs them again soon, but takes
twice the memory of one that does not. A fixed threshold switches off the adjustment.

A worker keeps a few MiB of blocks below 1 MiB for its next task, because new pages cost more time
in the kernel than the work on them. The service itself does not: with the same limits it would take
10 % less CPU for exports of 3 MB, and 20 to 40 MiB more memory for streams.
"""

import ctypes
from contextlib import suppress

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
MMAP_THRESHOLD_BYTES = 256 * 1024
WORKER_MMAP_THRESHOLD_BYTES, WORKER_TRIM_THRESHOLD_BYTES = 1024 * 1024, 4 * 1024 * 1024


def set_mmap_threshold() -> None:
    """Set the threshold for the rest of this process. Does nothing with other C libraries."""
    set_threshold(M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES)


def set_worker_thresholds() -> None:
    """Set the thresholds of a worker."""
    set_threshold(M_MMAP_THRESHOLD, WORKER_MMAP_THRESHOLD_BYTES)
    set_threshold(M_TRIM_THRESHOLD, WORKER_TRIM_THRESHOLD_BYTES)


def return_free_memory() -> None:
    """Return the free pages of the heap to the system; takes 0.3 ms for each MiB returned.

    By itself, glibc returns only those above the last block in use, so the heap would stay as large
    as a flood of requests has made it. Does nothing with other C libraries.
    """
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def set_threshold(parameter: int, bytes: int) -> None:
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).mallopt(parameter, bytes)
