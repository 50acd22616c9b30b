"""`atlas rows`: prints rows of the dataset."""

import os
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import anyio
import msgspec
import typer
from msgspec import Struct

from atlas import service
from atlas.cli.configuration import ConfigOption, JsonOption, load_settings
from atlas.cli.dataset_choice import FromFoundryOption, FromOption, choose_dataset
from atlas.cli.personal_data import parse_user
from atlas.cli.progress_meter import build_progress
from atlas.core.errors import JSON_ERRORS, AtlasError, CommandError
from atlas.core.messages import User
from atlas.settings import Settings

LIMIT = 20
LINE = "{:<56}  {:>11}"

LimitOption = Annotated[
    int, typer.Option(metavar="N", min=0, help="Maximum number of rows; 0 is all.")
]
UserOption = Annotated[
    str | None,
    typer.Option(
        metavar="USER",
        help="Only rows of the user with this sub; - reads it from standard input.",
    ),
]
TypeOption = Annotated[
    str | None, typer.Option(metavar="TYPE", help="Only rows of this type, such as HeartRate.")
]
CountOption = Annotated[bool, typer.Option("--count", help="Print the number of rows by type.")]


class RowKeys(Struct):
    """The columns by which rows are selected."""

    auth0_user_id: str
    sample_type: str


class RowSelection(Struct, frozen=True):
    """The rows that are wanted; None is any."""

    user: User | None
    type: str | None

    def matches(self, row: RowKeys) -> bool:
        return (self.user is None or row.auth0_user_id == self.user.sub) and (
            self.type is None
            or row.sample_type in {self.type, f"HK{self.type}TypeIdentifier"}
            or row.sample_type.endswith(f"Identifier{self.type}")
        )


def rows(
    limit: LimitOption = LIMIT,
    user: UserOption = None,
    type: TypeOption = None,
    count: CountOption = False,
    json: JsonOption = False,
    source: FromOption = None,
    from_foundry: FromFoundryOption = False,
    config: ConfigOption = None,
) -> None:
    """Print the newest rows of the dataset as NDJSON.

    They are read from a running `atlas local` (--from, that of the settings, or the one at its
    usual port), or from Foundry with --from-foundry: the newest files first, and only committed
    ones. They are health data: mind where the output goes.

    Example: atlas rows --type HeartRate --limit 5
    """
    if json and not count:
        raise typer.BadParameter("--json requires --count: rows are NDJSON anyway.")
    selection = RowSelection(None if user is None else parse_user(user), type)
    choose = partial(choose_dataset, load_settings(config, os.environ), from_foundry=from_foundry)
    settings = anyio.run(choose, source).settings
    if count:
        print_counts(anyio.run(count_rows, settings, selection), json=json)
    else:
        anyio.run(print_rows, settings, selection, limit)


async def print_rows(settings: Settings, selection: RowSelection, limit: int) -> None:
    """Print the selected rows, up to `limit`. Raises CommandError."""
    printed = 0

    def take(line: bytes, _row: RowKeys) -> bool:
        nonlocal printed
        sys.stdout.buffer.write(line + b"\n")
        printed += 1
        return printed != limit

    await scan_rows(settings, selection, take, shows_progress=not sys.stdout.isatty())
    sys.stdout.flush()
    if not printed:
        typer.echo("There are no such rows.", err=True)


async def count_rows(settings: Settings, selection: RowSelection) -> Counter[str]:
    """Count the selected rows by type. Raises CommandError."""
    counts = Counter[str]()

    def take(_line: bytes, row: RowKeys) -> bool:
        counts[row.sample_type] += 1
        return True

    await scan_rows(settings, selection, take, shows_progress=True)
    return counts


async def scan_rows(
    settings: Settings,
    selection: RowSelection,
    take: Callable[[bytes, RowKeys], bool],
    *,
    shows_progress: bool,
) -> None:
    """Call `take` with each selected row until it returns False. Raises CommandError."""
    try:
        async with service.open_row_reader(settings) as reader:
            files = await reader.list_files(selection.user)
            progress = build_progress("reading", sum(file.bytes for file in files))
            progress.disable |= not shows_progress
            with progress:
                for file in files:
                    for line in bytes(await reader.read(file)).split(b"\n"):
                        row = decode_keys(line, file.path) if line else None
                        if row and selection.matches(row) and not take(line, row):
                            return
                    progress.advance(progress.task_ids[0], file.bytes)
    except AtlasError as error:
        raise CommandError(str(error)) from error


def decode_keys(line: bytes, path: str) -> RowKeys:
    """Decode the columns for the selection. Raises CommandError, which does not quote the row."""
    try:
        return msgspec.json.decode(line, type=RowKeys)
    except JSON_ERRORS as error:
        raise CommandError(f"{Path(path).name} has a line that is not a row of Atlas.") from error


def print_counts(counts: Counter[str], *, json: bool) -> None:
    total = sum(counts.values())
    if json:
        typer.echo(msgspec.json.encode({"rows": total, "types": dict(counts.most_common())}))
        return
    typer.echo(LINE.format("TYPE", "ROWS"))
    for type, number in counts.most_common():
        typer.echo(LINE.format(type or "(none)", f"{number:,}"))
    typer.echo(f"{total:,} rows of {len(counts):,} types")
