"""CPU and memory limits of the container, which may be lower than those of the machine.

Read from the control group files `cpu.max` and `memory.max`, or from their version 1 equivalents:
https://docs.kernel.org/admin-guide/cgroup-v2.html
"""

import math
import os
import re
from dataclasses import dataclass
from pathlib import Path

# Memory budget of the service and of each worker. In load tests (200 concurrent batches of 25 MB,
# a stream of 1 GB) the service itself used almost 256 MiB.
SERVICE_BYTES, WORKER_BYTES = 256 * 1024 * 1024, 48 * 1024 * 1024
WORKERS_MAX = 4  # beyond that, the journal is the bottleneck


@dataclass(frozen=True, slots=True)
class CgroupLimits:
    """Limits of this process, from its control group."""

    cpu_count: int  # visible to the process; its control group may allow less
    cgroup_root: Path = Path("/sys/fs/cgroup")
    process_cgroup: Path = Path("/proc/self/cgroup")

    def count_workers(self) -> int:
        """One worker per processor, as far as memory allows; none on a single processor."""
        workers, memory = self.count_processors(), self.read_memory_limit()
        if workers == 1:
            return 0
        if memory is not None:
            workers = min(workers, max(memory - SERVICE_BYTES, 0) // WORKER_BYTES)
        return min(workers, WORKERS_MAX)

    def count_processors(self) -> int:
        """Return the number of usable processors, rounded up."""
        quota = read_numbers(self._find_cgroup() / "cpu.max")
        if not quota:
            cpu = self.cgroup_root / "cpu"
            quota = read_numbers(cpu / "cpu.cfs_quota_us") + read_numbers(cpu / "cpu.cfs_period_us")
        if len(quota) < 2:
            return self.cpu_count
        return min(self.cpu_count, math.ceil(quota[0] / quota[1]))

    def read_memory_limit(self) -> int | None:
        """Return the limit in bytes, or None if there is none."""
        limits = read_numbers(self._find_cgroup() / "memory.max")
        limits = limits or read_numbers(self.cgroup_root / "memory" / "memory.limit_in_bytes")
        return limits[0] if limits else None

    def _find_cgroup(self) -> Path:
        """Return the folder of this process's control group; inside a container, the root."""
        match = re.search(r"^0::/(.*)$", read_text(self.process_cgroup), re.MULTILINE)
        return self.cgroup_root / match[1] if match else self.cgroup_root


def detect_limits() -> CgroupLimits:
    if hasattr(os, "sched_getaffinity"):
        return CgroupLimits(len(os.sched_getaffinity(0)))
    return CgroupLimits(os.cpu_count() or 1)


def read_numbers(file: Path) -> list[int]:
    """Return the numbers in a file; none if it sets no limit (`max 100000` or `-1`)."""
    words = read_text(file).split()
    return [int(each) for each in words] if all(map(str.isdecimal, words)) else []


def read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
