"""Runs CPU-bound work, in worker processes if there are any.

This is a package of its own because workers import it, and with it nothing of the service.
"""

from atlas.computing.computing import QUICK_BYTES_MAX, Computing, run_cooperatively
from atlas.computing.memory import give_back_large_blocks

__all__ = ["QUICK_BYTES_MAX", "Computing", "give_back_large_blocks", "run_cooperatively"]
