"""The key of the journal: its data key is in the database, wrapped with each operator's key.

Replicas with different keys can run side by side while the key is changed: a start adds a copy for
each of its keys, and takes away none.
"""

from collections.abc import Collection, Sequence

from atlas.outside.journal import cipher
from atlas.outside.journal.cipher import Cipher
from atlas.outside.journal.keys import (
    CHECK_AAD,
    build_key_error,
    decrypt_destination,
    encrypt_destination,
    fits_check,
    require_common_key,
    require_destination,
    unwrap_all,
)
from atlas.outside.postgres.database import Database

STORE = (
    "INSERT INTO @.secret (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = $2"
)
READ = "SELECT value FROM @.secret WHERE name = $1"
ROOTS = "SELECT name, value FROM @.secret WHERE name LIKE 'root %'"
ABANDON = """
    WITH abandoned AS (
        UPDATE @.export SET status = 'abandoned', is_doubtful = false
        WHERE status IN ('accepted', 'set_aside') RETURNING number
    ), deleted AS (
        DELETE FROM @.payload
    ), cleared AS (
        DELETE FROM @.unpublished
    ), kept AS (
        DELETE FROM @.unpublished_payload
    )
    SELECT count(*) FROM abandoned
"""
FORGET_WORK = "UPDATE @.lease SET numbers = '{}', transaction = NULL"
FORGET_KEY = "DELETE FROM @.secret WHERE name LIKE 'root %' OR name IN ('check', 'destination')"
DROP = "DELETE FROM @.secret WHERE name = ANY($1) AND name LIKE 'root %'"
HAS_COMMITTED = """
    SELECT (SELECT sum(exports) FROM @.total WHERE status = 'committed') > 0
        OR EXISTS (SELECT FROM @.digest)
"""


async def open_cipher(database: Database, keys: Sequence[bytes], shown: str) -> Cipher:
    """Return the cipher, and wrap its data key with each key. Raises ConfigurationError."""
    require_common_key(keys)
    is_new = not await read_copies(database) and not await database.fetch_value(READ, "check")
    data_key = cipher.generate_data_key() if is_new else await find_data_key(database, keys)
    if data_key is None:
        raise build_key_error(shown)
    await store_copies(database, data_key, keys)
    return Cipher(data_key)


async def find_data_key(database: Database, keys: Sequence[bytes]) -> bytes | None:
    """Return the data key; None if no key unwraps it."""
    check = await database.fetch_value(READ, "check")
    copies = await read_copies(database)
    data_keys = unwrap_all(list(copies.values()), keys)
    return next((each for each in data_keys if fits_check(each, check)), None)


async def store_copies(database: Database, data_key: bytes, keys: Sequence[bytes]) -> None:
    """Store a copy for each key that has none, and the check text."""
    if await database.fetch_value(READ, "check") is None:
        await database.execute(STORE, "check", Cipher(data_key).encrypt(b"", CHECK_AAD))
    copies = list((await read_copies(database)).values())
    for key in keys:
        if not unwrap_all(copies, [key]):
            await database.execute(STORE, name_copy(key), cipher.wrap_key(data_key, key))


async def read_copies(database: Database) -> dict[str, bytes]:
    """Return the wrapped copies of the data key by name."""
    return {row["name"]: row["value"] for row in await database.fetch(ROOTS)}


async def drop_copies(database: Database, names: Collection[str]) -> None:
    await database.execute(DROP, list(names))


async def abandon_exports(database: Database) -> int:
    """Abandon all exports of a journal whose key is lost. The next start creates a new data key.

    The receipts stay. Returns the number of exports.
    """
    abandoned: int = await database.fetch_value(ABANDON)
    await database.execute(FORGET_WORK)
    await database.execute(FORGET_KEY)
    return abandoned


def name_copy(key: bytes) -> str:
    """Return the name of the copy that is wrapped with this key, without telling the key."""
    return f"root {cipher.compute_hmac(key, 'name of the key')}"


async def store_destination(
    database: Database, opened: Cipher, shown: str, destination: str
) -> None:
    """Record the dataset and branch. Raises ConfigurationError if exports are in another one."""
    stored = decrypt_destination(opened, await database.fetch_value(READ, "destination"))
    if stored != destination:
        has_committed = bool(await database.fetch_value(HAS_COMMITTED))
        require_destination(shown, stored, destination, has_committed=has_committed)
        await database.execute(STORE, "destination", encrypt_destination(opened, destination))
