"""Collects cyclic garbage only while no request is in progress.

A collection visits all objects of waiting requests and blocks the loop meanwhile (for 0.1 s with
thousands of requests), which adds up to a tenth of the cost of an export. It would find nothing,
because exports, rejections and connections leave no cycles (tests/test_garbage.py). Libraries leave
some, so ten minutes are the limit.
"""

import gc
from collections.abc import Callable
from time import monotonic

import anyio

from atlas.computing import return_free_memory

INTERVAL_SECONDS, INTERVAL_SECONDS_MAX = 60.0, 600.0


def disable_automatic_collection() -> None:
    """Collect once, then exempt all objects that exist now, because they are permanent."""
    gc.collect()
    gc.freeze()
    gc.disable()


async def collect_when_idle(is_idle: Callable[[], bool]) -> None:
    """Collect once a minute if the process is idle, and every ten minutes even if it is not.

    Free memory is returned to the system once a minute.
    """
    collected_at = monotonic()
    while True:
        await anyio.sleep(INTERVAL_SECONDS)
        if is_idle() or monotonic() - collected_at > INTERVAL_SECONDS_MAX:
            gc.collect()
            collected_at = monotonic()
        return_free_memory()
