"""Failpoints: places in the flow at which the service kills itself without warning.

    before intake.append      nothing is stored
    before sqlite.commit      inserted, but the SQLite transaction is not committed
    after intake.append       synced, not answered
    after branch.begin        Foundry has opened a transaction that the journal does not contain
    after branch.put          the file has arrived, but this is not recorded
    ...

A kill is not a power cut: the kernel still has the data that was written but not synced. A service
that is frozen (SIGSTOP) instead goes on at the same place when it is woken.
"""

import os
import re
import signal
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from atlas.service import Dependencies

POINTS = (
    "before intake.append",
    "before sqlite.commit",
    "after intake.append",
    "before outbox.claim",
    "after outbox.claim",
    "before branch.begin",
    "after branch.begin",
    "before outbox.record_open",
    "after outbox.record_open",
    "before branch.put",
    "after branch.put",
    "before branch.commit",
    "after branch.commit",
    "before outbox.conclude",
    "after outbox.conclude",
)
POINTS_OF_SHARED_FILES = (*POINTS, "before outbox.record_file", "after outbox.record_file")
POINTS_OF_LOST_UPLOADS = (
    "before branch.list_transaction_files",
    "after branch.list_transaction_files",
)
AFTER_A_BEGIN, AFTER_A_PUT, AFTER_A_COMMIT = (
    "after branch.begin",
    "after branch.put",
    "after branch.commit",
)
POINTS_OF_RECOVERY = {  # each with the point at which the previous process was killed
    "after outbox.read_in_hand": AFTER_A_PUT,
    "before branch.transaction_status": AFTER_A_PUT,
    "after branch.transaction_status": AFTER_A_PUT,
    "before branch.abort": AFTER_A_PUT,
    "after branch.abort": AFTER_A_PUT,
    "before outbox.conclude": AFTER_A_PUT,
    "after outbox.conclude": AFTER_A_PUT,
    "after branch.find_orphan": AFTER_A_BEGIN,
    "before outbox.clear_intents": AFTER_A_BEGIN,
    "after outbox.clear_intents": AFTER_A_BEGIN,
    "before branch.list_transaction_files": AFTER_A_COMMIT,
    "after branch.list_transaction_files": AFTER_A_COMMIT,
}
SQLITE = "before sqlite.commit"
POSTGRES = "before postgres.commit"  # of any transaction
IN_LEASE = "after postgres.fence"  # inside a transaction that holds the row of the lease
POINTS_OF_REPLICAS = (*(POSTGRES if point == SQLITE else point for point in POINTS), IN_LEASE)
INSERTS_EXPORT = re.compile(r"\s*INSERT\s.*\bINTO\s+export\b", re.DOTALL | re.IGNORECASE)


@dataclass(slots=True)
class Failpoint:
    """Kills or freezes the process when the point has been passed a given number of times."""

    point: str
    hits: int
    kind: signal.Signals = signal.SIGKILL

    @property
    def target(self) -> tuple[str, str]:
        """The port and its method."""
        port, _, method = self.point.partition(" ")[2].partition(".")
        return port, method

    def step(self, when: str) -> None:
        if self.point.startswith(when):
            self.hits -= 1
            if self.hits == 0:
                os.kill(os.getpid(), self.kind)


class FailpointProxy:
    """A port with a failpoint at one of its methods."""

    def __init__(self, port: Any, failpoint: Failpoint) -> None:
        self._port = port
        self._failpoint = failpoint

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._port, name)
        if name != self._failpoint.target[1]:
            return method

        async def call(*arguments: Any, **named: Any) -> Any:
            self._failpoint.step("before")
            outcome = await method(*arguments, **named)
            self._failpoint.step("after")
            return outcome

        return call


def install(failpoint: Failpoint, world: Dependencies) -> Dependencies:
    """Return the same dependencies, with the failpoint in one of the ports."""
    port, _ = failpoint.target
    if port == "branch":
        return replace(world, branch=FailpointProxy(world.branch, failpoint))
    if port == "stream":
        return replace(world, stream=FailpointProxy(world.stream, failpoint))
    if port in {"sqlite", "postgres"}:
        return world
    proxied: dict[str, Any] = {port: FailpointProxy(getattr(world.store, port), failpoint)}
    return replace(world, store=replace(world.store, **proxied))


def install_in_sqlite(failpoint: Failpoint) -> None:
    """Install a failpoint before the COMMIT of every transaction that accepts an export.

    SQLite traces each statement before it runs it. `sqlite3.connect` is replaced, so that this does
    not depend on the place where the journal opens its connection.
    """
    connect: Callable[..., sqlite3.Connection] = sqlite3.connect

    def connect_with_failpoint(*arguments: Any, **options: Any) -> sqlite3.Connection:
        db, accepts = connect(*arguments, **options), False

        def trace(statement: str) -> None:
            nonlocal accepts
            accepts = accepts or INSERTS_EXPORT.match(statement) is not None
            if accepts and statement == "COMMIT":
                accepts = False
                failpoint.step("before")

        db.set_trace_callback(trace)
        return db

    sqlite3.connect = connect_with_failpoint  # type: ignore[assignment]


def install_in_postgres(failpoint: Failpoint) -> None:
    """Install a failpoint inside transactions of PostgreSQL: `POSTGRES` or `IN_LEASE`."""
    import asyncpg  # noqa: PLC0415 - an extra

    from atlas.outside.postgres.lease import Lease  # noqa: PLC0415

    execute, check = asyncpg.Connection.execute, Lease.check

    async def execute_with_failpoint(connection: Any, query: str, *args: Any, **named: Any) -> Any:
        if failpoint.point == POSTGRES and query == "COMMIT":
            failpoint.step("before")
        return await execute(connection, query, *args, **named)

    async def check_with_failpoint(lease: Any, database: Any) -> Any:
        work = await check(lease, database)
        if failpoint.point == IN_LEASE:
            failpoint.step("after")
        return work

    asyncpg.Connection.execute = execute_with_failpoint
    Lease.check = check_with_failpoint  # type: ignore[method-assign]
