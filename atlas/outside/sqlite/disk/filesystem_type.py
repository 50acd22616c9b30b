"""Rejects network file systems for the journal.

On those, two processes may hold the same lock, and a successful sync may be lost.
"""

import os
import re
from contextlib import suppress
from pathlib import Path

from atlas.core.errors import CommandError

NETWORKED = re.compile(r"nfs|cifs|smb|afs|ceph|gluster|lustre|gpfs|fuse\.(sshfs|s3fs|rclone)")
MOUNTS = Path("/proc/self/mountinfo")


def require_local(folder: Path) -> None:
    """Check that the folder is on a local disk. Raises CommandError, OSError.

    If the system does not report the type, the disk is assumed to be local.
    """
    mounts = ""
    with suppress(OSError):
        mounts = MOUNTS.read_text(encoding="utf-8", errors="replace")
    kind = find_type(folder.stat().st_dev, mounts)
    if NETWORKED.match(kind):
        raise CommandError(
            f"The folder {folder} is on {kind}, a network file system, which cannot store a "
            "journal safely: set ATLAS_JOURNAL to a path on a disk of this machine."
        )


def find_type(device: int, mounts: str) -> str:
    """Return the file system type of a device number; "" if it is not mounted.

    The format is described in proc_pid_mountinfo(5): a variable number of fields precedes " - ",
    and the type follows it.
    """
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        if before.split()[2:3] == [number]:
            return after.partition(" ")[0]
    return ""
