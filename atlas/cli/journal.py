"""`atlas journal`: checks, copies and moves the whole journal; its keys, and its tables."""

from functools import partial
from typing import Annotated

import anyio
import msgspec
import typer

from atlas import service
from atlas.cli.configuration import ConfigOption, DryRunOption, JsonOption
from atlas.cli.journal_file import backup, build_meter, show, stats
from atlas.cli.main import build_group
from atlas.cli.operator_client import JournalOption, load_settings_for_journal, read_file
from atlas.settings import Settings

SCHEMES = ("sqlite:///", "postgresql://", "postgres://")
LINE = "{:<34}  {}"

ToOption = Annotated[
    str,
    typer.Option(
        "--to",
        metavar="URL",
        help="postgresql://USER@HOST/DATABASE or sqlite:///PATH. The password may be in "
        "PGPASSWORD or ~/.pgpass.",
    ),
]

app = build_group(
    """Check, back up or move the journal, its keys and its tables.

    Example: atlas journal check
    """
)


@app.command()
def check(
    json: JsonOption = False, journal: JournalOption = None, config: ConfigOption = None
) -> None:
    """Check the totals, and decrypt everything that waits.

    Exits with 1 if there is a problem. A service may run meanwhile.

    Example: atlas journal check
    """
    settings = load_settings_for_journal(config, journal)
    with build_meter("checking") as meter:
        result = read_file(
            settings,
            lambda is_held: service.check_journal(settings, partial(show, meter), is_held=is_held),
        )
    typer.echo(msgspec.json.encode(result).decode() if json else render_check(result))
    if result.problems:
        raise typer.Exit(1)


app.command()(stats)
app.command()(backup)


@app.command()
def move(
    to: ToOption,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
    journal: JournalOption = None,
    config: ConfigOption = None,
) -> None:
    """Move the journal between SQLite and PostgreSQL.

    No service may use it meanwhile. The copy is compared before the journal is retired. If the
    command is interrupted, repeat it.

    Example: atlas journal move --to 'postgresql://atlas@db.internal/atlas'
    """
    settings = load_settings_for_journal(config, journal)
    if not to.startswith(SCHEMES):
        raise typer.BadParameter("--to must be postgresql://... or sqlite:///PATH.")
    replace = msgspec.structs.replace
    target = replace(settings, journal=replace(settings.journal, url=to))
    if dry_run:
        result = anyio.run(service.plan_move, settings, target)
    else:
        with build_meter("moving") as meter:
            result = anyio.run(service.move_journal, settings, target, partial(show, meter))
    typer.echo(msgspec.json.encode(result).decode() if json else render_move(result))


@app.command()
def keys(
    drop: Annotated[
        bool, typer.Option("--drop", help="Drop the copies for keys that are not configured.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
    journal: JournalOption = None,
    config: ConfigOption = None,
) -> None:
    """List the encrypted copies of the data key.

    Each is encrypted with a key of ATLAS_JOURNAL_KEY.

    After a change of ATLAS_JOURNAL_KEY, when all replicas have the new one, drop the copy for the
    old one. With --dry-run, list those that would be dropped.

    Example: atlas journal keys --drop
    """
    settings = load_settings_for_journal(config, journal)
    copies = anyio.run(service.list_key_copies, settings)
    # a start replaces the copy of a file, which has no others
    unknown = [each for each in copies if each.position is None and settings.journal.is_shared]
    shown = unknown if drop and dry_run else copies
    if not json:
        for each in shown:
            typer.echo(LINE.format(each.name, describe_key(each, settings)))
    dropped = 0
    if drop and not dry_run:
        if unknown and not yes:
            question = (
                f"Drop {len(unknown):,}? A replica that has only that key cannot start any more."
            )
            typer.confirm(question, abort=True, err=True)
        dropped = anyio.run(service.drop_key_copies, settings)
    if json:
        typer.echo(msgspec.json.encode({"copies": shown, "dropped": dropped}).decode())
    elif drop:
        typer.echo(f"{len(unknown):,} would be dropped." if dry_run else f"{dropped:,} dropped.")


@app.command()
def migrate(
    contract: Annotated[
        bool, typer.Option("--contract", help="Exclude older versions of Atlas from now on.")
    ] = False,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Upgrade the tables in PostgreSQL, as a newer version does.

    Its start does the same. Older replicas can go on until they are excluded.

    Example: atlas journal migrate --contract
    """
    settings = load_settings_for_journal(config, None)
    version = anyio.run(
        partial(service.migrate_journal, settings, contract=contract, is_dry_run=dry_run)
    )
    if json:
        typer.echo(msgspec.json.encode(version).decode())
        return
    typer.echo(
        f"The tables have version {version.present}; versions from {version.writers} on may write; "
        f"this Atlas has {version.ours}."
    )
    if dry_run:
        oldest = version.ours if contract else version.writers
        typer.echo(
            f"They would have version {max(version.present, version.ours)}, and versions from "
            f"{oldest} on could write. Nothing was changed."
        )


def render_move(result: service.MoveResult) -> str:
    if not result.remains:
        return (
            f"{result.exports:,} exports would be moved from {result.source} to {result.target}. "
            "Nothing was changed."
        )
    return (
        f"{result.exports:,} exports moved from {result.source} to {result.target}. "
        f"The old journal is now {result.remains}.\n"
        "Set ATLAS_JOURNAL to the new URL before the next start."
    )


def render_check(result: service.JournalCheck) -> str:
    counts = ", ".join(f"{count:,} {status}" for status, count in result.exports.items())
    return "\n".join(
        [
            f"Journal    {result.journal}",
            f"Exports    {counts or 'none'}, {result.digests:,} digests",
            f"Decrypted  {result.decrypted:,} that wait or are set aside",
            *(f"PROBLEM    {problem}" for problem in result.problems),
            *(() if result.problems else ("PASS",)),
        ]
    )


def describe_key(copy: service.KeyCopy, settings: Settings) -> str:
    if copy.position is None:
        return "a key that is not configured"
    return f"key {copy.position} of ATLAS_JOURNAL_KEY" if settings.journal.keys else "the key file"
