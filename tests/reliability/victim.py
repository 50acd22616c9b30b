"""A process that keeps exports in a journal and tells each that is safe: run to be cut off.

    python -m tests.reliability.victim JOURNAL EXPORTS SYNCHRONOUS

It says an id for an export that was acknowledged, and nothing for one that was not.
"""

import asyncio
import os
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from atlas.core.errors import AtlasError, CommandError
from atlas.outside.sqlite import journal
from atlas.outside.sqlite.capacity import CapacityLimits
from atlas.outside.sqlite.compression import decompress
from tests.support.exports import ADA, SHELF, content, export

AT_ONCE = 4  # they share commits, as senders do
KEPT_MAX = 1_000_000_000
CANNOT_START = 3  # a bug is 1


@contextmanager
def journal_at(path: Path) -> Iterator[journal.SqliteJournal]:
    with journal.open_journal(
        path, CapacityLimits(KEPT_MAX, free_bytes=0), retention=SHELF
    ) as found:
        yield found


async def kept_in(path: Path) -> set[str]:
    """What a successor finds in this journal: the ids of exports that are whole."""
    with journal_at(path) as found:
        page = await found.receipts.list_page(ADA, None, 2**31, None)
        kept = await found.outbox.read([each.id for each in page.receipts])
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    return {id for id, packed in kept.items() if decompress(packed) == content(id)}


async def keep_all(found: journal.SqliteJournal, count: int) -> None:
    numbers = iter(range(count))

    async def send() -> None:
        for number in numbers:
            try:
                receipt = await found.intake.append(export(number))
            except AtlasError:
                continue
            os.write(1, f"{receipt.id}\n".encode())

    await asyncio.gather(*(send() for _ in range(AT_ONCE)))


def main(path: str, count: str, synchronous: str) -> None:
    journal.PRAGMAS = journal.PRAGMAS.replace("= FULL", f"= {synchronous}")
    try:
        with journal_at(Path(path)) as found:
            asyncio.run(keep_all(found, int(count)))
    except CommandError:
        sys.exit(CANNOT_START)


if __name__ == "__main__":
    main(*sys.argv[1:])
