"""Keeps the main file of a journal in use unchanged, so that another process can read it.

The service locks the file exclusively, so SQLite admits no second connection. But while its writes
go to the WAL only, the main file is a snapshot that everybody can read as immutable.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from atlas.core.errors import Unavailable
from atlas.outside.sqlite.group_commit import GroupCommit

WAIT_SECONDS = 10.0  # for another command; the end of one is noticed a moment later


class HeldFile:
    """Implements `ports.JournalFile`. `is_checked`: no check of the file is running."""

    def __init__(self, commits: GroupCommit) -> None:
        self.is_checked = True
        self._commits = commits
        self._lock = anyio.Lock()

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[None]:
        with anyio.move_on_after(WAIT_SECONDS) as waiting:
            await self._lock.acquire()
        if waiting.cancelled_caught:
            raise Unavailable("Another command reads the journal now. Try again later.")
        try:
            if not self.is_checked:
                raise Unavailable("Atlas is still checking the journal. Try again later.")
            async with self._freeze():
                yield
        finally:
            self._lock.release()

    @asynccontextmanager
    async def _freeze(self) -> AsyncIterator[None]:
        try:
            await self._commits.freeze()
            yield
        finally:
            with anyio.CancelScope(shield=True):
                await self._commits.unfreeze()
