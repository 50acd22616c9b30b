"""Records the result of a commit: the verdict on each export of the group.

An export that fails moves to the end of the queue of failed exports, which is sorted by `turn`.
"""

from collections.abc import Mapping

from asyncpg import Record

from atlas.core.commits import Conclusion
from atlas.outside.journal.verdicts import DAMAGED_REASON, order_verdicts
from atlas.outside.postgres.database import Database
from atlas.outside.postgres.rows import COLUMNS

TRIES_MAX = 32_767  # of a smallint
COMMITTED = f"""
    UPDATE @.export SET status = 'committed', rid = $2, reason = NULL
    WHERE number = ANY($1) RETURNING {COLUMNS}
"""
CORRUPT = f"""
    UPDATE @.export SET
        status = 'set_aside', reason = '{DAMAGED_REASON}', file = NULL, file_bytes = NULL
    WHERE number = ANY($1) RETURNING {COLUMNS}
"""
RELEASED = "UPDATE @.export SET file = NULL, file_bytes = NULL WHERE number = ANY($1)"
LATER = "since = $2, turn = $3, reason = $4, file = NULL, file_bytes = NULL"
ISOLATED = f"UPDATE @.export SET {LATER}, isolation = 4 WHERE number = ANY($1)"
IS_PROVEN = "($6 OR $2 > since)"
REFUSED = f"""
    UPDATE @.export SET
        {LATER},
        tries = least(tries + 1, {TRIES_MAX}),
        isolation = CASE WHEN isolation IN (0, 2, 3) THEN 1 ELSE isolation END,
        status = CASE WHEN tries + 1 >= $5 AND {IS_PROVEN} THEN 'set_aside' ELSE 'accepted' END
    WHERE number = ANY($1) RETURNING {COLUMNS}
"""
FAILED = f"""
    UPDATE @.export SET
        {LATER},
        tries = least(tries + $7::integer, {TRIES_MAX}),
        isolation = CASE
            WHEN isolation >= 2 THEN least(isolation + 1, 4)
            WHEN $8 OR tries >= 1 THEN 2
            ELSE isolation END,
        status = CASE WHEN tries + $7 >= $5 AND $9 AND {IS_PROVEN}
            THEN 'set_aside' ELSE 'accepted' END
    WHERE number = ANY($1) RETURNING {COLUMNS}
"""
NEWEST = "SELECT coalesce(max(number), 0) FROM @.export WHERE status = 'committed'"
TURN = """
    SELECT coalesce(max(turn), 0) + 1 FROM @.export WHERE status = 'accepted' AND isolation > 0
"""
# Payloads that are not in the stream yet are kept apart. One in `payload` always means that its
# rows are not in the dataset.
DELETE_PAYLOADS = """
    WITH kept AS (
        INSERT INTO @.unpublished_payload (number, sealed)
        SELECT number, sealed FROM @.payload JOIN @.unpublished USING (number)
        WHERE number = ANY($1) ON CONFLICT DO NOTHING
    )
    DELETE FROM @.payload WHERE number = ANY($1)
"""
WITHHOLD = """
    DELETE FROM @.unpublished USING @.export
    WHERE unpublished.number = ANY($1) AND export.number = unpublished.number
        AND export.status = 'set_aside'
"""


async def apply_conclusion(
    database: Database, conclusion: Conclusion, claimed: Mapping[int, str]
) -> list[Record]:
    """Apply the verdicts, and return the rows of committed, failed and corrupt exports.

    `moved` is treated as `released`: the caller has recorded the new path.
    """
    turn = await database.fetch_value(TURN)
    is_alone = len(claimed) == 1
    records: list[Record] = []
    has_evidence = conclusion.has_evidence
    for verdict, numbers in order_verdicts(conclusion, claimed):
        newest = await database.fetch_value(NEWEST)
        later = newest, turn, verdict.reason
        is_proven = verdict.is_certain or has_evidence
        match verdict.kind:
            case "committed":
                has_evidence = True
                records += await database.fetch(COMMITTED, numbers, verdict.transaction)
                await database.execute(DELETE_PAYLOADS, numbers)
            case "corrupt":
                records += await database.fetch(CORRUPT, numbers)
            case "refused":
                records += await database.fetch(
                    REFUSED, numbers, *later, conclusion.tries_max, is_proven
                )
            case "failed" | "divided":
                records += await database.fetch(
                    FAILED,
                    numbers,
                    *later,
                    conclusion.tries_max,
                    is_proven,
                    int(not verdict.is_unanswered),
                    verdict.kind == "divided",
                    is_alone,
                )
            case "isolated":
                await database.execute(ISOLATED, numbers, *later)
            case _:
                await database.execute(RELEASED, numbers)
    if any(record["status"] == "set_aside" for record in records):
        await database.execute(WITHHOLD, list(claimed))
    return records
