"""The service under trial, in a process of its own: `python -m tests.chaos.victim`.

It is the service of `atlas serve`, with two differences: its wall clock is as wrong as a file says,
and it may carry a mine or a bug. It reads no environment, and ends when whoever started it is gone.

    SETTINGS CLOCK [POINT PASSAGES]
"""

import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path

from atlas import process, service
from atlas.core.errors import CannotStart
from atlas.service import Readers, Store, World
from atlas.settings import Settings, load
from tests.chaos import bugs, mines
from tests.chaos.mines import Mine


def main(settings: Path, clock: Path, point: Sequence[str]) -> None:
    mine = Mine(point[0], int(point[1])) if point else None

    def wall() -> datetime:
        return datetime.now(UTC) + timedelta(seconds=float(clock.read_text() or 0))

    @asynccontextmanager
    async def connected(settings: Settings, store: Store, readers: Readers) -> AsyncIterator[World]:
        async with service.connected(settings, store, readers, wall) as world:
            yield laid(mine, world) if mine else world

    if mine and mine.point == mines.SQLITE:
        mines.lay_in_sqlite(mine)
    threading.Thread(target=end_with_its_owner, daemon=True).start()
    try:
        process.run(load(settings.read_bytes(), {}), nullcontext, ready, connected)
    except CannotStart as refusal:
        sys.stderr.write(f"{refusal}\n")
        sys.exit(refusal.exit_code)


def laid(mine: Mine, world: World) -> World:
    return bugs.planted(mine, world) if mine.point in bugs.PLACES else mines.laid(mine, world)


def ready(at: str) -> None:
    sys.stdout.write(f"ready {at}\n")
    sys.stdout.flush()


def end_with_its_owner() -> None:
    while os.read(0, 1):  # not through sys.stdin: at its end, the interpreter wants that for itself
        pass
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
