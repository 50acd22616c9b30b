"""One process owns a journal, and may read and write it. The lock goes with the process."""

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from atlas.core.errors import JournalLocked
from atlas.outside.sqlite.disk.filesystem_type import require_local
from atlas.outside.sqlite.disk.folder import build_sibling_path

# of what lies there, and SQLite says no more than that it cannot open a file
NEEDED = {"": os.O_RDWR, "-wal": os.O_RDWR, ".seal": os.O_RDONLY, ".key": os.O_RDONLY}
ELSEWHERE = "or name another place in ATLAS_JOURNAL"


@contextmanager
def hold_exclusive(path: Path, owner: str, wait_seconds: float) -> Iterator[None]:
    """Hold the lock beside the journal; `owner` is told to whoever finds it held.

    Raises JournalLocked when another still holds it after `wait_seconds`, CannotStart where no lock
    can be relied on, OSError.
    """
    lock = build_sibling_path(path, ".lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    require_local(path.parent)
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        acquire(descriptor, path, wait_seconds)
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()} {owner}".encode(), 0)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def hold_shared(path: Path) -> Iterator[None]:
    """Nobody begins to hold it meanwhile; nothing is made, or written.

    Raises JournalLocked when somebody does, OSError.
    """
    lock = build_sibling_path(path, ".lock")
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
                raise JournalLocked(path, pid, owner) from None
            time.sleep(0.1)


def require_access(journal: Path) -> None:
    """What is there of it can be opened. Raises OSError, which names the file."""
    for ending, how in NEEDED.items():
        with suppress(FileNotFoundError):
            os.close(os.open(build_sibling_path(journal, ending), how | os.O_CLOEXEC))


def explain_no_access(journal: Path, error: OSError) -> str:
    """Why it cannot be opened, and what helps; a sentence."""
    folder = journal.absolute().parent
    if error.errno == errno.EROFS:
        return (
            f"the file system is read-only. Mount {folder} so that it can be written, {ELSEWHERE}."
        )
    if error.errno in {errno.EACCES, errno.EPERM}:
        place, owner = find_nearest_existing(Path(error.filename or journal))
        us = os.geteuid()
        if owner == us:
            return f"{place} keeps its owner out. chmod u+rwX {place}, {ELSEWHERE}."
        give = "chown -R" if os.access(folder, os.F_OK) else "install -d -o"
        return (
            f"{place} belongs to user {owner}, and Atlas is user {us}. {give} {us} {folder} (in "
            f"Kubernetes fsGroup: {os.getegid()}, with podman, :U behind the volume), {ELSEWHERE}."
        )
    if error.errno in {errno.EEXIST, errno.ENOTDIR}:
        return f"a folder above it is a file. Remove that, {ELSEWHERE}."
    return f"{error.strerror}."


def find_nearest_existing(path: Path) -> tuple[Path, int]:
    """The file, or the folder that is there and would hold it; and whose that is."""
    path = path.absolute()
    for each in (path, *path.parents):
        with suppress(OSError):
            return each, each.stat().st_uid
    return path, 0
