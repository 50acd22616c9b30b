"""Claims the exports of the next group: sets their status to `claimed`."""

import sqlite3

import msgspec

from atlas.core.commits import Backlog, Lane
from atlas.core.messages import GroupLimits
from atlas.outside.sqlite.capacity import SMALL_BYTES, SMALL_SHARE

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
UNLIMITED = 2**62  # bytes; larger than any export
LATE_SHARE = 1 + 1 / 16  # of the byte limit, after the transaction has begun
REFUSED = 1  # isolation of an export whose file Foundry has refused
REFUSED_MAX = 64  # such exports in a group: one wave of uploads
DIVISORS = {2: 8, 3: 64}  # of the export limit, by isolation; from 4 on, an export is alone


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
    """Claim the oldest fresh exports, small ones first.

    So a daily sync need not wait for years of data. A share of the group is reserved for large
    exports, so that they do not starve. A late claim may exceed the byte limit by a sixteenth for
    small exports.
    """
    small_share = LATE_SHARE if is_late else SMALL_SHARE
    for share, bytes_end in ((small_share, SMALL_BYTES), (1.0, UNLIMITED)):
        params = {
            "exports_max": limits.exports_max,
            "bytes_max": int(limits.bytes_max * share),
            "bytes_end": bytes_end,
        }
        db.execute(CLAIM, params)


def claim_isolated(db: sqlite3.Connection, limits: GroupLimits) -> None:
    """Claim the failed exports at the head of their queue; a failure moves an export to its end."""
    row = db.execute(NEXT_FAILED).fetchone()
    if row is None:
        return
    (isolation,) = row
    exports_max = REFUSED_MAX
    if isolation > REFUSED:
        divisor = DIVISORS.get(isolation, limits.exports_max)
        exports_max = max(1, limits.exports_max // divisor)
    claim_failed(db, limits, isolation, exports_max)


def claim_failed(
    db: sqlite3.Connection, limits: GroupLimits, isolation: int, exports_max: int
) -> None:
    params = {"isolation": isolation, "exports_max": exports_max, "bytes_max": limits.bytes_max}
    db.execute(CLAIM_FAILED, params)
