"""Memory and descriptors of the service, measured from outside. Linux only."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio

from tests.chaos.service_process import Skipped

SAMPLE_SECONDS = 1.0
PEAK_FIELD, CURRENT_FIELD = "VmHWM", "VmRSS"


class ProcessMetrics:
    """Metrics of one process. `peak_mib` is the peak memory of it and its workers while sampled.

    The memory of a single process is the kernel's high-water mark; that of several processes is the
    sum of their proportional set sizes (PSS), because they share libraries.
    """

    def __init__(self, pid: int) -> None:
        self._proc = Path(f"/proc/{pid}")
        self.peak_mib = 0.0
        if not (self._proc / "smaps_rollup").exists():
            raise Skipped("needs /proc of Linux to measure a process from outside")

    def measure(self, what: str = CURRENT_FIELD) -> float:
        """Return the memory of the service alone, in MiB: the current one, or the peak since the
        last reset.
        """
        match_ = re.search(rf"{what}:\s*(\d+) kB", read_or_empty(self._proc / "status"))
        return int(match_[1]) / 1024 if match_ else 0.0

    def measure_with_workers(self) -> float:
        return sum(measure_pss(each) for each in (self._proc, *self._list_workers()))

    def count_descriptors(self) -> int:
        return sum(1 for _ in (self._proc / "fd").iterdir())

    def reset_peak(self) -> None:
        """Start measuring a new peak."""
        (self._proc / "clear_refs").write_text("5", encoding="ascii")
        self.peak_mib = 0.0

    @asynccontextmanager
    async def sampling(self) -> AsyncIterator[None]:
        """Sample once a second while the block runs."""

        async def sample() -> None:
            while True:
                now = await anyio.to_thread.run_sync(self.measure_with_workers)
                self.peak_mib = max(self.peak_mib, now)
                await anyio.sleep(SAMPLE_SECONDS)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sample)
            yield
            tasks.cancel_scope.cancel()

    def _list_workers(self) -> list[Path]:
        children = read_or_empty(self._proc / "task" / self._proc.name / "children")
        return [self._proc.parent / each for each in children.split()]


def measure_pss(proc: Path) -> float:
    """Return the PSS in MiB; zero if the process has ended."""
    match_ = re.search(r"^Pss:\s+(\d+) kB", read_or_empty(proc / "smaps_rollup"), re.MULTILINE)
    return int(match_[1]) / 1024 if match_ else 0.0


def read_or_empty(file: Path) -> str:
    """Read a file of /proc; empty if the process has ended."""
    try:
        return file.read_text(encoding="utf-8")
    except OSError:
        return ""
