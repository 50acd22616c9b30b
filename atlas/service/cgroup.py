"""How much of the machine is ours: what a container may use of it, and not what it sees.

Linux tells in the files of control groups, `cpu.max` and `memory.max`, or those of their first
version: https://docs.kernel.org/admin-guide/cgroup-v2.html
"""

import math
import os
import re
from dataclasses import dataclass
from pathlib import Path

# What each is reckoned with: in the memory trials (200 batches of 25 MB at once, a stream of 1 GB)
# the service itself comes close to 256 MiB.
SERVICE_BYTES, WORKER_BYTES = 256 * 1024 * 1024, 48 * 1024 * 1024
WORKERS_MAX = 4  # more would wait for the journal


@dataclass(frozen=True, slots=True)
class CgroupLimits:
    """The processors that a process sees, all control groups, and the file that names its own."""

    cpu_count: int
    cgroup_root: Path = Path("/sys/fs/cgroup")
    process_cgroup: Path = Path("/proc/self/cgroup")

    def count_workers(self) -> int:
        """One a processor, as far as there is memory for them; on a single one they are no use."""
        cores, memory = self.count_processors(), self.read_memory_limit()
        if cores == 1:
            return 0
        if memory is not None:
            cores = min(cores, max(memory - SERVICE_BYTES, 0) // WORKER_BYTES)
        return min(cores, WORKERS_MAX)

    def count_processors(self) -> int:
        """Those that we may use; a part of one counts as one."""
        quota = read_numbers(self._find_cgroup() / "cpu.max")
        if not quota:
            first = self.cgroup_root / "cpu"
            quota = [
                *read_numbers(first / "cpu.cfs_quota_us"),
                *read_numbers(first / "cpu.cfs_period_us"),
            ]
        return (
            min(self.cpu_count, math.ceil(quota[0] / quota[1]))
            if len(quota) > 1
            else self.cpu_count
        )

    def read_memory_limit(self) -> int | None:
        """None if nobody has said how much."""
        limits = read_numbers(self._find_cgroup() / "memory.max")
        limits = limits or read_numbers(self.cgroup_root / "memory" / "memory.limit_in_bytes")
        return limits[0] if limits else None

    def _find_cgroup(self) -> Path:
        """The folder of our group; within a container that is the first one."""
        match = re.search(r"^0::/(.*)$", read_text(self.process_cgroup), re.MULTILINE)
        return self.cgroup_root / match[1] if match else self.cgroup_root


def detect_limits() -> CgroupLimits:
    if hasattr(os, "sched_getaffinity"):
        return CgroupLimits(len(os.sched_getaffinity(0)))
    return CgroupLimits(os.cpu_count() or 1)


def read_numbers(file: Path) -> list[int]:
    """What stands there, unless it says that there is no limit: `max 100000`, or -1."""
    words = read_text(file).split()
    return [int(each) for each in words] if all(map(str.isdecimal, words)) else []


def read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
