"""Checks the configured journal as a whole, and moves it to another database."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from atlas.core.errors import CommandError, ConfigurationError, CorruptEntry
from atlas.outside.journal.cipher import Cipher
from atlas.outside.journal.row_codec import RowCodec
from atlas.outside.journal.transfer import (
    TABLES,
    JournalTables,
    MovedExport,
    MoveSource,
    MoveTarget,
    Row,
)
from atlas.outside.journal.verdicts import DAMAGED_REASON
from atlas.outside.sqlite import snapshot
from atlas.outside.sqlite import transfer as sqlite_transfer
from atlas.service.store import build_connector, parse_address, parse_keys
from atlas.settings import Settings

Report = Callable[[int, int], object]  # receives what is done, and what there is

SAMPLE = 1_000
ROWS_AT_ONCE = 5_000
BYTES_AT_ONCE = 16 * 1024 * 1024
IDS_SHOWN = 5


@dataclass(frozen=True, slots=True)
class MoveResult:
    """The number of exports that were moved, both journals, and the remains of the first."""

    exports: int
    source: str
    target: str
    remains: str


@dataclass(frozen=True, slots=True)
class JournalCheck:
    """The result of a check. `exports` are by status; `decrypted` were read completely."""

    journal: str
    exports: dict[str, int]
    digests: int
    decrypted: int
    problems: tuple[str, ...]


async def check_journal(
    settings: Settings, report: Report, *, is_held: bool = False
) -> JournalCheck:
    """Compare totals with counts, and decrypt everything that waits. Raises CommandError.

    `is_held`: a service uses the file, and keeps it unchanged.
    """
    async with open_snapshot(settings, is_held=is_held) as tables:
        contents = await tables.count()
        problems = [
            f"The total of {status} is {contents.totals.get(status, (0, 0))[0]:,} exports, "
            f"but there are {contents.exports.get(status, (0, 0))[0]:,}, or their bytes differ."
            for status in sorted({*contents.totals, *contents.exports})
            if contents.totals.get(status) != contents.exports.get(status)
        ]
        orphans = await tables.count_orphans()
        if orphans:
            problems.append(f"{orphans:,} payloads belong to no export that waits.")
        decrypted, missing, damaged = await decrypt_waiting(tables, contents.payloads[0], report)
        if missing:
            problems.append(f"{len(missing):,} exports lack their payload: {list_ids(missing)}")
        if damaged:
            problems.append(f"{len(damaged):,} exports are damaged: {list_ids(damaged)}")
        exports = {status: count for status, (count, _) in contents.exports.items()}
        return JournalCheck(tables.shown, exports, contents.digests, decrypted, tuple(problems))


async def decrypt_waiting(
    tables: JournalTables, total: int, report: Report
) -> tuple[int, list[str], list[str]]:
    """Return the number of readable exports, and the ids of those without payload or damaged.

    Exports that are known to be damaged are set aside with that reason, and are left out. Those
    that the first version of the journal set aside have no reason, and no payload.
    """
    codec = RowCodec(Cipher(tables.data_key))
    decrypted, missing, damaged = 0, list[str](), list[str]()
    async for export, payload in tables.read_waiting():
        if export.reason == DAMAGED_REASON:
            continue
        if payload is None:
            if export.status != "set_aside" or export.reason is not None:
                missing.append(export.id)
        elif is_readable(codec, export, payload):
            decrypted += 1
        else:
            damaged.append(export.id)
        report(decrypted, total)
    return decrypted, missing, damaged


def is_readable(codec: RowCodec, export: MovedExport, payload: bytes | None) -> bool:
    """True if the private fields and the payload, if there is one, can be decrypted."""
    row = export.build_row()
    try:
        codec.decrypt_fields(row)
        if payload is not None:
            codec.decrypt_payload(row, payload)
    except CorruptEntry:
        return False
    return True


def list_ids(ids: Sequence[str]) -> str:
    more = ", ..." if len(ids) > IDS_SHOWN else ""
    return ", ".join(id[:12] for id in ids[:IDS_SHOWN]) + more


async def plan_move(settings: Settings, target: Settings) -> MoveResult:
    """Return what a move would do. The target is not opened. Raises CommandError."""
    require_different(settings, target)
    async with open_snapshot(settings) as tables:
        contents = await tables.count()
        exports = sum(count for count, _ in contents.exports.values())
        shown = target.journal.path or parse_address(target).shown
        return MoveResult(exports, tables.shown, str(shown), "")


async def move_journal(settings: Settings, target_settings: Settings, report: Report) -> MoveResult:
    """Copy the configured journal, compare the copy, and retire the original.

    An existing target is accepted only if it is that copy: then an earlier move was interrupted
    before it could retire the original. Raises CommandError.
    """
    require_different(settings, target_settings)
    async with (
        open_source(settings) as source,
        open_target(target_settings, source.data_key) as target,
    ):
        contents = await source.count()
        if target.is_new:
            await copy_tables(source, target, contents.rows, report)
        difference = await find_difference(source, target)
        if difference and target.is_new:
            raise CommandError(f"The copy differs from the journal, which was kept: {difference}.")
        if difference:
            raise CommandError(f"{target.shown} is not empty: name another place, or delete it.")
        if target.is_new:
            await target.commit()
        remains = await source.retire(target.shown)
        exports = sum(count for count, _ in contents.exports.values())
        return MoveResult(exports, source.shown, target.shown, remains)


async def copy_tables(source: MoveSource, target: MoveTarget, total: int, report: Report) -> None:
    done = 0
    for table in TABLES:
        async for page in divide(source.read(table)):
            await target.write(table, page)
            done += len(page)
            report(done, total)
    await target.write_rest(await source.read_rest())


async def divide(rows: AsyncIterator[Row]) -> AsyncIterator[list[Row]]:
    """Collect rows into pages of bounded number and size."""
    page, size = list[Row](), 0
    async for row in rows:
        page.append(row)
        size += sum(len(value) for value in row if isinstance(value, bytes))
        if len(page) >= ROWS_AT_ONCE or size >= BYTES_AT_ONCE:
            yield page
            page, size = [], 0
    if page:
        yield page


async def find_difference(source: JournalTables, target: JournalTables) -> str:
    """Return how both journals differ: in counts, totals, or random exports; "" if they do not."""
    if source.data_key != target.data_key:
        return "the data key"
    if await source.count() != await target.count():
        return "the number of exports"
    if await source.read_rest() != await target.read_rest():
        return "the open transaction, or a record"
    codec = RowCodec(Cipher(target.data_key))
    sample = await source.sample(SAMPLE)
    copies = {
        copy.number: (copy, payload)
        for copy, payload in await target.find([each.number for each, _ in sample])
    }
    readable = [each for each in sample if is_readable(codec, *each)]
    if sample and not readable:
        return "none of its exports can be decrypted"
    different = [
        each.id for each, payload in readable if copies.get(each.number) != (each, payload)
    ]
    return f"exports {list_ids(different)}" if different else ""


def require_different(settings: Settings, target: Settings) -> None:
    """Raise ConfigurationError unless one of them at least is in PostgreSQL, with a key."""
    journal, goal = settings.journal, target.journal
    if not journal.is_shared and not goal.is_shared:
        raise ConfigurationError("Both journals are files: stop Atlas, and move the file.")
    if not journal.keys:
        key_file = "" if journal.path is None else f", such as the one in {journal.path}.key"
        raise ConfigurationError(
            f"ATLAS_JOURNAL_KEY is not set, and replicas need a common key{key_file}."
        )
    if journal.url == goal.url:
        raise ConfigurationError("--to names the journal itself.")


@asynccontextmanager
async def open_snapshot(
    settings: Settings, *, is_held: bool = False
) -> AsyncIterator[JournalTables]:
    if settings.journal.is_shared:
        from atlas.outside.postgres import transfer  # noqa: PLC0415 - optional dependency

        async with transfer.open_snapshot(
            build_connector(settings), parse_keys(settings)
        ) as tables:
            yield tables
    else:
        with open_file(settings, is_held=is_held) as tables:
            yield tables


def open_file(
    settings: Settings, *, is_held: bool
) -> AbstractContextManager[sqlite_transfer.SqliteTables]:
    """Open the file of the journal, without changing it."""
    open_tables = snapshot.open_held if is_held else sqlite_transfer.open_snapshot
    return open_tables(require_path(settings), parse_keys(settings))


@asynccontextmanager
async def open_source(settings: Settings) -> AsyncIterator[MoveSource]:
    if settings.journal.is_shared:
        from atlas.outside.postgres import transfer  # noqa: PLC0415

        async with transfer.open_source(build_connector(settings), parse_keys(settings)) as tables:
            yield tables
    else:
        with sqlite_transfer.open_source(require_path(settings), parse_keys(settings)) as tables:
            yield tables


@asynccontextmanager
async def open_target(settings: Settings, data_key: bytes) -> AsyncIterator[MoveTarget]:
    if settings.journal.is_shared:
        from atlas.outside.postgres import transfer  # noqa: PLC0415

        connector, keys = build_connector(settings), parse_keys(settings)
        async with transfer.open_target(connector, keys, data_key) as tables:
            yield tables
    else:
        path, keys = require_path(settings), parse_keys(settings)
        with sqlite_transfer.open_target(path, keys, data_key) as tables:
            yield tables


def require_path(settings: Settings) -> Path:
    """Return the file of the journal. Raises ConfigurationError if it is in memory."""
    path = settings.journal.path
    if path is None:
        raise ConfigurationError("The journal is in memory, and ends with its process.")
    return path
