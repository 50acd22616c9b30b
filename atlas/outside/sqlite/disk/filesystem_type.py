"""What kind of file system a journal lies on: over a network, nobody can promise to keep it.

There a lock may be two, and a sync that has succeeded may be lost.
"""

import os
import re
from contextlib import suppress
from pathlib import Path

from atlas.core.errors import CommandError

NETWORKED = re.compile(r"nfs|cifs|smb|afs|ceph|gluster|lustre|gpfs|fuse\.(sshfs|s3fs|rclone)")
MOUNTS = Path("/proc/self/mountinfo")


def require_local(folder: Path) -> None:
    """Raises CommandError, OSError. Where the system does not tell, it is taken for a disk."""
    mounts = ""
    with suppress(OSError):
        mounts = MOUNTS.read_text(encoding="utf-8", errors="replace")
    kind = find_type(folder.stat().st_dev, mounts)
    if NETWORKED.match(kind):
        raise CommandError(
            f"The folder {folder} lies on {kind}, a file system over a network, which cannot keep "
            "a journal: give ATLAS_JOURNAL a place on a disk of this machine."
        )


def find_type(device: int, mounts: str) -> str:
    """The type of the file system with this number; "" if none of these mounts has it.

    The format: proc_pid_mountinfo(5). In front of the " - " stand optional fields, behind it the
    type.
    """
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        if before.split()[2:3] == [number]:
            return after.partition(" ")[0]
    return ""
