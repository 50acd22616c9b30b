"""Replicas of one journal in PostgreSQL, and what stands in its tables."""

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import msgspec

from atlas.core.commits import RELEASED, Conclusion, Verdict
from atlas.core.messages import (
    BranchSnapshot,
    ExportMetadata,
    FlattenedExport,
    GroupLimits,
    IdempotencySlot,
)
from atlas.local.postgres import PostgresServer
from atlas.local.postgres.programs import find_wheel
from tests.support.exports import ADA, NOON, SHELF, packed
from tests.support.postgres import open_postgres_journal, open_schema, run_sql

HEAD = BranchSnapshot("ri.foundry.main.transaction.0", NOON)
RID = "ri.foundry.main.transaction.1"
COMMITTED = Verdict("committed", transaction=RID)
REFUSED = Verdict("refused", "it is bad", is_certain=True)
LIMITS = GroupLimits()
SNAPSHOT = """
    SELECT jsonb_build_object(
        'export', (SELECT jsonb_agg(export ORDER BY number) FROM {0}.export),
        'payload', (SELECT jsonb_agg(payload ORDER BY number) FROM {0}.payload),
        'intent', (SELECT jsonb_agg(intent ORDER BY epoch, kind, head) FROM {0}.intent),
        'total', (SELECT jsonb_agg(total ORDER BY slot, status) FROM {0}.total),
        'lease', (SELECT to_jsonb(lease) - 'until' FROM {0}.lease)
    )::text
"""


@dataclass
class Replicas:
    """A schema, and journals that are opened on it."""

    server: PostgresServer = field(repr=False)
    url: str = field(repr=False)
    options: dict = field(default_factory=dict)

    @property
    def schema(self):
        return self.url.partition("schema=")[2]

    def open(self, **options):
        return open_postgres_journal(self.url, **self.options | options)

    @asynccontextmanager
    async def pair(self, **options):
        async with self.open(**options) as first, self.open(**options) as second:
            yield first, second

    async def sql(self, statement, *more):
        """Run statements in which `@.` stands for the schema. Return the value of the first."""
        texts = [each.replace("@.", f"{self.schema}.") for each in (statement, *more)]
        return (await run_sql(self.server, *texts))[0]

    async def execute(self, script):
        """Run a script, and return nothing."""
        await self.sql(f"DO $script$ BEGIN {script}; END $script$")

    async def snapshot(self):
        return await self.sql(SNAPSHOT.format(self.schema))

    async def end_lease(self):
        await self.sql("UPDATE @.lease SET until = '-infinity'")

    async def count(self, table, where="true"):
        return await self.sql(f"SELECT count(*) FROM @.{table} WHERE {where}")


@asynccontextmanager
async def open_replicas(servers, **options):
    """Yield an empty schema for replicas, on the wheel's server or else the machine's."""
    server = servers.get("wheel" if find_wheel() else "machine")
    async with open_schema(server) as url:
        yield Replicas(server, url, {"retention": SHELF} | options)


def an_export(id="id-1", user=ADA, at=NOON, key=None, ndjson=b'{"uuid":"a"}\n'):
    binding = None if key is None else IdempotencySlot(key, 0, 1)
    head = ExportMetadata(user, "", "", f"correlation of {id}", binding)
    return FlattenedExport(id, head, at, packed(ndjson, 1))


async def accept(journal, *ids, **more):
    return [await journal.intake.append(an_export(id, **more)) for id in ids]


async def claim(journal):
    group = await journal.outbox.claim(LIMITS, HEAD, "normal")
    return [each.id for each in group.exports] if group else None


async def begin(journal):
    """Claim what waits, and record a transaction for it. Return the ids, None if nothing waits."""
    ids = await claim(journal)
    if ids is not None:
        await journal.outbox.record_open(RID, LIMITS)
    return ids


async def conclude(journal, verdicts=None, others=RELEASED, **more):
    return await journal.outbox.conclude(Conclusion(RID, verdicts or {}, others, **more))


async def commit(journal, *ids):
    """Commit these exports, or all that wait."""
    await begin(journal)
    others = RELEASED if ids else COMMITTED
    return await conclude(journal, dict.fromkeys(ids, COMMITTED), others)


async def set_aside(journal, id):
    await begin(journal)
    await conclude(journal, {id: REFUSED}, tries_max=1)


async def list_replicas(journal):
    return (await journal.ledger.read_totals()).database.replicas


def later(export, **time):
    return msgspec.structs.replace(export, at=export.at + timedelta(**time))
