"""`atlas flatten`: converts records to rows, without a service."""

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, BinaryIO

import typer

from atlas.cli import emulators
from atlas.core import identifiers, ndjson, rows
from atlas.core.errors import CommandError

BLOCK_BYTES = 4 * 1024 * 1024  # read and flattened at a time

FlattenArgument = Annotated[
    typer.FileBinaryRead, typer.Argument(metavar="FILE", help="NDJSON; - is standard input.")
]
DeviceOption = Annotated[
    str | None, typer.Option(metavar="TEXT", help="Value of the column device.")
]
SubOption = Annotated[str, typer.Option(metavar="TEXT", help="Value of the column auth0_user_id.")]
StrictOption = Annotated[bool, typer.Option("--strict", help="Exit with 1 if a line is rejected.")]


def flatten(
    file: FlattenArgument = "-",  # type: ignore[assignment]  # typer opens it
    device: DeviceOption = "unknown",
    sub: SubOption = emulators.SUB,
    strict: StrictOption = False,
) -> None:
    """Convert HealthKit records to rows, without a service.

    Rejected lines are named on stderr. Exits with 1 if all lines are rejected.

    Example: atlas flatten watch.ndjson | head -1
    """
    now = identifiers.format_timestamp(datetime.now(UTC))
    header = rows.Header(sub, device or "", now, now)
    ingested = rejected = 0
    for first, lines in read_blocks(file):
        table = rows.flatten(lines, header)
        sys.stdout.buffer.write(table.ndjson)
        for reject in table.rejects:
            typer.echo(f"line {first + reject.line - 1}: {reject.reason}", err=True)
        if table.rejected > len(table.rejects):
            typer.echo(f"and {table.rejected - len(table.rejects)} more", err=True)
        ingested, rejected = ingested + table.ingested, rejected + table.rejected
    sys.stdout.flush()
    if rejected and (strict or not ingested):
        raise CommandError(f"{rejected:,} lines were rejected.")


def read_blocks(file: BinaryIO) -> Iterator[tuple[int, tuple[bytes, ...]]]:
    """Yield blocks of whole lines, each with the number of its first line."""
    first = 1
    while block := file.readlines(BLOCK_BYTES):
        yield first, ndjson.split_lines(b"".join(block))
        first += len(block)
