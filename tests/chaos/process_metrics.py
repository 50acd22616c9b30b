"""What the service holds, looked at from outside: memory and descriptors. Only Linux tells."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio

from tests.chaos.service_process import Skipped

SAMPLE_SECONDS = 1.0
PEAK_FIELD, CURRENT_FIELD = "VmHWM", "VmRSS"


class ProcessMetrics:
    """Of one process. `peak_mib` is what it and its workers held at most while it was watched.

    Its own memory is that of the kernel's high-water mark; of several processes what each has for
    itself (PSS), as they share their libraries.
    """

    def __init__(self, pid: int) -> None:
        self._proc = Path(f"/proc/{pid}")
        self.peak_mib = 0.0
        if not (self._proc / "smaps_rollup").exists():
            raise Skipped("needs /proc of Linux to measure a process from outside")

    def measure(self, what: str = CURRENT_FIELD) -> float:
        """Of the service alone: now, or the PEAK since it was last forgotten."""
        match_ = re.search(rf"{what}:\s*(\d+) kB", read_or_empty(self._proc / "status"))
        return int(match_[1]) / 1024 if match_ else 0.0

    def measure_with_workers(self) -> float:
        return sum(measure_pss(each) for each in (self._proc, *self._list_workers()))

    def count_descriptors(self) -> int:
        return sum(1 for _ in (self._proc / "fd").iterdir())

    def reset_peak(self) -> None:
        """From here on the peak is a new one."""
        (self._proc / "clear_refs").write_text("5", encoding="ascii")
        self.peak_mib = 0.0

    @asynccontextmanager
    async def sampling(self) -> AsyncIterator[None]:
        """Looked at once a second for as long as the block lasts."""

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
    """Zero of one that is gone."""
    match_ = re.search(r"^Pss:\s+(\d+) kB", read_or_empty(proc / "smaps_rollup"), re.MULTILINE)
    return int(match_[1]) / 1024 if match_ else 0.0


def read_or_empty(file: Path) -> str:
    """Nothing of a process that is gone."""
    try:
        return file.read_text(encoding="utf-8")
    except OSError:
        return ""
