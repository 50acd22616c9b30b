"""Writes a journal as this version of it is, to be opened by all that come.

Whoever raises VERSION in `atlas/outside/sqlite/schema.py` runs `python -m tests.journals.make`, and
keeps what it writes beside those of the versions before: none of these is ever made again. Each of
them was written by its own code, at the last commit of its version, by this same file: it asks for
nothing that a test of version 1 could not.

    v5/journal.gz     after a life that was killed when Foundry had committed, and we did not know
    v5/dataset.json   what stood in Foundry by then
"""

import base64
import gzip
import sqlite3
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio
import msgspec

from atlas.core.messages import GroupLimits
from tests.conftest import ServiceHarness, an_export
from tests.support.fakes import Barrier

HOME = Path(__file__).parent
KEY = bytes(range(32))  # it seals what nobody has to hide


@dataclass(frozen=True, slots=True)
class Sent:
    """One export of the story: who sends it, under which Idempotency-Key, and its lines."""

    name: str
    by: str = "ada"
    key: str | None = None
    text: bytes = b'{"uuid":"%s"}\n'

    async def by_phone(self, flow: Any, **headers: str) -> Any:
        if self.key is not None:
            headers["Idempotency_Key"] = self.key
        body = an_export(self.text.replace(b"%s", self.name.encode()))
        return await flow.post(body, token=f"token-of-{self.by}", **headers)


COMMITTED = Sent("committed", key="one", text=b'{"uuid":"%s"}\nno row\n{"uuid":"%s, too"}\n')
REFUSED = Sent("refused", by="bob")
CRASHES = Sent("crashes")  # version 1 kept no such thing
CLAIMED = Sent("claimed", key="two"), Sent("claimed, too", by="bob")  # from version 3 on, in a file
WAIT = Sent("waits", key="three", text=b'{"uuid":"%s"}\nno row\n'), Sent("waits", by="bob")


async def lived(life: Any) -> None:
    """The story: four lives of a service, of which the last is killed."""
    compute = life.compute

    async def with_a_bug(size: int, work: Any, /, *args: Any) -> Any:
        made = await compute(size, work, *args)
        if "crashes" in str(made):
            raise ZeroDivisionError
        return made

    life.compute = with_a_bug
    async with life.running() as flow:
        await COMMITTED.by_phone(flow)
        await CRASHES.by_phone(flow)
    life.dataset.refuses.add("healthkit/raw/bob/2026-01-02T12-00-00-000Z.ndjson")
    async with life.running() as flow:
        await REFUSED.by_phone(flow)
    life.drain_seconds, life.dataset.down = 0, True
    async with life.running() as flow:
        for sent in (*CLAIMED, *WAIT):
            await sent.by_phone(flow, prefer="respond-async")
    life.dataset.down, life.dataset.calls, life.group = (
        False,
        0,
        GroupLimits(exports_max=len(CLAIMED)),
    )
    life.dataset.mishaps["after commit"] = gate = Barrier()
    async with life.running():
        await gate.reached.wait()


def made(folder: Path) -> tuple[int, bytes, dict[str, Any]]:
    """The version of a journal that has lived so, the journal, and the transactions of Foundry."""
    path = folder / "journal"
    path.with_name("journal.key").write_bytes(base64.b64encode(KEY))
    life = ServiceHarness(path)
    anyio.run(lived, life)
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        (version,) = db.execute("PRAGMA user_version").fetchone()
    return version, path.read_bytes(), life.dataset.transactions


def main(home: Path) -> None:
    with TemporaryDirectory() as folder:
        version, journal, transactions = made(Path(folder))
    kept = home / f"v{version}"
    kept.mkdir(parents=True)  # what was kept of a version is never written anew
    (kept / "journal.gz").write_bytes(gzip.compress(journal, mtime=0))
    written = {
        rid: {
            "state": each.state,
            "files": {path: file.decode() for path, file in each.files.items()},
        }
        for rid, each in transactions.items()
    }
    text = msgspec.json.format(msgspec.json.encode(written), indent=1)
    (kept / "dataset.json").write_bytes(text + b"\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else HOME)
