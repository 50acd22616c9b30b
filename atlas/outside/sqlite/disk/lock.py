"""One process owns a journal. The lock goes with the process, however that dies."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from atlas.core.errors import JournalHeld
from atlas.outside.sqlite.disk.folder import beside
from atlas.outside.sqlite.disk.kind import refuse_networks


@contextmanager
def held(path: Path, owner: str, wait_seconds: float) -> Iterator[None]:
    """Hold the lock beside the journal; `owner` is told to whoever finds it held.

    Raises JournalHeld when another still holds it after `wait_seconds`, CannotStart where no lock
    can be relied on, OSError.
    """
    lock = beside(path, ".lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    refuse_networks(path.parent)
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        acquire(descriptor, path, wait_seconds)
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()} {owner}".encode(), 0)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def looked(path: Path) -> Iterator[None]:
    """Nobody begins to hold it meanwhile; nothing is made, or written.

    Raises JournalHeld when somebody does, OSError.
    """
    lock = beside(path, ".lock")
    if not lock.exists():
        yield
        return
    descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    try:
        acquire(descriptor, path, 0, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


def acquire(descriptor: int, path: Path, wait_seconds: float, how: int = fcntl.LOCK_EX) -> None:
    patience = time.monotonic() + wait_seconds
    while True:
        try:
            return fcntl.flock(descriptor, how | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= patience:
                pid, _, owner = os.pread(descriptor, 256, 0).decode().partition(" ")
                raise JournalHeld(path, pid, owner) from None
            time.sleep(0.1)
