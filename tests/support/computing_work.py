"""CPU-bound work that a test can observe from outside."""

import os
import time
from pathlib import Path

from atlas.computing import QUICK_BYTES_MAX

LITTLE = QUICK_BYTES_MAX
MUCH = LITTLE + 1


def tell_and_stay(path):
    Path(path).write_text(str(os.getpid()))
    while True:
        yield
        time.sleep(0.01)
