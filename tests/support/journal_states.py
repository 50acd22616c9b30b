"""Brings a journal into a state, and reads its contents and the dataset's."""

from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import msgspec

from atlas.core.events import StageCrashed
from atlas.core.messages import JournalEntry
from atlas.outside import parquet
from atlas.outside.journal.capacity import CapacityLimits
from atlas.outside.sqlite.journal import open_journal
from tests.conftest import ServiceHarness, an_export
from tests.support.exports import SHELF
from tests.support.postgres import SOURCES, open_empty_schema, open_postgres_journal


@asynccontextmanager
async def open_leading(kind, request, limits, **options):
    """Open an empty journal of this kind, and take its lease."""
    async with AsyncExitStack() as stack:
        if kind in SOURCES:
            servers = request.getfixturevalue("postgres_servers")
            url = await stack.enter_async_context(open_empty_schema(servers, kind))
            opened = open_postgres_journal(url, limits, SHELF, **options)
            journal = await stack.enter_async_context(opened)
        else:
            path = request.getfixturevalue("tmp_path") / "journal" if kind == "file" else None
            opened = open_journal(path, limits, retention=SHELF, **options)
            journal = stack.enter_context(opened)
        assert await journal.leadership.acquire() == 1
        yield journal


async def accept(life, *uuids):
    """Accept one export for each uuid into the journal, not yet uploaded."""
    life.dataset.down = True
    doomed = replace(life, drain_seconds=0)
    async with doomed.running() as flow:
        for uuid in uuids:
            export = an_export(b'{"uuid":"%s"}\n' % uuid)
            assert (await flow.post(export, prefer="respond-async")).status == 202
    life.dataset.down = False


def export_of(uuid: bytes) -> dict[str, object]:
    return an_export(b'{"uuid":"%s"}\n' % uuid)


def uuids(life: ServiceHarness) -> list[str]:
    """Return the uuids of all rows in the dataset, whatever the format of their file."""
    found = []
    for path, content in life.dataset.files().items():
        ndjson = parquet.to_ndjson(content) if path.endswith(".parquet") else content
        found += [msgspec.json.decode(line)["uuid"] for line in ndjson.splitlines()]
    return sorted(found)


async def post_when_idle(life: ServiceHarness, *exports: bytes) -> list[dict[str, object]]:
    """Run until no export is waiting, then send these and return their responses."""
    async with life.running() as flow:
        await flow.is_empty()
        assert not flow.seen.of(StageCrashed)
        return [(await flow.post(export_of(uuid))).body for uuid in exports]


async def entries(life: ServiceHarness) -> tuple[JournalEntry, ...]:
    with open_journal(life.journal, CapacityLimits(free_bytes=0), retention=SHELF) as journal:
        return (await journal.ledger.list_entries(None, 100, None)).entries
