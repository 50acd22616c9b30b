"""Claims the exports of the next group: puts their numbers into the lease."""

from atlas.core.commits import Backlog, Lane
from atlas.core.messages import GroupLimits
from atlas.outside.journal.group_rules import (
    REFUSED,
    REFUSED_MAX,
    isolated_exports_max,
    size_classes,
)
from atlas.outside.postgres.database import Database

CLAIM = """
    WITH group_now AS (
        SELECT count(*) AS exports, coalesce(sum(bytes), 0) AS bytes
        FROM @.export WHERE number = ANY((SELECT numbers FROM @.lease)::bigint[])
    ), oldest AS (
        SELECT number, bytes FROM @.export
        WHERE status = 'accepted' AND isolation = 0 AND NOT is_doubtful AND bytes < $3
            AND NOT EXISTS (
                SELECT FROM @.lease, unnest(numbers) claimed WHERE claimed = export.number
            )
        ORDER BY number LIMIT greatest(0, $1 - (SELECT exports FROM group_now))
    ), running AS (
        SELECT number, bytes,
            (SELECT bytes FROM group_now) + sum(bytes) OVER (ORDER BY number) AS so_far
        FROM oldest
    )
    UPDATE @.lease SET numbers = numbers || ARRAY(
        SELECT number FROM running WHERE so_far <= $2 OR so_far = bytes ORDER BY number
    )
"""
CLAIM_FAILED = """
    WITH oldest AS (
        SELECT number, bytes, turn FROM @.export
        WHERE status = 'accepted' AND isolation > 0 AND isolation = $1 AND NOT is_doubtful
        ORDER BY turn, number LIMIT $2
    ), running AS (
        SELECT number, bytes, sum(bytes) OVER (ORDER BY turn, number) AS so_far FROM oldest
    )
    UPDATE @.lease SET numbers = numbers || ARRAY(
        SELECT number FROM running WHERE so_far <= $3 OR so_far = bytes ORDER BY number
    )
"""
NEXT_FAILED = """
    SELECT isolation FROM @.export
    WHERE status = 'accepted' AND isolation > 0 AND NOT is_doubtful
    ORDER BY turn, number LIMIT 1
"""
BACKLOG = """
    SELECT
        (SELECT sum(exports)::bigint FROM @.total WHERE status = 'accepted') AS waiting,
        (SELECT count(*) FROM @.export WHERE status = 'accepted' AND isolation > 0) AS failed,
        (SELECT count(*) FROM @.export WHERE is_doubtful) AS doubtful,
        (
            SELECT count(*) >= $1 OR coalesce(sum(bytes), 0) >= $2 FROM (
                SELECT bytes FROM @.export
                WHERE status = 'accepted' AND isolation = 0 AND NOT is_doubtful
                    AND NOT EXISTS (
                        SELECT FROM @.lease, unnest(numbers) claimed WHERE claimed = export.number
                    )
                ORDER BY number LIMIT $1
            ) fresh
        ) AS is_full
"""
HAS_CLAIMED = "SELECT cardinality(numbers) > 0 FROM @.lease"
HAS_FRESH = """
    SELECT EXISTS (SELECT FROM @.export
        WHERE number = ANY((SELECT numbers FROM @.lease)::bigint[]) AND isolation = 0)
"""


async def read_backlog(database: Database, limits: GroupLimits) -> Backlog:
    row = await database.fetch_row(BACKLOG, limits.exports_max, limits.bytes_max)
    if row is None:
        return Backlog()
    return Backlog(row["waiting"] - row["failed"], row["failed"], row["is_full"], row["doubtful"])


async def claim(database: Database, limits: GroupLimits, lane: Lane) -> None:
    if lane == "isolated":
        await claim_isolated(database, limits)
        return
    await claim_fresh(database, limits)
    if await database.fetch_value(HAS_CLAIMED):
        await claim_failed(database, limits, REFUSED, REFUSED_MAX)


async def claim_fresh(database: Database, limits: GroupLimits, *, is_late: bool = False) -> None:
    """Claim the oldest fresh exports, small ones first."""
    for each in size_classes(limits, is_late=is_late):
        await database.execute(CLAIM, limits.exports_max, each.bytes_max, each.bytes_end)


async def claim_late(database: Database, limits: GroupLimits) -> None:
    """Claim exports that were accepted since the claim, unless the group is isolated."""
    if await database.fetch_value(HAS_FRESH):
        await claim_fresh(database, limits, is_late=True)


async def claim_isolated(database: Database, limits: GroupLimits) -> None:
    """Claim the failed exports at the head of their queue; a failure moves an export to its end."""
    isolation = await database.fetch_value(NEXT_FAILED)
    if isolation is not None:
        await claim_failed(database, limits, isolation, isolated_exports_max(limits, isolation))


async def claim_failed(
    database: Database, limits: GroupLimits, isolation: int, exports_max: int
) -> None:
    await database.execute(CLAIM_FAILED, isolation, exports_max, limits.bytes_max)
