"""The service under test, in a separate process: `python -m tests.chaos.service_main`.

It is `atlas serve` with two differences: a file shifts or stops its wall clock, and it may contain
a failpoint or a bug. It reads no environment, and ends when its parent process has ended.

    SETTINGS CLOCK [POINT PASSAGES SIGNAL]
"""

import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path

from atlas import server, service
from atlas.core.errors import CommandError
from atlas.core.ports import JournalPorts
from atlas.service import Dependencies, EventSubscribers
from atlas.settings import Settings, load
from tests.chaos import failpoints, injected_faults
from tests.chaos.failpoints import Failpoint
from tests.chaos.service_process import FIXED


def main(settings: Path, clock: Path, point: Sequence[str]) -> None:
    failpoint = parse_failpoint(*point) if point else None

    def utc_now() -> datetime:
        text = clock.read_text() or "0"
        if text.startswith(FIXED):
            return datetime.fromisoformat(text.removeprefix(FIXED))
        return datetime.now(UTC) + timedelta(seconds=float(text))

    @asynccontextmanager
    async def open_dependencies(
        settings: Settings, store: JournalPorts, readers: EventSubscribers
    ) -> AsyncIterator[Dependencies]:
        async with service.open_dependencies(settings, store, readers, utc_now) as world:
            yield install_failpoint(failpoint, world) if failpoint else world

    if failpoint and failpoint.point == failpoints.SQLITE:
        failpoints.install_in_sqlite(failpoint)
    if failpoint and failpoint.point in {failpoints.POSTGRES, failpoints.IN_LEASE}:
        failpoints.install_in_postgres(failpoint)
    threading.Thread(target=exit_with_parent, daemon=True).start()
    try:
        server.run(load(settings.read_bytes(), {}), nullcontext, print_ready, open_dependencies)
    except CommandError as refusal:
        sys.stderr.write(f"{refusal}\n")
        sys.exit(refusal.exit_code)


def parse_failpoint(point: str, hits: str, name: str = "SIGKILL") -> Failpoint:
    return Failpoint(point, int(hits), signal.Signals[name])


def install_failpoint(failpoint: Failpoint, world: Dependencies) -> Dependencies:
    return (
        injected_faults.inject(failpoint, world)
        if failpoint.point in injected_faults.PLACES
        else failpoints.install(failpoint, world)
    )


def print_ready(at: str) -> None:
    sys.stdout.write(f"ready {at}\n")
    sys.stdout.flush()


def exit_with_parent() -> None:
    while os.read(0, 1):  # not through sys.stdin, which the interpreter locks at exit
        pass
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
