"""Whether we may read and write where a journal lies; if not, what is to be done about it.

SQLite says no more than that it cannot open a file.
"""

import errno
import os
from contextlib import suppress
from pathlib import Path

from atlas.outside.sqlite.disk.folder import beside

# the lock is opened before: disk/lock.py
NEEDED = {"": os.O_RDWR, "-wal": os.O_RDWR, ".seal": os.O_RDONLY, ".key": os.O_RDONLY}
ELSEWHERE = "or name another place in ATLAS_JOURNAL"


def require(journal: Path) -> None:
    """What is there of it can be opened. Raises OSError, which names the file."""
    for ending, how in NEEDED.items():
        with suppress(FileNotFoundError):
            os.close(os.open(beside(journal, ending), how | os.O_CLOEXEC))


def reason(journal: Path, error: OSError) -> str:
    """Why it cannot be opened, and what helps; a sentence."""
    folder = journal.absolute().parent
    if error.errno == errno.EROFS:
        return (
            f"the file system is read-only. Mount {folder} so that it can be written, {ELSEWHERE}."
        )
    if error.errno in {errno.EACCES, errno.EPERM}:
        place, owner = nearest(Path(error.filename or journal))
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


def nearest(path: Path) -> tuple[Path, int]:
    """The file, or the folder that is there and would hold it; and whose that is."""
    path = path.absolute()
    for each in (path, *path.parents):
        with suppress(OSError):
            return each, each.stat().st_uid
    return path, 0
