"""Copies the configured journal into a file, and reads its statistics."""

from dataclasses import dataclass
from pathlib import Path

from atlas.outside.journal.statistics import JournalStatistics
from atlas.outside.sqlite import backup
from atlas.service.store import build_connector, parse_keys
from atlas.service.transfer import Report, open_file, require_path
from atlas.settings import Settings

__all__ = ["BackupResult", "JournalStatistics", "back_up_journal", "read_statistics"]


@dataclass(frozen=True, slots=True)
class BackupResult:
    """A verified copy of a journal. `exports` are by status; `key` is needed to decrypt it."""

    journal: str
    file: str
    bytes: int
    exports: dict[str, int]
    digests: int
    key: str


async def back_up_journal(
    settings: Settings, target: Path, report: Report, *, is_held: bool, replaces: bool
) -> BackupResult:
    """Copy a journal in a file, and verify the copy. Raises CommandError.

    `is_held`: a service uses the file, and keeps it unchanged. `replaces`: the target may exist.
    """
    journal, configured = require_path(settings), parse_keys(settings)
    backup.require_elsewhere(journal, target)
    with (
        backup.create_file(target, replaces=replaces) as partial,
        open_file(settings, is_held=is_held) as tables,  # its end, too, may reject the copy
    ):
        keys = backup.find_keys(journal, configured)
        with backup.map_write_errors(target):
            size = await backup.copy(tables, partial, keys, report)
        contents = await tables.count()
    return BackupResult(
        str(journal),
        str(target),
        size,
        {status: count for status, (count, _) in contents.exports.items()},
        contents.digests,
        backup.describe_key(journal, configured),
    )


async def read_statistics(settings: Settings, *, is_held: bool) -> JournalStatistics:
    """Read the statistics of the journal. Raises CommandError."""
    if settings.journal.is_shared:
        from atlas.outside.postgres import statistics  # noqa: PLC0415 - optional dependency

        return await statistics.read_statistics(build_connector(settings), parse_keys(settings))
    with open_file(settings, is_held=is_held) as tables:
        return tables.read_statistics()
