"""Processes of a bench, and what Linux says of them: seconds of the processor, memory."""

import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MEMORY = Path("/dev/shm")  # for files that are on no disk
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
STOP_SECONDS = 20


@dataclass
class Process:
    """A running process: its first line, and what it says at its end."""

    pid: int
    said: str
    start_seconds: float
    last_words: str = ""


@contextmanager
def process(
    command: Sequence[str | Path],
    environ: Mapping[str, str] | None = None,
    log: Path | None = None,
    folder: Path | None = None,
    *,
    is_signalled: bool = True,
) -> Iterator[Process]:
    """A process that tells in its first line that it is ready.

    It is ended by SIGTERM, or else with its standard input. Its standard error goes into a file:
    `log`, or one in memory that is gone behind it.
    """
    with tempfile.TemporaryDirectory(dir=in_memory()) as name:
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
        said = running.stdout.readline().strip()
        found = Process(running.pid, said, time.perf_counter() - began)
        try:
            assert found.said, f"{command} did not start: {log.read_text(encoding='utf-8')[-2000:]}"
            yield found
        finally:
            running.stdin.close()
            if is_signalled:
                running.terminate()
            found.last_words = running.stdout.read()
            running.wait(STOP_SECONDS)
            running.stdout.close()


def in_memory() -> Path | None:
    return MEMORY if MEMORY.is_dir() else None


def processor_seconds(pid: int) -> float:
    """All threads of one process, those that have ended too, and no other process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return 0.0
    user, system = text.rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / TICKS_A_SECOND


def children(pid: int) -> list[int]:
    """Children of all its threads, and theirs."""
    found = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        for each in file.read_text(encoding="utf-8").split():
            found += [int(each), *children(int(each))]
    return found


def pss_mib(pid: int) -> float:
    """Memory of its own, with its share of what it shares; zero for one that is gone."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8")
    except OSError:
        return 0.0
    found = re.search(r"^Pss: +(\d+) kB", text, re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0
