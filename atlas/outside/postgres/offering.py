"""Stores exports again that a failover may have lost, as doubtful ones."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from atlas.outside.postgres.bindings import store_bindings
from atlas.outside.postgres.database import Database
from atlas.outside.postgres.insertion import EPOCH, LATEST_MOMENT, append
from atlas.outside.postgres.recent import RecentExport
from atlas.outside.postgres.sealing import Sealer

NEVER = datetime.min.replace(tzinfo=UTC)
LIST_ERASED = "SELECT name, at FROM @.erased"
LIST_PRESENT = """
    SELECT id FROM @.export WHERE id = ANY($1) UNION SELECT id FROM @.digest WHERE id = ANY($1)
"""


async def store_again(
    database: Database, exports: Sequence[RecentExport], sealer: Sealer, *, is_streamed: bool
) -> Collection[str]:
    """Store those that the database lacks, with their keys. Return their ids.

    The path of one may be taken by an export that was accepted since the failover. Then it gets
    another one: only its id tells that an export is there.
    """
    erased = {row["name"]: row["at"] for row in await database.fetch(LIST_ERASED)}
    hash_text = sealer.codec.cipher.hash_text
    # an export that was sent again since is a new one
    left = {
        each.id: each for each in exports if each.columns.at > erased.get(hash_text(each.id), NEVER)
    }
    stored = list[RecentExport]()
    while left:
        rows = [each.columns for each in left.values()]
        appended = await append(database, rows, is_doubtful=True, is_streamed=is_streamed)
        stored += [left.pop(id) for id in appended.ids]
        if left:
            for row in await database.fetch(LIST_PRESENT, list(left)):
                del left[row["id"]]
        left = await move(database, left, sealer)
    bound = [(each.sender, binding) for each in stored for binding in each.bindings]
    await store_bindings(database, bound)
    return [each.id for each in stored]


async def move(
    database: Database, exports: Mapping[str, RecentExport], sealer: Sealer
) -> dict[str, RecentExport]:
    """Give each export a path behind the latest one of its sender."""
    moved, latest = dict[str, RecentExport](), dict[str, int]()
    for id, export in exports.items():
        columns, sender = export.columns, export.sender
        if sender not in latest:
            taken = await database.fetch_value(LATEST_MOMENT, sender, columns.moment)
            latest[sender] = columns.moment if taken is None else taken
        latest[sender] = max(latest[sender], columns.moment) + 1
        at = EPOCH + timedelta(milliseconds=latest[sender])
        moved[id] = replace(export, columns=sealer.move_columns(columns, at))
    return moved
