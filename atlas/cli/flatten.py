"""What becomes of what the app sends, without any service: `atlas flatten`."""

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, BinaryIO

import typer

from atlas.cli import emulators
from atlas.core import identifiers, ndjson, rows
from atlas.core.errors import CommandError

BLOCK_BYTES = 4 * 1024 * 1024  # flattened at once

FlattenArgument = Annotated[
    typer.FileBinaryRead, typer.Argument(metavar="FILE", help="NDJSON; standard input if absent.")
]
DeviceOption = Annotated[str | None, typer.Option(help="What the column device says.")]
StrictOption = Annotated[bool, typer.Option("--strict", help="Exit 1 if a line is rejected.")]


def flatten(
    file: FlattenArgument = "-",  # type: ignore[assignment]  # typer opens it
    device: DeviceOption = "unknown",
    sub: Annotated[str, typer.Option(help="What the column auth0_user_id says.")] = emulators.SUB,
    strict: StrictOption = False,
) -> None:
    """Records in, rows out, without any service. Rejected lines are told on stderr.

    Example: atlas flatten watch.ndjson | head -1
    """
    now = identifiers.format_timestamp(datetime.now(UTC))
    header = rows.Header(sub, device or "", now, now)
    rejected = 0
    for first, lines in read_blocks(file):
        table = rows.flatten(lines, header)
        sys.stdout.buffer.write(table.ndjson)
        for reject in table.rejects:
            typer.echo(f"line {first + reject.line - 1}: {reject.reason}", err=True)
        if table.rejected > len(table.rejects):
            typer.echo(f"and {table.rejected - len(table.rejects)} more", err=True)
        rejected += table.rejected
    sys.stdout.flush()
    if strict and rejected:
        raise CommandError(f"{rejected:,} lines were rejected.")


def read_blocks(file: BinaryIO) -> Iterator[tuple[int, tuple[bytes, ...]]]:
    """Whole lines, some MiB at a time, with the number of the first; a long file is never held."""
    first = 1
    while gathered := file.readlines(BLOCK_BYTES):
        text = b"".join(gathered)
        yield first, ndjson.split_lines(text)
        first += len(gathered)
