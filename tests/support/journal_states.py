"""Brings a journal into a state, and reads what it and the dataset hold."""

from dataclasses import replace

import msgspec

from atlas.core.events import ActorCrashed
from atlas.core.messages import Entry
from atlas.outside import parquet
from atlas.outside.sqlite.journal import opened
from atlas.outside.sqlite.room import Bounds
from tests.conftest import Life, an_export
from tests.support.exports import SHELF


async def accept(life, *uuids):
    """One export each, safe in the journal and not in the dataset."""
    life.dataset.down = True
    doomed = replace(life, drain_seconds=0)
    async with doomed.running() as flow:
        for uuid in uuids:
            export = an_export(b'{"uuid":"%s"}\n' % uuid)
            assert (await flow.post(export, prefer="respond-async")).status == 202
    life.dataset.down = False


def export_of(uuid: bytes) -> dict[str, object]:
    return an_export(b'{"uuid":"%s"}\n' % uuid)


def uuids(life: Life) -> list[str]:
    """Of all rows that stand in the dataset, whatever the format of their file."""
    found = []
    for path, content in life.dataset.files().items():
        ndjson = parquet.read(content) if path.endswith(".parquet") else content
        found += [msgspec.json.decode(line)["uuid"] for line in ndjson.splitlines()]
    return sorted(found)


async def settled(life: Life, *exports: bytes) -> list[dict[str, object]]:
    """The answers to these, once nothing waits any more."""
    async with life.running() as flow:
        await flow.is_empty()
        assert not flow.seen.of(ActorCrashed)
        return [(await flow.post(export_of(uuid))).body for uuid in exports]


async def entries(life: Life) -> tuple[Entry, ...]:
    with opened(life.journal, Bounds(free_bytes=0), shelf=SHELF) as journal:
        return (await journal.ledger.listing(None, 100, None)).entries
