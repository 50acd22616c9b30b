"""Records the result of a commit: the verdict on each export of the group.

An export that fails moves to the end of the queue of failed exports, which is sorted by `turn`.
"""

import sqlite3
from typing import Any

from atlas.core.commits import Conclusion, VerdictKind
from atlas.outside.journal.verdicts import DAMAGED_REASON, order_verdicts
from atlas.outside.sqlite.columns import COLUMNS

SELECTED = "status = 'claimed' AND number IN (SELECT value FROM json_each(:numbers))"
COMMITTED = f"""
    UPDATE export SET status = 'committed', rid = :transaction, reason = NULL
    WHERE {SELECTED} RETURNING {COLUMNS}
"""
CORRUPT = f"""
    UPDATE export SET
        status = 'set_aside', reason = '{DAMAGED_REASON}', file = NULL, file_bytes = NULL
    WHERE {SELECTED} RETURNING {COLUMNS}
"""
LATER = "since = :newest, turn = :turn, reason = :reason, file = NULL, file_bytes = NULL"
RELEASED = f"UPDATE export SET status = 'accepted', file = NULL, file_bytes = NULL WHERE {SELECTED}"
ISOLATED = f"UPDATE export SET status = 'accepted', {LATER}, isolation = 4 WHERE {SELECTED}"
IS_PROVEN = "(:is_proven OR :newest > since)"
REFUSED = f"""
    UPDATE export SET
        {LATER},
        tries = tries + 1,
        isolation = CASE WHEN isolation IN (0, 2, 3) THEN 1 ELSE isolation END,
        status = CASE WHEN tries + 1 >= :tries_max AND {IS_PROVEN}
            THEN 'set_aside' ELSE 'accepted' END
    WHERE {SELECTED} RETURNING {COLUMNS}
"""
FAILED = f"""
    UPDATE export SET
        {LATER},
        tries = tries + :counts,
        isolation = CASE
            WHEN isolation >= 2 THEN min(isolation + 1, 4)
            WHEN :is_divided OR tries >= 1 THEN 2
            ELSE isolation END,
        status = CASE WHEN tries + :counts >= :tries_max AND :is_alone AND {IS_PROVEN}
            THEN 'set_aside' ELSE 'accepted' END
    WHERE {SELECTED} RETURNING {COLUMNS}
"""
STATEMENTS: dict[VerdictKind, str] = {
    "committed": COMMITTED,
    "corrupt": CORRUPT,
    "refused": REFUSED,
    "failed": FAILED,
    "divided": FAILED,
    "isolated": ISOLATED,
    "released": RELEASED,
}
CLAIMED = "SELECT number, id FROM export WHERE status = 'claimed'"
NEWEST = "SELECT coalesce(max(number), 0) FROM export WHERE status = 'committed'"
TURN = "SELECT coalesce(max(turn), 0) + 1 FROM export WHERE status = 'accepted' AND isolation > 0"

RowValues = tuple[Any, ...]


def apply_conclusion(db: sqlite3.Connection, conclusion: Conclusion) -> list[RowValues]:
    """Apply the verdicts, and return the rows of committed, failed and corrupt exports.

    `moved` is treated as `released`: the caller has recorded the new path.
    """
    claimed = dict(db.execute(CLAIMED).fetchall())
    (turn,) = db.execute(TURN).fetchone()
    params = {"turn": turn, "tries_max": conclusion.tries_max, "is_alone": len(claimed) == 1}
    rows: list[RowValues] = []
    has_evidence = conclusion.has_evidence
    for verdict, numbers in order_verdicts(conclusion, claimed):
        (newest,) = db.execute(NEWEST).fetchone()
        params |= {
            "numbers": str(numbers),  # a list of integers is valid JSON
            "newest": newest,
            "reason": verdict.reason,
            "transaction": verdict.transaction,
            "is_divided": verdict.kind == "divided",
            "counts": not verdict.is_unanswered,
            "is_proven": verdict.is_certain or has_evidence,
        }
        has_evidence = has_evidence or verdict.kind == "committed"
        rows += db.execute(STATEMENTS[verdict.kind], params).fetchall()
    return rows
