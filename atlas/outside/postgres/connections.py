"""Connections that are opened again when they are lost.

Neither a timeout nor a cancellation reaches the driver: a statement that waits for a standby and is
cancelled is committed all the same, and the driver may wait forever for the cancellation. So each
operation runs in a task of its own, and the connection of one that takes too long is terminated.
"""

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar
from weakref import WeakSet

import asyncpg
from asyncpg.connect_utils import SessionAttribute

from atlas.core.errors import JournalAway
from atlas.core.events import (
    DatabaseConnectionLost,
    EventBuffer,
    JournalFailedOver,
    OldPrimaryRefused,
)
from atlas.outside.postgres.address import DatabaseAddress
from atlas.outside.postgres.database import Database, run_transaction
from atlas.outside.postgres.errors import (
    DATABASE_ERRORS,
    OldPrimary,
    build_error,
    is_conflict,
    is_connection_lost,
    is_journal_missing,
)
from atlas.outside.postgres.hosts import Connection, connect_first
from atlas.outside.postgres.identity import IDENTIFY, require_successor
from atlas.outside.postgres.session_settings import set_up_session

T = TypeVar("T")

CONNECT_SECONDS = 3.0  # for one attempt
WAIT_SECONDS = 10.0  # for a connection, and for a statement: a switch-over is only a delay
RETRY_SECONDS = 0.1
CLOSE_SECONDS = 1.0
IDLE_SECONDS = 5.0  # after which a connection is tried before it is used
TRY_SECONDS = 2.0
CONFLICTS_MAX = 5
READ_MARK = "SELECT value FROM @.secret WHERE name = 'check'"


@dataclass(slots=True)
class Connector:
    """Opens connections to the primary, and notices when it is another server or an older copy.

    `failovers` counts how often it was. `is_pooled`: through a pooler that keeps no session, such
    as PgBouncer in transaction mode. `position`: the latest position in the server's log. `mark`
    tells the journal from one that was created in its place, with another data key.
    """

    address: DatabaseAddress
    name: str
    events: EventBuffer
    is_pooled: bool = False
    tls: ssl.SSLContext | None = None  # for an address that is verified
    identity: str = ""
    position: int = 0
    mark: bytes = b""
    failovers: int = 0
    on_contact: Callable[[], None] = field(default=lambda: None)  # it is the same as before
    on_failover: Callable[[], None] = field(default=lambda: None)
    _open: WeakSet[Database] = field(default_factory=WeakSet)
    _has_refused: bool = False

    async def connect(self, seconds: float = CONNECT_SECONDS) -> Database:
        """Connect to the host that is the first to answer as the primary.

        All hosts at once: one that has vanished answers nothing at all.
        """
        give_up_at = asyncio.get_running_loop().time() + seconds
        connection = await connect_first(map(self._connect_to, self.address.dsns), seconds)
        with ExitStack() as on_error:
            on_error.callback(connection.terminate)
            async with asyncio.timeout_at(give_up_at):
                database = Database(connection, self.address.schema)
                self._open.add(database)
                if not self.is_pooled:
                    await set_up_session(database)
                await self.identify(database)
            on_error.pop_all()
        return database

    async def _connect_to(self, dsn: str) -> Connection:
        """Connect to one host. Raises OldPrimary, so that another one is the first to answer."""
        connection = await asyncpg.connect(
            dsn,
            timeout=CONNECT_SECONDS,
            ssl=self.tls if self.address.is_verified else None,
            statement_cache_size=0 if self.is_pooled else 100,
            target_session_attrs=SessionAttribute.read_write,
            server_settings={"application_name": self.name},
        )
        with ExitStack() as on_error:
            on_error.callback(connection.terminate)
            (row,) = await Database(connection, self.address.schema).fetch(IDENTIFY)
            self._require_successor(row["identity"])
            on_error.pop_all()
        return connection

    async def identify(self, database: Database) -> None:
        """Compare the server with the one before. After a failover, close other connections.

        Connections to the old primary may wait for answers that never come. A server put back to an
        older state without a new timeline is behind the position that was seen. Raises OldPrimary,
        and JournalAway for a new journal, which could not decrypt what this replica stores.
        """
        if self.mark and await database.fetch_value(READ_MARK) != self.mark:
            self.disconnect()
            raise JournalAway("The journal in the database is a new one: restart this replica.")
        position = self.position
        (row,) = await database.fetch(IDENTIFY)
        try:
            self._require_successor(row["identity"])
        except OldPrimary:
            database.connection.terminate()
            raise
        before, self.identity, self._has_refused = self.identity, row["identity"], False
        is_same = before in {"", self.identity}
        is_older = row["position"] < position
        self.position = max(row["position"], self.position if is_same and not is_older else 0)
        if is_same and not is_older:
            self.on_contact()
            return
        self.failovers += 1
        self.disconnect(database)
        self.events.add([JournalFailedOver(before, self.identity)])
        self.on_failover()

    def _require_successor(self, identity: str) -> None:
        """Raise OldPrimary if it is one. The first attempt of many is reported."""
        try:
            require_successor(self.identity, identity)
        except OldPrimary:
            if not self._has_refused:
                self._has_refused = True
                self.events.add([OldPrimaryRefused(self.identity, identity)])
            raise

    def disconnect(self, used: Database | None = None) -> None:
        """Terminate all connections, except for this one."""
        for each in list(self._open):
            if each is not used:
                each.connection.terminate()


