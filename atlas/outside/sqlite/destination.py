"""A journal is of one dataset and branch: what its receipts say is true there, and nowhere else.

For another dataset it would answer `replayed` for what never came there, and add nothing.
"""

import sqlite3
from pathlib import Path

from atlas.core.errors import BadSetting, Damaged
from atlas.outside.sqlite.seal import Seal

BOUND = b"where the exports of this journal go"
COMMITTED = (
    "SELECT EXISTS (SELECT 1 FROM digest) "
    "OR EXISTS (SELECT 1 FROM export WHERE status = 'committed')"
)


def keep(db: sqlite3.Connection, path: Path, seal: Seal, destination: str) -> None:
    """Note it. Raises BadSetting if something is committed elsewhere.

    Until then it may change, as after a RID that was wrong.
    """
    before = noted(db, seal)
    if before == destination:
        return
    if before is not None and db.execute(COMMITTED).fetchone()[0]:
        raise BadSetting(
            f"What the journal {path} has committed stands in {before}; FOUNDRY_DATASET_RID and "
            f"FOUNDRY_BRANCH lead to {destination}. Take another journal for that: ATLAS_JOURNAL."
        )
    sealed = seal.close(destination.encode(), BOUND)
    db.execute("INSERT OR REPLACE INTO secret VALUES ('destination', ?)", [sealed])


def noted(db: sqlite3.Connection, seal: Seal) -> str | None:
    """None in a new journal, in one of an earlier version, and when the note is damaged."""
    found = db.execute("SELECT value FROM secret WHERE name = 'destination'").fetchone()
    try:
        return seal.open(found[0], BOUND).decode() if found else None
    except Damaged:
        return None
