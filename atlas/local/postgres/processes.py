"""Lists, signals and watches the processes of a server."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

# Its standard input ends with this process. A frozen server has to continue in order to end.
WATCHDOG = ("/bin/sh", "-c", 'read -r _; kill -QUIT "$0"; kill -CONT "$0"')


class ProcessEntry(NamedTuple):
    """A process that the system lists; the state T is that of a frozen one."""

    pid: int
    parent: int
    state: str


def list_running() -> list[ProcessEntry]:
    """Return the processes of this machine, without the zombies."""
    processes = list_in_proc() if Path("/proc/self/stat").exists() else list_with_ps()
    return [each for each in processes if each.state != "Z"]


def list_in_proc() -> Iterator[ProcessEntry]:
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            text = (folder / "stat").read_text(encoding="utf-8", errors="replace")
            state, parent, *_ = text.rpartition(")")[2].split()
            yield ProcessEntry(int(folder.name), int(parent), state)


def list_with_ps() -> Iterator[ProcessEntry]:
    command = ["/bin/ps", "-A", "-o", "pid=,ppid=,stat="]
    output = subprocess.check_output(command, text=True)  # noqa: S603 # nosec B603
    for line in output.splitlines():
        pid, parent, state = line.split()
        yield ProcessEntry(int(pid), int(parent), state[0])


def send(number: signal.Signals, pids: set[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def watch(server: int) -> subprocess.Popen[bytes]:
    """Start a process that ends the server when this process ends, however that comes about."""
    return subprocess.Popen(  # noqa: S603 # nosec B603
        [*WATCHDOG, str(server)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
