"""Which exports go into the next group."""

import sqlite3

import msgspec

from atlas.core.messages import GroupLimits
from atlas.outside.sqlite.room import SMALL_BYTES, SMALL_SHARE

CLAIM = """
    WITH group_now AS (
        SELECT exports, bytes FROM total WHERE status = 'claimed'
    ), oldest AS (
        SELECT number, bytes FROM export
        WHERE status = 'accepted' AND tries BETWEEN :low AND :high AND bytes < :bytes_end
        ORDER BY number LIMIT max(0, :exports_max - (SELECT exports FROM group_now))
    ), running AS (
        SELECT number, bytes,
            (SELECT bytes FROM group_now) + sum(bytes) OVER (ORDER BY number) AS so_far
        FROM oldest
    )
    UPDATE export SET status = 'claimed' WHERE number IN (
        SELECT number FROM running WHERE so_far <= :bytes_max OR so_far = bytes
    )
"""
SUSPECT = """
    SELECT tries FROM export WHERE status = 'accepted' AND tries >= 2 ORDER BY tries, number LIMIT 1
"""
FRESH = 0, 1  # tries; with more, it is a suspect
FULL = """
    SELECT count(*) >= :exports_max OR sum(bytes) >= :bytes_max FROM (
        SELECT bytes FROM export WHERE status = 'accepted' AND tries BETWEEN :low AND :high
        ORDER BY number LIMIT :exports_max
    )
"""
EVERY = 2**62  # bytes; no export has as many
LATE_SHARE = 1 + 1 / 16  # of the limit
SHARES = {2: 8, 3: 64}  # of the limit, by tries: one part in so many; with more tries, alone


def is_full(db: sqlite3.Connection, limits: GroupLimits) -> bool:
    """Whether what never failed makes a whole group."""
    low, high = FRESH
    given = msgspec.structs.asdict(limits) | {"low": low, "high": high}
    return bool(db.execute(FULL, given).fetchone()[0])


def claim_fresh(db: sqlite3.Connection, limits: GroupLimits, *, is_late: bool = False) -> None:
    """The oldest; but of what is small first, so that no daily sync waits behind somebody's years.

    A part of the group is left for those, or they would never go on their way. What is small and
    late finds room in a group that is full, too.
    """
    low, high = FRESH
    given = {"exports_max": limits.exports_max, "low": low, "high": high}
    small_share = LATE_SHARE if is_late else SMALL_SHARE
    for share, bytes_end in ((small_share, SMALL_BYTES), (1.0, EVERY)):
        bytes_max = int(limits.bytes_max * share)
        db.execute(CLAIM, given | {"bytes_max": bytes_max, "bytes_end": bytes_end})


def claim_suspects(db: sqlite3.Connection, limits: GroupLimits) -> None:
    """The oldest of those that have failed least: so most of them are cleared, and soon."""
    found = db.execute(SUSPECT).fetchone()
    if found is None:
        return
    (tries,) = found
    exports_max = max(1, limits.exports_max // SHARES[tries]) if tries in SHARES else 1
    given = {"exports_max": exports_max, "bytes_max": limits.bytes_max}
    db.execute(CLAIM, given | {"low": tries, "high": tries, "bytes_end": EVERY})
