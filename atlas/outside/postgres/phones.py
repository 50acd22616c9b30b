"""The phones and their reports: see atlas/outside/journal/phones.py.

Exports are counted in memory, and added to the table each second: a row would have to be read
before an export can be counted in it, and that would cost each statement of the intake three round
trips more. A replica that is killed loses the counts of its last second, not an export. Replicas
take turns, so that none overwrites what another has added.
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime

from asyncpg import Record

from atlas.core import identifiers
from atlas.core.errors import AtlasError
from atlas.core.messages import User
from atlas.core.personal_data import KnownPhone
from atlas.core.phones import PhoneAge, PhonePage, PhoneQuery, PhoneReport, ReportPage
from atlas.outside.journal.cipher import Cipher
from atlas.outside.journal.phone_pages import PageBuilder, build_range
from atlas.outside.journal.phones import (
    DAY_MILLISECONDS,
    DEVICES_MAX,
    PRUNE_MAX,
    PendingPhones,
    PhoneChange,
    PhoneCodec,
    PhoneKey,
    PhoneRow,
    find_horizons,
)
from atlas.outside.journal.reports import (
    REPORTS_MAX,
    REPORTS_MAX_OF_USER,
    ReportCodec,
    ReportRow,
    find_oldest,
)
from atlas.outside.postgres.connections import CLOSE_SECONDS, Session
from atlas.outside.postgres.database import Database

STORE_SECONDS = 1.0
COLUMNS = "sender, device, at, stuck, sealed"
LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('atlas phones ' || $1, 0))"
FIND = f"""
    SELECT {COLUMNS} FROM @.phone
    JOIN unnest($1::text[], $2::text[]) wanted (sender, device) USING (sender, device)
"""
ERASED = "SELECT name, at FROM @.erased WHERE name = ANY($1)"
STORE = f"""
    INSERT INTO @.phone ({COLUMNS})
    SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::integer[], $5::bytea[])
    ON CONFLICT (sender, device) DO UPDATE
    SET at = excluded.at, stuck = excluded.stuck, sealed = excluded.sealed
"""
ADD_REPORTER = f"""
    INSERT INTO @.phone ({COLUMNS}) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (sender, device) DO NOTHING
"""
DROP_EXCESS = f"""
    DELETE FROM @.phone WHERE sender = ANY($1) AND number IN (
        SELECT number FROM (
            SELECT number, row_number() OVER (PARTITION BY sender ORDER BY at DESC) AS position
            FROM @.phone WHERE sender = ANY($1)
        ) ranked WHERE position > {DEVICES_MAX}
    )
"""
OF_USER = f"SELECT {COLUMNS}, number FROM @.phone WHERE sender = $1 ORDER BY at DESC, number DESC"
PAGE = f"""
    SELECT {COLUMNS}, number FROM @.phone
    WHERE at BETWEEN $1 AND $2 AND (at, number) < ($3, $4) ORDER BY at DESC, number DESC LIMIT $5
"""
AGES = f"""
    SELECT greatest(0, $1 - at) / {DAY_MILLISECONDS} AS days, stuck, count(*) AS phones
    FROM @.phone WHERE at >= $2 GROUP BY 1, 2
"""
REPORT_COLUMNS = "sender, device, at, sealed"
LAST_REPORTS = f"""
    SELECT latest.* FROM unnest($1::text[], $2::text[]) phone (sender, device), LATERAL (
        SELECT {REPORT_COLUMNS} FROM @.report
        WHERE report.sender = phone.sender AND report.device = phone.device
        ORDER BY number DESC LIMIT 1
    ) latest
"""
STORE_REPORT = f"INSERT INTO @.report ({REPORT_COLUMNS}) VALUES ($1, $2, $3, $4)"
DROP_EXCESS_REPORTS = f"""
    DELETE FROM @.report WHERE sender = $1 AND number NOT IN (
        SELECT number FROM @.report WHERE sender = $1
        ORDER BY number DESC LIMIT {REPORTS_MAX_OF_USER}
    )
"""
NEXT_SENDER = "SELECT min(sender) FROM @.report WHERE sender > $1"
REPORTS = f"SELECT {REPORT_COLUMNS} FROM @.report WHERE sender = $1 ORDER BY number"
WAITING_ROWS = """
    SELECT coalesce(sum(ingested), 0)::bigint FROM @.export
    WHERE sender = $1 AND status = 'accepted'
"""
COUNT_REPORTS = "SELECT count(*) FROM @.report WHERE sender = $1"
DELETE_PHONES = f"""
    DELETE FROM @.phone WHERE number = ANY(ARRAY(
        SELECT number FROM @.phone WHERE at < $1 ORDER BY at LIMIT {PRUNE_MAX}
    ))
"""
DELETE_OLDEST_PHONES = """
    DELETE FROM @.phone WHERE number = ANY(ARRAY(SELECT number FROM @.phone ORDER BY at LIMIT $1))
"""
COUNT_PHONES = "SELECT count(*) FROM @.phone"
DELETE_REPORTS = f"""
    DELETE FROM @.report WHERE number = ANY(ARRAY(
        SELECT number FROM @.report
        WHERE at < $1 OR number <= (SELECT max(number) FROM @.report) - $2
        ORDER BY number LIMIT {PRUNE_MAX}
    ))
