"""A process that stores exports in a journal and prints the id of each that is safe.

    python -m tests.reliability.victim JOURNAL EXPORTS SYNCHRONOUS

It prints nothing for an export that was not acknowledged.
"""

import asyncio
import os
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from atlas.core.errors import AtlasError, CommandError
from atlas.core.ports import JournalPorts
from atlas.outside.journal.capacity import CapacityLimits
from atlas.outside.journal.compression import decompress
from atlas.outside.sqlite import journal
from tests.support.exports import ADA, SHELF, content, export

SENDERS = 4  # concurrent, so that they share commits
KEPT_MAX = 1_000_000_000
CANNOT_START = 3  # 1 would be a bug


@contextmanager
def open_journal(path: Path) -> Iterator[JournalPorts]:
    with journal.open_journal(
        path, CapacityLimits(KEPT_MAX, free_bytes=0), retention=SHELF
    ) as found:
        yield found


async def list_intact_ids(path: Path) -> set[str]:
    """Open the journal again, and return the ids of all exports that are intact."""
    with open_journal(path) as found:
        page = await found.receipts.list_page(ADA, None, 2**31, None)
        kept = await found.outbox.read([each.id for each in page.receipts])
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    return {id for id, packed in kept.items() if decompress(packed) == content(id)}


async def append_all(found: JournalPorts, count: int) -> None:
    numbers = iter(range(count))

    async def send() -> None:
        for number in numbers:
            try:
                receipt = await found.intake.append(export(number))
            except AtlasError:
                continue
            os.write(1, f"{receipt.id}\n".encode())

    await asyncio.gather(*(send() for _ in range(SENDERS)))


def main(path: str, count: str, synchronous: str) -> None:
    journal.PRAGMAS = journal.PRAGMAS.replace("= FULL", f"= {synchronous}")
    try:
        with open_journal(Path(path)) as found:
            asyncio.run(append_all(found, int(count)))
    except CommandError:
        sys.exit(CANNOT_START)


if __name__ == "__main__":
    main(*sys.argv[1:])
