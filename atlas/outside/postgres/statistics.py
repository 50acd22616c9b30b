"""Reads the statistics of a journal."""

from collections.abc import Sequence

from atlas.core.inspection import ExportTotals
from atlas.outside.journal.statistics import JournalStatistics
from atlas.outside.journal.transfer import fold_claimed
from atlas.outside.postgres import transfer
from atlas.outside.postgres.connections import Connector
from atlas.outside.postgres.observation import SIZE, read_if_allowed

USERS = "SELECT count(*) FROM (SELECT sender FROM @.export UNION SELECT sender FROM @.digest) users"
VERSION = "SELECT present FROM @.version"
OLDEST = "SELECT min(at) FROM @.export WHERE status = 'accepted'"


async def read_statistics(connector: Connector, journal_keys: Sequence[bytes]) -> JournalStatistics:
    """Read the statistics. Raises JournalMissing, ConfigurationError, CommandError."""
    async with transfer.open_transaction(connector) as database:
        await transfer.open_tables(database, connector.address.shown, journal_keys)
        totals = {row["status"]: tuple(row)[1:] for row in await database.fetch(transfer.TOTALS)}
        return JournalStatistics(
            journal=connector.address.shown,
            version=await database.fetch_value(VERSION),
            exports={key: ExportTotals(*each) for key, each in fold_claimed(totals).items()},
            users=await database.fetch_value(USERS),
            digests=await database.fetch_value("SELECT count(*) FROM @.digest"),
            oldest=await database.fetch_value(OLDEST),
            bytes=await read_if_allowed(database, SIZE, database.schema),
        )
