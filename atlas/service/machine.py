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
class Machine:
    """The processors that a process sees, all control groups, and the file that names its own."""

    seen: int
    groups: Path = Path("/sys/fs/cgroup")
    ours: Path = Path("/proc/self/cgroup")

    def workers(self) -> int:
        """One a processor, as far as there is memory for them; on a single one they are no use."""
        cores, memory = self.processors(), self.memory_bytes()
        if cores == 1:
            return 0
        if memory is not None:
            cores = min(cores, max(memory - SERVICE_BYTES, 0) // WORKER_BYTES)
        return min(cores, WORKERS_MAX)

    def processors(self) -> int:
        """Those that we may use; a part of one counts as one."""
        quota = numbers(self._own() / "cpu.max")
        if not quota:
            first = self.groups / "cpu"
            quota = [*numbers(first / "cpu.cfs_quota_us"), *numbers(first / "cpu.cfs_period_us")]
        return min(self.seen, math.ceil(quota[0] / quota[1])) if len(quota) > 1 else self.seen

    def memory_bytes(self) -> int | None:
        """None if nobody has said how much."""
        found = numbers(self._own() / "memory.max")
        found = found or numbers(self.groups / "memory" / "memory.limit_in_bytes")
        return found[0] if found else None

    def _own(self) -> Path:
        """The folder of our group; within a container that is the first one."""
        found = re.search(r"^0::/(.*)$", text(self.ours), re.MULTILINE)
        return self.groups / found[1] if found else self.groups


def here() -> Machine:
    if hasattr(os, "sched_getaffinity"):
        return Machine(len(os.sched_getaffinity(0)))
    return Machine(os.cpu_count() or 1)


def numbers(file: Path) -> list[int]:
    """What stands there, unless it says that there is no limit: `max 100000`, or -1."""
    said = text(file).split()
    return [int(each) for each in said] if all(map(str.isdecimal, said)) else []


def text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
