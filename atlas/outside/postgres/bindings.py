"""The keys that name exports. Exports of the same key are stored one after the other.

That holds on all replicas: the lock of a key lasts until the commit.
"""

from collections.abc import Sequence

from atlas.outside.journal.bindings import Binding
from atlas.outside.postgres.database import Database

LOCK_KEYS = "SELECT pg_advisory_xact_lock(hashtextextended(key, 0)) FROM unnest($1::text[]) key"
BINDINGS = """
    SELECT sender, key, position, length, export FROM @.binding
    JOIN unnest($1::text[], $2::text[]) wanted (sender, key) USING (sender, key)
"""
BIND = """
    INSERT INTO @.binding (sender, key, position, length, export)
    SELECT * FROM unnest($1::text[], $2::text[], $3::integer[], $4::integer[], $5::text[])
    ON CONFLICT (sender, key, position) DO UPDATE
    SET length = excluded.length, export = excluded.export
"""


async def read_bindings(
    database: Database, names: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], list[Binding]]:
    """Lock these keys, sorted so that no two transactions wait for each other, and read them."""
    bound: dict[tuple[str, str], list[Binding]] = {name: [] for name in sorted(set(names))}
    if bound:
        await database.fetch(LOCK_KEYS, [f"{sender} {key}" for sender, key in bound])
        senders, keys = zip(*bound, strict=True)
        for sender, *rest in await database.fetch(BINDINGS, senders, keys):
            each = Binding(*rest)
            bound[sender, each.key].append(each)
    return bound


async def store_bindings(database: Database, bound: Sequence[tuple[str, Binding]]) -> None:
    """Bind keys to exports. `bound`: with the keyed hash of the sender."""
    if bound:
        latest = {(sender, each.key, each.position): (sender, *each) for sender, each in bound}
        rows = latest.values()
        await database.execute(BIND, *map(list, zip(*rows, strict=True)))
