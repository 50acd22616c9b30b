"""The data of one person in the journal, and its erasure.

A purge holds the row of the lease, so that no export of the person is claimed meanwhile. Deleted
rows may leave their bytes, encrypted, in free space of the tables until it is reused, in the
server's write-ahead log, and in backups.
"""

from collections import Counter
from collections.abc import Sequence

from atlas.core import identifiers
from atlas.core.errors import Unavailable
from atlas.core.messages import Status, User
from atlas.core.personal_data import JournalHoldings, PurgeResult, SetAsideExport, SharedFile
from atlas.outside.journal.personal_data import (
    build_shared_key,
    decode_shared_files,
    encode_shared_files,
)
from atlas.outside.journal.phones import PhoneCodec
from atlas.outside.journal.retention import NEIGHBOUR_DAYS
from atlas.outside.journal.row_codec import RowCodec
from atlas.outside.postgres import keys
from atlas.outside.postgres.connections import Connector, Session
from atlas.outside.postgres.database import Database
from atlas.outside.postgres.phones import (
    COUNT_REPORTS,
    PostgresPhoneWriter,
    build_erased_name,
    list_phones,
)
from atlas.outside.postgres.recent import RecentExports
from atlas.outside.postgres.retention import read_horizon

EXPORTS = """
    SELECT status, count(*) AS exports FROM @.export WHERE sender = $1
    GROUP BY status ORDER BY status
"""
SHARED = f"""
    SELECT file, count(*) FROM @.export
    WHERE sender = $1 AND status = 'committed'
        AND file IS NOT NULL AND file NOT IN {identifiers.FORMATS}
    GROUP BY file ORDER BY file
"""
SET_ASIDE = """
    SELECT id, bytes, coalesce(reason, '') FROM @.export
    WHERE sender = $1 AND status = 'set_aside' ORDER BY number
"""
DIGESTS = """
    SELECT coalesce(rid, '') AS rid, count(*) AS digests FROM @.digest WHERE sender = $1 GROUP BY 1
"""
NEIGHBOURS = "SELECT DISTINCT rid FROM @.digest WHERE day < $1 AND rid IS NOT NULL"
HOLD_LEASE = "SELECT numbers FROM @.lease FOR SHARE"
IS_CLAIMED = "SELECT EXISTS (SELECT FROM @.export WHERE sender = $1 AND number = ANY($2))"
DELETE_BINDINGS = "DELETE FROM @.binding WHERE sender = $1"
DELETE_DIGESTS = "DELETE FROM @.digest WHERE sender = $1"
DELETE_PHONES = "DELETE FROM @.phone WHERE sender = $1"
DELETE_REPORTS = "DELETE FROM @.report WHERE sender = $1"
ERASED_SECONDS = 3_600
# Also committed ones: another replica may hold them, and would store them again after a failover.
# What was deleted is the list of what is erased, as another replica may accept one meanwhile.
DELETE_EXPORTS = f"""
    DELETE FROM @.export WHERE sender = $1 RETURNING id, status,
        status IN ('accepted', 'set_aside') AS is_waiting,
        at > clock_timestamp() - interval '{ERASED_SECONDS} s' AS is_recent
"""
STORE_ERASED = """
    INSERT INTO @.erased (name) SELECT unnest($1::text[])
    ON CONFLICT (name) DO UPDATE SET at = excluded.at
"""
FORGET_ERASED = f"""
    DELETE FROM @.erased WHERE at < clock_timestamp() - interval '{ERASED_SECONDS} s'
"""
DELETE = "DELETE FROM @.secret WHERE name = $1"
TABLES = "binding", "digest", "export", "payload", "phone", "report"
VACUUM_SECONDS = 600.0


