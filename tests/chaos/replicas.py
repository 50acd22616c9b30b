"""The replicas of a trial: several service processes, and the PostgreSQL journal they share."""

import base64
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import anyio

from atlas.local.postgres import (
    PostgresMissing,
    PostgresServer,
    find_programs,
)
from tests.chaos.service_process import Broken, ServiceProcess, Skipped
from tests.support.temporary_postgres import run_temporary_server

SCHEMA = "trial"
KEY = base64.b64encode(bytes(32)).decode()
TAKEN, LOST = "This replica uploads", "This replica stopped uploading"
LOOK_SECONDS = 0.01
LEADER_SECONDS = 20.0
LEASE = f"SELECT epoch, holder, until > clock_timestamp() AS is_held FROM {SCHEMA}.lease"
# Sums are kept by triggers; a wrong one would be an export that counts twice, or not at all.
IMBALANCES = f"""
    SELECT status, sum(kept) AS kept, sum(counted) AS counted FROM (
        SELECT status, exports AS kept, 0 AS counted FROM {SCHEMA}.total
        UNION ALL SELECT status, 0, 1 FROM {SCHEMA}.export
    ) sums GROUP BY status HAVING sum(kept) <> sum(counted)
"""
IN_HAND = f"SELECT cardinality(numbers), transaction FROM {SCHEMA}.lease"
ORPHANS = f"""
    SELECT count(*) FROM {SCHEMA}.payload
    WHERE number NOT IN (SELECT number FROM {SCHEMA}.export WHERE status <> 'committed')
"""


@dataclass(slots=True)
class SharedJournal:
    """A journal in a PostgreSQL server of its own, seen over a connection beside the replicas'."""

    server: PostgresServer
    connection: Any = None

    @property
    def settings(self) -> dict[str, object]:
        return {"url": f"{self.server.url}?schema={SCHEMA}", "keys": [KEY]}

    async def fetch(self, statement: str, *args: object) -> Sequence[Any]:
        import asyncpg  # noqa: PLC0415 - an extra

        if self.connection is None:
            self.connection = await asyncpg.connect(self.server.url)
        return await self.connection.fetch(statement, *args)  # type: ignore[no-any-return]

    async def read_epoch(self) -> int:
        """Return the number of the last leader."""
        return int((await self.fetch(LEASE))[0]["epoch"])

    async def is_led(self) -> bool:
        return bool((await self.fetch(LEASE))[0]["is_held"])

    async def list_defects(self) -> list[str]:
        """Check that the tables agree with each other, and that nothing is in hand."""
        defects = [
            f"{row['kept']} exports counted as {row['status']}, there are {row['counted']}"
            for row in await self.fetch(IMBALANCES)
        ]
        (claimed, transaction), (orphans,) = (
            (await self.fetch(IN_HAND))[0],
            (await self.fetch(ORPHANS))[0],
        )
        if claimed or transaction:
            defects.append(f"{claimed} exports and the transaction {transaction} still in hand")
        if orphans:
            defects.append(f"{orphans} payloads of no waiting export")
        return defects


@asynccontextmanager
async def open_shared_journal() -> AsyncIterator[SharedJournal]:
    """Run a server with PostgreSQL's defaults: every commit is synced. Raises Skipped."""
    try:
        programs = find_programs()
    except PostgresMissing as error:
        raise Skipped(str(error)) from error
    if find_spec("asyncpg") is None:
        raise Skipped("needs asyncpg: pip install asyncpg")
    with run_temporary_server(programs) as server:
        journal = SharedJournal(server)
        try:
            yield journal
        finally:
            if journal.connection is not None:
                journal.connection.terminate()


@dataclass(slots=True)
class Replicas:
    """The service processes of a trial, which share a journal."""

    members: list[ServiceProcess]
    journal: SharedJournal

    async def start(self) -> None:
        """Start those that do not run, one after the other, as soon as one leads."""
        for each in self.members:
            if not each.is_running:
                await each.start()
            await self.find_leader()

    async def find_leader(self) -> ServiceProcess:
        """Return the replica that leads, as soon as one does. Raises Broken."""
        with anyio.move_on_after(LEADER_SECONDS):
            while True:
                if await self.journal.is_led():
                    epoch = await self.journal.read_epoch()
                    for each in self.members:
                        if each.is_running and epoch in list_epochs(each):
                            return each
                await anyio.sleep(LOOK_SECONDS)
        raise Broken(f"No replica leads for {LEADER_SECONDS:.0f} s.")

    async def find_followers(self) -> list[ServiceProcess]:
        leader = await self.find_leader()
        return [each for each in self.members if each is not leader and each.is_running]

    async def wait_for_takeover(self, epoch: int) -> float:
        """Wait until the lease has another holder than in `epoch`; return the seconds."""
        began = time.monotonic()
        with anyio.move_on_after(LEADER_SECONDS):
            while await self.journal.read_epoch() == epoch:
                await anyio.sleep(LOOK_SECONDS)
            return time.monotonic() - began
        raise Broken(f"No replica took over within {LEADER_SECONDS:.0f} s.")

    def wake(self) -> None:
        for each in self.members:
            if each.is_running:
                each.wake()


def list_epochs(member: ServiceProcess) -> list[int]:
    """List the epochs in which this replica has led."""
    return [event["epoch"] for event in member.list_events(TAKEN)]
