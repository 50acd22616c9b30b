"""When cycles of garbage are looked for: when no request is under way.

A collection walks everything that waiting requests hold, and the loop stands still for it: 0.1 s
with thousands of them, and in all a tenth of what an export costs. For nothing: exports leave no
cycles, nor do refusals and connections (tests/test_garbage.py).
"""

import gc
from collections.abc import Callable
from time import monotonic

import anyio

EVERY_SECONDS, AT_LATEST_SECONDS = 60.0, 3_600.0


def collect_seldom() -> None:
    """From now on; modules, which stay for good, are passed over."""
    gc.collect()
    gc.freeze()
    gc.disable()


async def collect_when_idle(is_idle: Callable[[], bool]) -> None:
    """All of it once a minute, if it is in nobody's way; and once an hour even so."""
    collected_at = monotonic()
    while True:
        await anyio.sleep(EVERY_SECONDS)
        if is_idle() or monotonic() - collected_at > AT_LATEST_SECONDS:
            gc.collect()
            collected_at = monotonic()