class Session:
    """One connection for operations that run one after the other.

    `seconds`: the time that an operation may take, including the wait for a connection.
    """

    def __init__(self, connector: Connector, seconds: float = WAIT_SECONDS) -> None:
        self._connector = connector
        self._seconds = seconds
        self._database: Database | None = None
        self._used_at = 0.0
        self._lock = asyncio.Lock()
        self._tasks = set[asyncio.Task[Any]]()

    async def run(
        self, work: Callable[[Database], Awaitable[T]], *, is_repeatable: bool = False
    ) -> T:
        """Return the result of the work. Raises what it raises, Unavailable or JournalFull.

        After a conflict, which has undone it, the work is done again; work that `is_repeatable`
        also if its answer was lost. It continues if the caller is cancelled.
        """
        task = asyncio.create_task(self._run(work, is_repeatable=is_repeatable))
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return await asyncio.shield(task)

    async def fetch(self, statement: str, *args: object) -> list[asyncpg.Record]:
        """Return the rows of a statement that changes nothing."""
        return await self.run(lambda database: database.fetch(statement, *args), is_repeatable=True)

    async def transact(
        self, work: Callable[[Database], Awaitable[T]], *, is_repeatable: bool = False
    ) -> T:
        """Return the result of the work once its transaction is committed."""
        return await self.run(
            lambda database: run_transaction(database, work), is_repeatable=is_repeatable
        )

    async def close(self) -> None:
        """Let running operations end, for a second, and close the connection."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE_SECONDS)
        for task in self._tasks:
            task.cancel()
        database, self._database = self._database, None
        if database is not None:
            with suppress(*DATABASE_ERRORS):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await database.connection.close()
            database.connection.terminate()

    async def _run(self, work: Callable[[Database], Awaitable[T]], *, is_repeatable: bool) -> T:
        give_up_at = time.monotonic() + self._seconds
        async with self._lock:
            conflicts = 0
            while True:
                database = await self._connect(give_up_at)
                deadline = asyncio.get_running_loop().call_later(
                    max(give_up_at - time.monotonic(), 0.1), database.connection.terminate
                )
                try:
                    return await work(database)
                except DATABASE_ERRORS as error:
                    if is_connection_lost(error):
                        self._drop()
                        is_over = not is_repeatable or time.monotonic() >= give_up_at
                    elif is_conflict(error):
                        conflicts += 1
                        is_over = conflicts >= CONFLICTS_MAX
                    else:
                        is_over = True
                        if is_journal_missing(error):
                            self._connector.disconnect()  # identify the next one
                    if is_over:
                        raise build_error(error) from error
                finally:
                    deadline.cancel()
                    self._used_at = time.monotonic()

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # retrieved, because asyncio logs one that no caller has awaited

    async def _connect(self, give_up_at: float) -> Database:
        """Return the connection; wait for the database if there is none."""
        if self._database is not None and self._database.connection.is_closed():
            self._drop()
        error: Exception = TimeoutError()
        while (seconds := give_up_at - time.monotonic()) > 0:
            if self._database is not None:
                if await self._is_alive(self._database, min(TRY_SECONDS, seconds)):
                    return self._database
                self._drop()
                continue
            try:
                self._database = await self._connector.connect(min(CONNECT_SECONDS, seconds))
                self._used_at = time.monotonic()
            except (*DATABASE_ERRORS, OldPrimary) as failure:
                if not (isinstance(error, OldPrimary) and isinstance(failure, TimeoutError)):
                    error = failure
                if not is_unreachable(failure):
                    break
                await asyncio.sleep(RETRY_SECONDS)
        raise build_error(error) from error

    async def _is_alive(self, database: Database, seconds: float) -> bool:
        """Try a connection that was idle: a NAT or a balancer may have forgotten it without a word.

        A statement that is sent over it would wait until all its time is over.
        """
        if time.monotonic() - self._used_at < IDLE_SECONDS:
            return True
        loop = asyncio.get_running_loop()
        deadline = loop.call_later(seconds, database.connection.terminate)
        with suppress(*DATABASE_ERRORS):
            await database.fetch_value("SELECT 1")
        deadline.cancel()
        return not database.connection.is_closed()

    def _drop(self) -> None:
        database, self._database = self._database, None
        if database is not None:
            database.connection.terminate()
            self._connector.events.add([DatabaseConnectionLost()])


def is_unreachable(error: BaseException) -> bool:
    """True if another attempt to connect may succeed; False for example for a wrong password.

    A plain ConnectionError is a server without TLS, a ValueError a parameter of the URL.
    """
    is_refused = isinstance(error, ssl.SSLError | ValueError) or type(error) is ConnectionError
    return is_connection_lost(error) and not is_refused
