"""The lock of the journal, which the kernel releases when its process ends; permissions."""

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

# checked if they exist, because SQLite only reports that it cannot open a file
ACCESS_MODES = {"": os.O_RDWR, "-wal": os.O_RDWR, ".seal": os.O_RDONLY, ".key": os.O_RDONLY}
ELSEWHERE = "or set ATLAS_JOURNAL to another path"


@contextmanager
def hold_exclusive(path: Path, owner: str, wait_seconds: float) -> Iterator[None]:
    """Hold the lock of the journal; `owner` is reported to processes that find it locked.

    Raises JournalLocked if another process still holds it after `wait_seconds`, CommandError on a
    network file system, OSError.
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
    """Prevent processes from opening the journal, without creating or writing a file.

    Raises JournalLocked if one has it open, OSError.
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


def acquire(
    descriptor: int, path: Path, wait_seconds: float, operation: int = fcntl.LOCK_EX
) -> None:
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            return fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                pid, _, owner = os.pread(descriptor, 256, 0).decode().partition(" ")
                raise JournalLocked(path, pid, owner) from None
            time.sleep(0.1)


def require_access(journal: Path) -> None:
    """Check that the existing files can be opened. Raises OSError, which names the file."""
    for ending, mode in ACCESS_MODES.items():
        with suppress(FileNotFoundError):
            os.close(os.open(build_sibling_path(journal, ending), mode | os.O_CLOEXEC))


def explain_no_access(journal: Path, error: OSError) -> str:
    """Return the reason and a remedy, as a sentence."""
    folder = journal.absolute().parent
    if error.errno == errno.EROFS:
        return f"the file system is read-only. Mount {folder} as writable, {ELSEWHERE}."
    if error.errno in {errno.EACCES, errno.EPERM}:
        path, owner = find_nearest_existing(Path(error.filename or journal))
        user = os.geteuid()
        if owner == user:
            return (
                f"the mode of {path} denies access to its owner. chmod u+rwX {path}, {ELSEWHERE}."
            )
        command = "chown -R" if os.access(folder, os.F_OK) else "install -d -o"
        return (
            f"{path} belongs to user {owner}, and Atlas is user {user}. {command} {user} {folder} "
            f"(in Kubernetes fsGroup: {os.getegid()}; with podman, append :U to the volume), "
            f"{ELSEWHERE}."
        )
    if error.errno in {errno.EEXIST, errno.ENOTDIR}:
        return f"a folder above it is a file. Remove that, {ELSEWHERE}."
    return f"{error.strerror}."


def find_nearest_existing(path: Path) -> tuple[Path, int]:
    """Return the file, or the nearest folder above it that exists, and the uid of its owner."""
    path = path.absolute()
    for each in (path, *path.parents):
        with suppress(OSError):
            return each, each.stat().st_uid
    return path, 0
