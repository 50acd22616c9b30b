"""Waits for other processes: until a condition holds, and whether a process has ended."""

import time
from pathlib import Path

import pytest

ENDS_SECONDS = 10.0


def until(true, seconds=ENDS_SECONDS):
    for _ in range(int(seconds / 0.05)):
        if found := true():
            return found
        time.sleep(0.05)
    pytest.fail("It never came to that.")


def is_gone(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state == "Z"