"""


class PostgresPhoneWriter:
    """Stores what the intake has counted, once a second."""

    def __init__(self, session: Session, codec: PhoneCodec) -> None:
        self.pending = PendingPhones(codec)
        self._session = session
        self._codec = codec
        self._task: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()

    def start(self) -> None:
        """Store the pending changes in a second, if there are any."""
        if self.pending.changes and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Store the rest."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task], timeout=CLOSE_SECONDS)
        await self.store_pending()

    async def store_pending(self) -> None:
        """Store all changes. If that fails, they stay pending."""
        async with self._lock:
            changes = self.pending.take()
            if not changes:
                return

            async def work(database: Database) -> None:
                await store_changes(database, self._codec, changes)

            is_stored = False
            try:
                await self._session.transact(work)
                is_stored = True
            except AtlasError:
                pass  # tried again with the next export
            finally:
                if not is_stored:
                    self.pending.restore(changes)

    async def _run(self) -> None:
        while self.pending.changes:
            await asyncio.sleep(STORE_SECONDS)
            await self.store_pending()


class PostgresPhones:
    """Implements `ports.PhoneBook`."""

    def __init__(self, session: Session, cipher: Cipher, writer: PostgresPhoneWriter) -> None:
        self._session = session
        self._cipher = cipher
        self._reports = ReportCodec(cipher)
        self._writer = writer

    async def list_phones(
        self, query: PhoneQuery, now: datetime, quiet_days: int, user: User | None = None
    ) -> PhonePage:
        ages = await self.count_ages(now)

        async def work(database: Database) -> tuple[list[Record], list[Record]]:
            if user is not None:
                rows = await database.fetch(OF_USER, self._cipher.hash_user(user.sub))
            else:
                rows = await database.fetch(PAGE, *build_range(query, now), query.limit + 1)
            keys = [row["sender"] for row in rows], [row["device"] for row in rows]
            return rows, await database.fetch(LAST_REPORTS, *keys)

        rows, reports = await self._session.run(work, is_repeatable=True)
        builder = PageBuilder(self._cipher, quiet_days, now)
        return await asyncio.to_thread(
            builder.build,
            [(PhoneRow(*row[:-1]), row["number"]) for row in rows],
            [ReportRow(*row) for row in reports],
            ages,
            query.limit if user is None else None,
        )

    async def count_ages(self, now: datetime) -> Sequence[PhoneAge]:
        await self._writer.store_pending()
        return await self._session.run(
            lambda database: read_ages(database, now), is_repeatable=True
        )

    async def store_report(self, user: User, report: PhoneReport, received_at: datetime) -> None:
        row = self._reports.seal(user, report, received_at)
        reporter = PhoneCodec(self._cipher).build_reporter(user.sub, report.device, row.at)

        async def work(database: Database) -> None:
            await database.execute(STORE_REPORT, *row)
            await database.execute(DROP_EXCESS_REPORTS, row.user)
            if await database.execute(ADD_REPORTER, *reporter):
                await database.execute(DROP_EXCESS, [row.user])

        await self._session.transact(work)

    async def list_counts(self, after: str, user: User | None = None) -> ReportPage:
        async def work(database: Database) -> tuple[list[Record], int]:
            if user is None:
                sender = await database.fetch_value(NEXT_SENDER, after)
            else:
                sender = self._cipher.hash_user(user.sub)
            rows = await database.fetch(REPORTS, sender)
            return rows, await database.fetch_value(WAITING_ROWS, sender)

        rows, waiting_rows = await self._session.run(work, is_repeatable=True)
        found = [ReportRow(*row) for row in rows]
        return await asyncio.to_thread(
            self._reports.build_page, found, waiting_rows, has_next=user is None
        )

    async def prune(self, now: datetime, phones_max: int) -> int:
        async def work(database: Database) -> int:
            _, forget = find_horizons(now)
            pruned = await database.execute(DELETE_PHONES, forget)
            excess = await database.fetch_value(COUNT_PHONES) - phones_max
            if excess > 0:
                pruned += await database.execute(DELETE_OLDEST_PHONES, min(excess, PRUNE_MAX))
            return pruned + await database.execute(DELETE_REPORTS, find_oldest(now), REPORTS_MAX)

        return await self._session.transact(work, is_repeatable=True)


async def store_changes(
    database: Database, codec: PhoneCodec, changes: Sequence[PhoneChange]
) -> None:
    """Add the changes to the rows, except for those of people who were erased since."""
    await database.fetch_value(LOCK, database.schema)
    keyed = codec.sort(changes)
    names = {build_erased_name(key.user) for key, _ in keyed}
    erased = {
        row["name"]: identifiers.count_milliseconds(row["at"])
        for row in await database.fetch(ERASED, list(names))
    }
    found = {
        PhoneKey(row["sender"], row["device"]): PhoneRow(*row)
        for row in await database.fetch(
            FIND, *map(list, zip(*(key for key, _ in keyed), strict=True))
        )
    }
    rows = [
        codec.apply(found.get(key), key, change)
        for key, change in keyed
        if change.at > erased.get(build_erased_name(key.user), -1)
    ]
    stored = [row for row in rows if row is not None]
    if stored:
        await database.execute(STORE, *map(list, zip(*stored, strict=True)))
    new = {row.user for row in stored if PhoneKey(row.user, row.device) not in found}
    if new:
        await database.execute(DROP_EXCESS, list(new))


def build_erased_name(hashed_user: str) -> str:
    """Return the name under which the erasure of a person is noted, for other replicas."""
    return f"phones of {hashed_user}"


async def read_ages(database: Database, now: datetime) -> list[PhoneAge]:
    """Count the phones of the last 30 days by age."""
    seen, _ = find_horizons(now)
    rows = await database.fetch(AGES, identifiers.count_milliseconds(now), seen)
    return [PhoneAge(row["days"], bool(row["stuck"]), row["phones"]) for row in rows]


async def list_phones(database: Database, codec: PhoneCodec, sender: str) -> tuple[KnownPhone, ...]:
    """Return the phones of a user."""
    rows = await database.fetch(OF_USER, sender)
    return tuple(codec.describe(PhoneRow(*row[:-1])) for row in rows)
