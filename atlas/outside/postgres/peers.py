"""Communicates with the other replicas through the database.

Notifications have no content: a replica that gets one looks at the tables. It also polls, because
notifications can be lost. Through a pooler in transaction mode, LISTEN is accepted and nothing ever
arrives. So a replica notifies itself from time to time; if that does not arrive, it polls more
often, and emits an event.
"""

import asyncio
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import get_args

from atlas.core.errors import AtlasError
from atlas.core.events import DatabaseConnectionLost, NotificationsDelayed
from atlas.core.ports import Clock, HandleNotification, Outcomes, Topic
from atlas.outside.journal.row_codec import RowCodec
from atlas.outside.postgres.connections import CLOSE_SECONDS, CONNECT_SECONDS, Connector, Session
from atlas.outside.postgres.database import Database
from atlas.outside.postgres.errors import DATABASE_ERRORS
from atlas.outside.postgres.rows import COLUMNS, build_row
from atlas.outside.postgres.schema import VERSION

TOPICS: tuple[Topic, ...] = get_args(Topic)
POLL_SECONDS = 2.0
FAST_POLL_SECONDS = 0.25
HEARTBEAT_SECONDS = 5.0
SILENCE_SECONDS_MAX = 15.0  # without a notification, although this replica notifies itself
OUTCOMES = f"SELECT {COLUMNS} FROM @.export WHERE id = ANY($1) AND status <> 'accepted'"
ERASED = "SELECT name FROM @.erased WHERE name = ANY($1)"
PRESENT = "SELECT id FROM @.export WHERE id = ANY($1)"
HEARTBEAT = """
    INSERT INTO @.replica (name, version, schema, seen_at, clock_skew)
    VALUES ($1, $2, $3, clock_timestamp(), extract(epoch FROM $4::timestamptz - clock_timestamp()))
    ON CONFLICT (name) DO UPDATE SET seen_at = excluded.seen_at, clock_skew = excluded.clock_skew
"""
FORGET_REPLICAS = "DELETE FROM @.replica WHERE seen_at < clock_timestamp() - interval '1 hour'"
LEAVE = "DELETE FROM @.replica WHERE name = $1"
EXCHANGE_USAGE = """
    INSERT INTO @.busy (sender, until)
    SELECT sender, clock_timestamp() + make_interval(secs => seconds)
    FROM unnest($1::text[], $2::float8[]) used (sender, seconds) ORDER BY sender
    ON CONFLICT (sender) DO UPDATE
    SET until = greatest(busy.until, clock_timestamp()) + (excluded.until - clock_timestamp())
    RETURNING sender, extract(epoch FROM until - clock_timestamp())::float8 AS debt
"""
FORGET_USAGE = "DELETE FROM @.busy WHERE until < clock_timestamp() - interval '1 minute'"


@dataclass(slots=True)
class Inbox:
    """The topics of the notifications to be handled, and when the last one arrived."""

    has_arrived: asyncio.Event = field(default_factory=asyncio.Event)
    topics: set[Topic] = field(default_factory=set)
    received_at: float = 0.0

    def add(self, *topics: Topic) -> None:
        self.topics.update(topics)
        self.has_arrived.set()

    def take(self) -> list[Topic]:
        taken = [each for each in TOPICS if each in self.topics]
        self.topics.clear()
        self.has_arrived.clear()
        return taken


