"""Collects cyclic garbage only while no request is under way.

A collection walks everything that waiting requests hold, and stops the loop meanwhile: for 0.1 s
with thousands of them, which adds up to a tenth of the cost of an export. It would find nothing:
exports, refusals and connections leave no cycles (tests/test_garbage.py).
"""

import gc
from collections.abc import Callable
from time import monotonic

import anyio

INTERVAL_SECONDS, INTERVAL_SECONDS_MAX = 60.0, 3_600.0


def disable_automatic_collection() -> None:
    """Collect once, and exempt everything that is loaded by now: it stays for good."""
    gc.collect()
    gc.freeze()
    gc.disable()


async def collect_when_idle(is_idle: Callable[[], bool]) -> None:
    """Collect once a minute if the process is idle, and once an hour even if it is not."""
    collected_at = monotonic()
    while True:
        await anyio.sleep(INTERVAL_SECONDS)
        if is_idle() or monotonic() - collected_at > INTERVAL_SECONDS_MAX:
            gc.collect()
            collected_at = monotonic()
