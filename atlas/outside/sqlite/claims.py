"""Claims the exports of the next group: sets their status to `claimed`."""

import sqlite3

import msgspec

from atlas.core.commits import Backlog, Lane
from atlas.core.messages import GroupLimits
from atlas.outside.journal.group_rules import (
    REFUSED,
    REFUSED_MAX,
    isolated_exports_max,
    size_classes,
)

CLAIM = """
    WITH group_now AS (
        SELECT exports, bytes FROM total WHERE status = 'claimed'
    ), oldest AS (
        SELECT number, bytes FROM export
        WHERE status = 'accepted' AND isolation = 0 AND bytes < :bytes_end
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
CLAIM_FAILED = """
    WITH oldest AS (
        SELECT number, bytes, turn FROM export
        WHERE status = 'accepted' AND isolation = :isolation
            AND isolation > 0  -- SQLite needs this to use the partial index
        ORDER BY turn, number LIMIT :exports_max
    ), running AS (
        SELECT number, bytes, sum(bytes) OVER (ORDER BY turn, number) AS so_far FROM oldest
    )
    UPDATE export SET status = 'claimed' WHERE number IN (
        SELECT number FROM running WHERE so_far <= :bytes_max OR so_far = bytes
    )
"""
NEXT_FAILED = """
    SELECT isolation FROM export WHERE status = 'accepted' AND isolation > 0
    ORDER BY turn, number LIMIT 1
"""
BACKLOG = """
    SELECT
        (SELECT sum(exports) FROM total WHERE status IN ('accepted', 'claimed')),
        (SELECT count(*) FROM export INDEXED BY failed  -- SQLite 3.46 would scan all accepted
            WHERE status = 'accepted' AND isolation > 0)
            + (SELECT count(*) FROM export WHERE status = 'claimed' AND isolation > 0)
"""
FULL = """
    SELECT count(*) >= :exports_max OR sum(bytes) >= :bytes_max FROM (
        SELECT bytes FROM export WHERE status = 'accepted' AND isolation = 0
        ORDER BY number LIMIT :exports_max
    )
"""
CLAIMED = "SELECT exports FROM total WHERE status = 'claimed'"
IS_ANY = "SELECT EXISTS (SELECT 1 FROM export WHERE status = 'claimed')"
HAS_FRESH = "SELECT EXISTS (SELECT 1 FROM export WHERE status = 'claimed' AND isolation = 0)"


def read_backlog(db: sqlite3.Connection, limits: GroupLimits) -> Backlog:
    waiting, failed = db.execute(BACKLOG).fetchone()
    is_full = bool(db.execute(FULL, msgspec.structs.asdict(limits)).fetchone()[0])
    return Backlog(waiting - failed, failed, is_full)


def has_claimed(db: sqlite3.Connection) -> bool:
    return bool(db.execute(IS_ANY).fetchone()[0])


def has_fresh(db: sqlite3.Connection) -> bool:
    """True if a group of the normal lane is claimed."""
    return bool(db.execute(HAS_FRESH).fetchone()[0])


def claim(db: sqlite3.Connection, limits: GroupLimits, lane: Lane) -> None:
    if lane == "isolated":
        claim_isolated(db, limits)
        return
    claim_fresh(db, limits)
    (claimed,) = db.execute(CLAIMED).fetchone()
    if claimed:
        claim_failed(db, limits, REFUSED, REFUSED_MAX)


def claim_fresh(db: sqlite3.Connection, limits: GroupLimits, *, is_late: bool = False) -> None:
    """Claim the oldest fresh exports, small ones first."""
    for each in size_classes(limits, is_late=is_late):
        db.execute(CLAIM, each._asdict() | {"exports_max": limits.exports_max})


def claim_isolated(db: sqlite3.Connection, limits: GroupLimits) -> None:
    """Claim the failed exports at the head of their queue; a failure moves an export to its end."""
    row = db.execute(NEXT_FAILED).fetchone()
    if row is None:
        return
    (isolation,) = row
    claim_failed(db, limits, isolation, isolated_exports_max(limits, isolation))


def claim_failed(
    db: sqlite3.Connection, limits: GroupLimits, isolation: int, exports_max: int
) -> None:
    params = {"isolation": isolation, "exports_max": exports_max, "bytes_max": limits.bytes_max}
    db.execute(CLAIM_FAILED, params)
