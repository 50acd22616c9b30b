"""Work that takes the processor, in worker processes where there are some.

A room of its own, as a worker imports it, and with it nothing of the loop that it serves.
"""

from atlas.computing.computing import QUICK_BYTES_MAX, Computing, stepwise
from atlas.computing.memory import give_back_large_blocks

__all__ = ["QUICK_BYTES_MAX", "Computing", "give_back_large_blocks", "stepwise"]
