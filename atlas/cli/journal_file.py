"""`atlas journal stats` and `backup`, which also run beside a service."""

from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.progress import MofNCompleteColumn, Progress

from atlas import service
from atlas.cli.configuration import ConfigOption, JsonOption
from atlas.cli.operator_client import JournalOption, load_settings_for_journal, read_file
from atlas.cli.progress_meter import build_progress
from atlas.cli.render import format_size
from atlas.core.identifiers import format_duration

LINE = "{:<10} {}"
STDOUT = Path("-")

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="A new file.")]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Replace FILE, once the new copy is verified.")
]


def stats(
    json: JsonOption = False, journal: JournalOption = None, config: ConfigOption = None
) -> None:
    """Print what the journal holds, and how large it is.

    A service may run meanwhile.

    Example: atlas journal stats --json
    """
    settings = load_settings_for_journal(config, journal)
    result = read_file(settings, lambda is_held: service.read_statistics(settings, is_held=is_held))
    typer.echo(msgspec.json.encode(result).decode() if json else render_statistics(result))


def backup(
    file: FileArgument,
    force: ForceOption = False,
    json: JsonOption = False,
    journal: JournalOption = None,
    config: ConfigOption = None,
) -> None:
    """Copy a journal in a file to a new file, and verify the copy.

    A service may run meanwhile. Keep the key of the journal elsewhere: without it, the copy cannot
    be decrypted.

    Example: atlas journal backup /backup/journal-monday.db
    """
    if file == STDOUT:
        raise typer.BadParameter("A backup is verified after it is written: name a file.")
    settings = load_settings_for_journal(config, journal)
    if settings.journal.is_shared:
        raise typer.BadParameter(
            "The journal is in PostgreSQL: use pg_dump, or the snapshots of its provider."
        )
    with build_meter("copying") as meter:
        result = read_file(
            settings,
            lambda is_held: service.back_up_journal(
                settings, file, partial(show, meter), is_held=is_held, replaces=force
            ),
        )
    typer.echo(msgspec.json.encode(result).decode() if json else render_backup(result))


def build_meter(activity: str) -> Progress:
    return build_progress(activity, None, MofNCompleteColumn(), is_transient=True)


def show(meter: Progress, done: int, total: int) -> None:
    meter.update(meter.task_ids[0], completed=done, total=total)


def render_statistics(result: service.JournalStatistics) -> str:
    lines = [("Journal", f"{result.journal}, version {result.version}")]
    lines += [
        (
            status.replace("_", " ").capitalize(),
            f"{each.exports:,} exports, {format_size(each.bytes)} of rows",
        )
        for status, each in sorted(result.exports.items())
    ]
    if result.oldest is not None:
        age = (datetime.now(UTC) - result.oldest).total_seconds()
        lines.append(("Oldest", f"has waited for {format_duration(age)}"))
    lines += [("Users", f"{result.users:,}"), ("Digests", f"{result.digests:,}")]
    size = "unknown" if result.bytes is None else format_size(result.bytes)
    if result.free_bytes is not None:
        size += f", of which {format_size(result.free_bytes)} are free for new data"
    lines.append(("Size", size))
    if result.wal_bytes is not None:
        lines.append(("WAL", format_size(result.wal_bytes)))
    return "\n".join(LINE.format(name, text) for name, text in lines)


def render_backup(result: service.BackupResult) -> str:
    counts = ", ".join(f"{count:,} {status}" for status, count in sorted(result.exports.items()))
    lines = [
        ("Backup", f"{result.file}, {format_size(result.bytes)}"),
        ("Journal", result.journal),
        ("Exports", f"{counts or 'none'}, {result.digests:,} digests"),
        ("Verified", "every page, and the number of exports"),
        ("Key", f"{result.key}: keep it elsewhere. Without it, the copy cannot be decrypted."),
    ]
    return "\n".join(LINE.format(name, text) for name, text in lines)
