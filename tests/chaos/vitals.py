"""What the service holds, looked at from outside: memory and descriptors. Only Linux tells."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio

from tests.chaos.subject import Skipped

SAMPLE_SECONDS = 1.0
PEAK, NOW = "VmHWM", "VmRSS"


class Vitals:
    """Of one process. `most_mib` is what it and its workers held at most while it was watched.

    Its own memory is that of the kernel's high-water mark; of several processes what each has for
    itself (PSS), as they share their libraries.
    """

    def __init__(self, pid: int) -> None:
        self._proc = Path(f"/proc/{pid}")
        self.most_mib = 0.0
        if not (self._proc / "smaps_rollup").exists():
            raise Skipped("needs /proc of Linux to measure a process from outside")

    def mib(self, what: str = NOW) -> float:
        """Of the service alone: now, or the PEAK since it was last forgotten."""
        found = re.search(rf"{what}:\s*(\d+) kB", read(self._proc / "status"))
        return int(found[1]) / 1024 if found else 0.0

    def mib_with_workers(self) -> float:
        return sum(pss_mib(each) for each in (self._proc, *self._workers()))

    def descriptors(self) -> int:
        return sum(1 for _ in (self._proc / "fd").iterdir())

    def forget_peak(self) -> None:
        """From here on the peak is a new one."""
        (self._proc / "clear_refs").write_text("5", encoding="ascii")
        self.most_mib = 0.0

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Looked at once a second for as long as the block lasts."""

        async def look() -> None:
            while True:
                now = await anyio.to_thread.run_sync(self.mib_with_workers)
                self.most_mib = max(self.most_mib, now)
                await anyio.sleep(SAMPLE_SECONDS)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(look)
            yield
            tasks.cancel_scope.cancel()

    def _workers(self) -> list[Path]:
        children = read(self._proc / "task" / self._proc.name / "children")
        return [self._proc.parent / each for each in children.split()]


def pss_mib(proc: Path) -> float:
    """Zero of one that is gone."""
    found = re.search(r"^Pss:\s+(\d+) kB", read(proc / "smaps_rollup"), re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


def read(file: Path) -> str:
    """Nothing of a process that is gone."""
    try:
        return file.read_text(encoding="utf-8")
    except OSError:
        return ""