class PostgresPeers:
    """Implements `ports.ReplicaPeers`."""

    def __init__(
        self, connector: Connector, session: Session, codec: RowCodec, version: str, clock: Clock
    ) -> None:
        self._connector = connector
        self._session = session
        self._codec = codec
        self._version = version
        self._clock = clock
        self.is_polling = connector.is_pooled  # often, because nothing arrives

    async def listen(self, handle: HandleNotification) -> None:
        inbox = Inbox()
        tasks = [
            asyncio.create_task(self._receive(inbox)),
            asyncio.create_task(self._beat()),
        ]
        try:
            while True:
                seconds = FAST_POLL_SECONDS if self.is_polling else POLL_SECONDS
                with suppress(TimeoutError):
                    async with asyncio.timeout(seconds):
                        await inbox.has_arrived.wait()
                for topic in inbox.take() or ("settled", "stored"):
                    await handle(topic)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def read_outcomes(self, ids: Collection[str]) -> Outcomes:
        names = {self._codec.cipher.hash_text(id): id for id in ids}

        async def work(database: Database) -> Outcomes:
            rows = await database.fetch(OUTCOMES, list(ids))
            erased = {names[row["name"]] for row in await database.fetch(ERASED, list(names))}
            if erased:  # some may have been sent again since
                erased -= {row["id"] for row in await database.fetch(PRESENT, list(erased))}
            return Outcomes(
                tuple(self._codec.build_receipt(build_row(row)) for row in rows), tuple(erased)
            )

        return await self._session.run(work, is_repeatable=True)

    async def exchange_usage(self, usage: Mapping[str, float]) -> Mapping[str, float]:
        hash_user = self._codec.cipher.hash_user
        users = {hash_user(user): user for user in usage}

        async def work(database: Database) -> dict[str, float]:
            seconds = [usage[users[sender]] for sender in users]
            rows = await database.fetch(EXCHANGE_USAGE, list(users), seconds)
            await database.execute(FORGET_USAGE)
            return {users[row["sender"]]: row["debt"] for row in rows}

        return await self._session.transact(work)

    def is_delayed(self) -> bool:
        """True if notifications do not arrive, although no pooler keeps them away."""
        return self.is_polling and not self._connector.is_pooled

    async def leave(self) -> None:
        """Do not count this replica as running any more."""
        with suppress(AtlasError, TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._session.run(
                    lambda database: database.execute(LEAVE, self._connector.name)
                )

    async def _beat(self) -> None:
        """Record that this replica runs, and notify it, to check that notifications arrive."""

        async def work(database: Database) -> None:
            await database.execute(
                HEARTBEAT, self._connector.name, self._version, VERSION, self._clock()
            )
            await database.execute(FORGET_REPLICAS)
            await database.notify("stored")

        while True:
            with suppress(AtlasError):
                await self._session.transact(work)
                await self._session.run(self._connector.identify)
            await asyncio.sleep(HEARTBEAT_SECONDS)

    async def _receive(self, inbox: Inbox) -> None:
        """Keep a connection that listens. After it was lost, any notification may be missing."""
        while True:
            with suppress(*DATABASE_ERRORS, AtlasError):  # the poll goes on meanwhile
                database = await self._connector.connect()
                try:
                    await self._listen(database, inbox)
                finally:
                    database.connection.terminate()
            await asyncio.sleep(FAST_POLL_SECONDS)

    async def _listen(self, database: Database, inbox: Inbox) -> None:
        """Listen until the connection is lost, or nothing arrives any more."""
        names: dict[str, Topic] = {f"{database.schema}_{topic}": topic for topic in TOPICS}

        def receive(_: object, __: int, channel: str, ___: object) -> None:
            inbox.received_at = time.monotonic()
            inbox.add(names[channel])

        deadline = asyncio.get_running_loop().call_later(
            CONNECT_SECONDS, database.connection.terminate
        )
        for name in names:
            await database.convert_error(database.connection.add_listener(name, receive))
        deadline.cancel()
        began_at = inbox.received_at = time.monotonic()
        inbox.add(*TOPICS)
        while not database.connection.is_closed():
            await asyncio.sleep(FAST_POLL_SECONDS)
            is_silent = time.monotonic() - inbox.received_at > SILENCE_SECONDS_MAX
            if inbox.received_at > began_at or is_silent:
                self._set_polling(is_polling=is_silent)
            if is_silent:
                return
        self._connector.events.add([DatabaseConnectionLost()])

    def _set_polling(self, *, is_polling: bool) -> None:
        if is_polling and not self.is_polling:
            self._connector.events.add([NotificationsDelayed()])
        self.is_polling = is_polling


class IntakeNotifier:
    """Notifies the replica that uploads of stored exports, at most 20 times a second.

    Not in the transaction that stores them: notifications of all replicas would wait for each
    other's commits.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._task: asyncio.Task[None] | None = None
        self._is_due = False

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def notify(self) -> None:
        self._is_due = True
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while self._is_due:
            self._is_due = False
            with suppress(AtlasError):
                await self._session.transact(notify_stored)
            await asyncio.sleep(0.05)


async def notify_stored(database: Database) -> None:
    await database.execute("SET LOCAL synchronous_commit = off")
    await database.notify("stored")
