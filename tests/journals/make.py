"""Writes a journal of the current schema version, which every later version must open.

After raising VERSION in `atlas/outside/sqlite/schema.py`, run `python -m tests.journals.make` and
commit the output next to that of the earlier versions, which is never regenerated. Each of them was
written by this file with the code of its version, at the last commit of that version; so this file
uses nothing that the tests of version 1 did not have.

    v5/journal.gz     killed after Foundry had committed, but before Atlas received the response
    v5/dataset.json   the transactions in Foundry at that time
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
KEY = bytes(range(32))  # the data are not secret


@dataclass(frozen=True, slots=True)
class Sent:
    """One export of the scenario: sender, Idempotency-Key and lines."""

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
CRASHES = Sent("crashes")  # version 1 had no quarantine
CLAIMED = Sent("claimed", key="two"), Sent("claimed, too", by="bob")  # one file from version 3 on
WAIT = Sent("waits", key="three", text=b'{"uuid":"%s"}\nno row\n'), Sent("waits", by="bob")


async def run_scenario(life: Any) -> None:
    """Run the scenario: a service is started four times, and the last run is killed."""
    compute = life.compute

    async def with_a_bug(size: int, work: Any, /, *args: Any) -> Any:
        result = await compute(size, work, *args)
        if "crashes" in str(result):
            raise ZeroDivisionError
        return result

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


def make_journal(folder: Path) -> tuple[int, bytes, dict[str, Any]]:
    """Run the scenario; return the schema version, the journal and Foundry's transactions."""
    path = folder / "journal"
    path.with_name("journal.key").write_bytes(base64.b64encode(KEY))
    life = ServiceHarness(path)
    anyio.run(run_scenario, life)
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        (version,) = db.execute("PRAGMA user_version").fetchone()
    return version, path.read_bytes(), life.dataset.transactions


def main(home: Path) -> None:
    with TemporaryDirectory() as folder:
        version, journal, transactions = make_journal(Path(folder))
    kept = home / f"v{version}"
    kept.mkdir(parents=True)  # fails if it exists: a version is never regenerated
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
