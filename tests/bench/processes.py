"""Processes of a benchmark, and their CPU time and memory as reported by Linux."""

import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.ready_line import read_ready_url

MEMORY_FOLDER = Path("/dev/shm")  # a folder in memory
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
STOP_SECONDS = 20


@dataclass
class Process:
    """A running process: the first line that it printed, and the rest of its output at its end."""

    pid: int
    first_line: str
    start_seconds: float
    output: str = ""

    @property
    def url(self) -> str:
        """The URL of a service, which prints it."""
        return read_ready_url(self.first_line)


@contextmanager
def start_process(
    command: Sequence[str | Path],
    environ: Mapping[str, str] | None = None,
    log: Path | None = None,
    folder: Path | None = None,
    *,
    is_signalled: bool = True,
) -> Iterator[Process]:
    """Start a process, which prints a line when it is ready, and end it afterwards.

    It is ended by SIGTERM, or else by closing its standard input. Its standard error goes to `log`,
    or to a temporary file in memory.
    """
    with tempfile.TemporaryDirectory(dir=find_memory_folder()) as name:
        log = log or Path(name) / "log"
        began = time.perf_counter()
        with log.open("wb") as errors:
            running = subprocess.Popen(
                command,
                env=os.environ | (environ or {}),
                cwd=folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        assert running.stdout is not None
        assert running.stdin is not None
        first_line = running.stdout.readline().strip()
        started = Process(running.pid, first_line, time.perf_counter() - began)
        try:
            assert started.first_line, (
                f"{command} did not start: {log.read_text(encoding='utf-8')[-2000:]}"
            )
            yield started
        finally:
            running.stdin.close()
            if is_signalled:
                running.terminate()
            started.output = running.stdout.read()
            running.wait(STOP_SECONDS)
            running.stdout.close()


def find_memory_folder() -> Path | None:
    return MEMORY_FOLDER if MEMORY_FOLDER.is_dir() else None


def measure_cpu_seconds(pid: int) -> float:
    """Return the CPU seconds of all threads of this process, including ended ones."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return 0.0
    user, system = text.rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / TICKS_A_SECOND


def list_children(pid: int) -> list[int]:
    """List the process's descendants."""
    found = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        for each in file.read_text(encoding="utf-8").split():
            found += [int(each), *list_children(int(each))]
    return found


def measure_pss(pid: int) -> float:
    """Return the proportional set size (PSS) in MiB; zero if the process has ended."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8")
    except OSError:
        return 0.0
    found = re.search(r"^Pss: +(\d+) kB", text, re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0
