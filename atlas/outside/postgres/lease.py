"""The lease of the uploader: one row, whose epoch counts its holders.

Its times are by the clock of the database, so clocks of replicas do not matter. A session lock
would hang on a TCP connection, and would fence nothing.
"""

from dataclasses import dataclass

from atlas.core.errors import Deposed
from atlas.outside.postgres.connections import Connector, Session
from atlas.outside.postgres.database import Database

LEASE_SECONDS = 5.0
# A later end was written by a server whose clock was ahead: it counts as past.
LEASE_SECONDS_MAX = 120
# Seconds for which a replica that asked for the lease is preferred to others
PREFERENCE_SECONDS = 10
ACQUIRE = f"""
    UPDATE @.lease SET epoch = epoch + 1, holder = $1, wanted_by = '',
        until = clock_timestamp() + make_interval(secs => $2)
    WHERE (holder = $1 OR until NOT BETWEEN clock_timestamp()
            AND clock_timestamp() + interval '{LEASE_SECONDS_MAX} s')
        AND (wanted_by IN ('', $1) OR wanted_at NOT BETWEEN
            clock_timestamp() - interval '{PREFERENCE_SECONDS} s' AND clock_timestamp())
    RETURNING epoch
"""
ASK_FOR = "UPDATE @.lease SET wanted_by = $1, wanted_at = clock_timestamp() WHERE holder <> $1"
RENEW = """
    UPDATE @.lease SET until = clock_timestamp() + make_interval(secs => $3)
    WHERE epoch = $1 AND holder = $2
    RETURNING numbers, transaction, wanted_by <> '' AS is_wanted
"""
RELEASE = "UPDATE @.lease SET holder = '', until = '-infinity' WHERE epoch = $1 AND holder = $2"
FORGET_OLD_INTENTS = "DELETE FROM @.intent WHERE noted_at < clock_timestamp() - interval '1 day'"


@dataclass(frozen=True, slots=True)
class WorkInLease:
    """The exports and the transaction in hand, as the row of the lease has them."""

    numbers: list[int]
    transaction: str | None
    is_wanted: bool


class Lease:
    """Implements `ports.Leadership`, and fences the writes of the uploader."""

    def __init__(self, connector: Connector, session: Session, lease_seconds: float) -> None:
        self.epoch = 0  # of this replica's last term
        self.is_held = False
        self._connector = connector
        self._session = session
        self._lease_seconds = lease_seconds
        self._failovers = 0

    @property
    def lease_seconds(self) -> float | None:
        return self._lease_seconds

    async def acquire(self, *, is_urgent: bool = False) -> int | None:
        async def take(database: Database) -> tuple[int | None, int]:
            failovers = self._connector.failovers
            holder = self._connector.name
            epoch: int | None = await database.fetch_value(ACQUIRE, holder, self._lease_seconds)
            if epoch is not None:
                await database.execute(FORGET_OLD_INTENTS)
            elif is_urgent:
                await database.execute(ASK_FOR, holder)
            return epoch, failovers

        epoch, failovers = await self._session.transact(take)
        if epoch is not None:
            self.epoch, self.is_held, self._failovers = epoch, True, failovers
        return epoch

    async def renew(self) -> bool:
        work = await self._session.transact(self.check, is_repeatable=True)
        return work.is_wanted

    async def release(self) -> None:
        self.is_held, epoch = False, self.epoch

        async def give_back(database: Database) -> None:
            if await database.execute(RELEASE, epoch, self._connector.name):
                await database.notify("lease")

        await self._session.transact(give_back, is_repeatable=True)

    async def check(self, database: Database) -> WorkInLease:
        """Extend the lease, and lock its row until the end of the transaction. Raises Deposed.

        After a failover the lease counts as lost: the database may have forgotten what this replica
        has done, so it starts again.
        """
        row = None
        if self._failovers == self._connector.failovers:
            row = await database.fetch_row(
                RENEW, self.epoch, self._connector.name, self._lease_seconds
            )
        if row is None:
            self.is_held = False
            raise Deposed
        return WorkInLease(row["numbers"], row["transaction"], row["is_wanted"])