class PostgresPersonalData:
    """Implements `ports.PersonalDataStore`."""

    def __init__(
        self,
        connector: Connector,
        session: Session,
        codec: RowCodec,
        recent: RecentExports,
        phones: PostgresPhoneWriter,
    ) -> None:
        self._connector = connector
        self._session = session
        self._codec = codec
        self._recent = recent
        self._phones = phones

    async def read_holdings(self, user: User) -> JournalHoldings:
        sender = self._codec.cipher.hash_user(user.sub)
        await self._phones.store_pending()

        async def work(database: Database) -> JournalHoldings:
            digests = await database.fetch(DIGESTS, sender)
            aside = await database.fetch(SET_ASIDE, sender)
            recorded = await database.fetch_value(keys.READ, build_shared_key(sender))
            return JournalHoldings(
                user=sender[: identifiers.PSEUDONYM_CHARACTERS],
                exports=await count_exports(database, sender),
                shared=(
                    *decode_shared_files(recorded),
                    *(SharedFile(*row) for row in await database.fetch(SHARED, sender)),
                ),
                aside=tuple(SetAsideExport(*row) for row in aside),
                digests={row["rid"]: row["digests"] for row in digests},
                incomplete=await read_incomplete(database),
                phones=await list_phones(database, PhoneCodec(self._codec.cipher), sender),
                reports=await database.fetch_value(COUNT_REPORTS, sender),
            )

        return await self._session.run(work, is_repeatable=True)

    async def purge(self, user: User, shared: Sequence[SharedFile]) -> PurgeResult:
        cipher = self._codec.cipher
        sender = cipher.hash_user(user.sub)

        async def work(database: Database) -> PurgeResult:
            numbers = await database.fetch_value(HOLD_LEASE)
            if await database.fetch_value(IS_CLAIMED, sender, numbers):
                raise Unavailable("Some exports of this user are being uploaded. Try again later.")
            counts = Counter[str]()
            counts["binding"] = await database.execute(DELETE_BINDINGS, sender)
            counts["digest"] = await database.execute(DELETE_DIGESTS, sender)
            counts["phone"] = await database.execute(DELETE_PHONES, sender)
            counts["report"] = await database.execute(DELETE_REPORTS, sender)
            exports = await database.fetch(DELETE_EXPORTS, sender)
            counts.update(row["status"] for row in exports)
            waiting = tuple(row["id"] for row in exports if row["is_waiting"])
            await database.execute(FORGET_ERASED)
            names = [
                cipher.hash_text(row["id"])
                for row in exports
                if row["is_waiting"] or row["is_recent"]
            ]
            await database.execute(STORE_ERASED, [*names, build_erased_name(sender)])
            await database.execute(DELETE, build_shared_key(sender))
            if shared:
                name, encoded = build_shared_key(sender), encode_shared_files(shared)
                await database.execute(keys.STORE, name, encoded)
            for topic in ("settled", "set_aside"):
                await database.notify(topic)
            purged = {kind: count for kind, count in counts.items() if count}
            return PurgeResult(sender[: identifiers.PSEUDONYM_CHARACTERS], purged, waiting)

        purged = await self._session.transact(work)
        self._recent.forget_sender(sender)
        self._phones.pending.forget(sender)
        return purged

    async def rewrite(self) -> None:
        """Let deleted rows be overwritten. Over a connection of its own, as it takes a while."""

        async def work(database: Database) -> None:
            for table in TABLES:
                await database.execute(f"VACUUM @.{table}")

        session = Session(self._connector, VACUUM_SECONDS)
        try:
            await session.run(work)
        finally:
            await session.close()


async def count_exports(database: Database, sender: str) -> dict[Status, int]:
    rows = await database.fetch(EXPORTS, sender)
    return {row["status"]: row["exports"] for row in rows}


async def read_incomplete(database: Database) -> frozenset[str] | None:
    """Return the known transactions some of whose digests may be deleted; None if all are kept."""
    horizon = await read_horizon(database)
    if horizon is None:
        return None
    rows = await database.fetch(NEIGHBOURS, horizon + NEIGHBOUR_DAYS)
    return frozenset(row["rid"] for row in rows)
