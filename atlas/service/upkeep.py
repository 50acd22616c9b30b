"""Upkeep of the configured journal: its data key, and the version of its tables."""

from collections.abc import Sequence
from dataclasses import dataclass

from atlas.core.errors import CommandError, ConfigurationError
from atlas.outside.journal import cipher
from atlas.outside.sqlite import journal as sqlite_journal
from atlas.outside.sqlite import keys as sqlite_keys
from atlas.outside.sqlite import transfer as sqlite_transfer
from atlas.service.store import build_connector, open_unlocked, parse_keys
from atlas.service.transfer import require_path
from atlas.settings import Settings


@dataclass(frozen=True, slots=True)
class KeyCopy:
    """A copy of the data key. `position` is that of its key in ATLAS_JOURNAL_KEY, from 1."""

    name: str
    position: int | None


@dataclass(frozen=True, slots=True)
class TableVersion:
    """The version of the tables, the oldest that may write them, and that of this Atlas."""

    present: int
    writers: int
    ours: int


async def list_key_copies(settings: Settings) -> list[KeyCopy]:
    """Return the copies of the data key. Raises ConfigurationError if no key fits."""
    if not settings.journal.is_shared:
        path = require_path(settings)
        keys_of_file = parse_keys(settings) or [sqlite_keys.read_key_file(path, is_new=False)]
        copies = sqlite_transfer.read_copies(path)
        return [KeyCopy(place, find_position(keys_of_file, copy)) for place, copy in copies.items()]
    from atlas.outside.postgres import keys, transfer  # noqa: PLC0415 - optional dependency

    async with transfer.open_transaction(build_connector(settings)) as database:
        stored = await keys.read_copies(database)
    return [
        KeyCopy(name.removeprefix("root "), find_position(parse_keys(settings), copy))
        for name, copy in stored.items()
    ]


def find_position(journal_keys: Sequence[bytes], copy: bytes) -> int | None:
    """Return the position, from 1, of the key that unwraps the copy, if any."""
    for position, key in enumerate(journal_keys, 1):
        if cipher.unwrap_key(copy, key) is not None:
            return position
    return None


async def drop_key_copies(settings: Settings) -> int:
    """Drop the copies for keys that are not configured, and return their number.

    A file has no others: a start wraps its data key with the first key.
    """
    if not settings.journal.is_shared:
        return 0
    from atlas.outside.postgres import keys, transfer  # noqa: PLC0415

    async with open_unlocked(settings):  # a copy for each configured key, before any is dropped
        pass
    unknown = [each.name for each in await list_key_copies(settings) if each.position is None]
    async with transfer.open_transaction(build_connector(settings)) as database:
        await keys.drop_copies(database, [f"root {name}" for name in unknown])
        await database.execute("COMMIT")
    return len(unknown)


async def abandon_unreadable(settings: Settings, is_dry_run: bool = False) -> int:
    """Abandon the exports that the configured keys cannot decrypt, and return their number.

    With `is_dry_run`, only count them. Raises JournalLocked, JournalInUse, and CommandError if the
    keys decrypt everything.
    """
    if not settings.journal.is_shared:
        return sqlite_journal.abandon(
            settings.journal.path, parse_keys(settings), is_dry_run=is_dry_run
        )
    from atlas.outside.postgres import keys, transfer  # noqa: PLC0415

    connector = build_connector(settings)
    shown = connector.address.shown
    async with transfer.open_transaction(connector) as database:
        await transfer.require_unused(database, shown)
        if await keys.find_data_key(database, parse_keys(settings)) is not None:
            raise CommandError(f"The journal {shown} opens with this key: nothing is lost.")
        abandoned = await keys.abandon_exports(database)
        await database.execute("ROLLBACK" if is_dry_run else "COMMIT")
    return abandoned


async def migrate_journal(
    settings: Settings, *, contract: bool, is_dry_run: bool = False
) -> TableVersion:
    """Upgrade the tables, and with `contract` exclude older versions. Raises JournalInUse.

    With `is_dry_run`, only read the version.
    """
    if not settings.journal.is_shared:
        raise ConfigurationError("Only for PostgreSQL: a start of Atlas upgrades a file.")
    from atlas.outside.postgres import schema, transfer  # noqa: PLC0415

    if not is_dry_run:
        async with open_unlocked(settings):
            pass
    connector = build_connector(settings)
    async with transfer.open_transaction(connector) as database:
        if contract and not is_dry_run:
            await schema.contract(database, connector.address.shown)
        row = await database.fetch_row(schema.READ_VERSION)
        await database.execute("COMMIT")
    present, writers = (schema.VERSION, schema.VERSION) if row is None else tuple(row)
    return TableVersion(present, writers, schema.VERSION)
