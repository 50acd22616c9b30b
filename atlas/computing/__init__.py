"""Runs CPU-bound work, in worker processes if there are any.

This is a separate package because workers import it, and it imports nothing of the service.
"""

from atlas.computing.malloc import return_free_memory, set_mmap_threshold
from atlas.computing.worker_executor import QUICK_BYTES_MAX, WorkerExecutor, run_cooperatively

__all__ = [
    "QUICK_BYTES_MAX",
    "WorkerExecutor",
    "return_free_memory",
    "run_cooperatively",
    "set_mmap_threshold",
]
