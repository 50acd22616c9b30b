"""`atlas import`: Apple's Health export, converted and sent as the app would send it."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated

import anyio
import msgspec
import typer

from atlas.apple import Conversion, Kind, Unreadable, census, opened
from atlas.cli.meter import Meter
from atlas.cli.phone import URL_DEFAULT, DeviceOption, Target, TokenOption, ToOption
from atlas.cli.windows import Sending
from atlas.client import CannotSend

LINE = "{:<56}  {:>11}  {:<10}  {:<10}"
HEADINGS = LINE.format("TYPE", "SAMPLES", "FIRST", "LAST").rstrip()
DAY = len("2020-04-10")
GOES_ON = "The same command goes on where it ended, and adds nothing twice."

ExportArgument = Annotated[
    Path,
    typer.Argument(
        metavar="EXPORT",
        exists=True,
        readable=True,
        help="The export.zip of the phone, the folder it unpacks to, or its XML.",
    ),
]
EcgOption = Annotated[bool, typer.Option("--ecg", help="Electrocardiograms, too, a line each.")]
RoutesOption = Annotated[
    bool, typer.Option("--routes", help="Where workouts went, too, a line each.")
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Send nothing; print what is in it, by type.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="With --dry-run: for a program.")]


def import_(
    export: ExportArgument,
    device: DeviceOption = None,
    to: ToOption = URL_DEFAULT,
    token: TokenOption = None,
    ecg: EcgOption = False,
    routes: RoutesOption = False,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
) -> None:
    """Send Apple's Health export, and say what became of every sample.

    After Ctrl-C the same command goes on where it ended: how far it came stands in a small file
    beside the export until all of it is sent.

    Example: atlas import export.zip --dry-run
    """
    if json and not dry_run:
        raise typer.BadParameter("--json goes with --dry-run.")
    with opened(export) as found:
        begin = partial(Conversion, found, ecg, routes)
        if dry_run:
            conversion = begin()
            with Meter(conversion.size) as meter:
                kinds = census(meter.watched("counting", conversion))
            if kinds or not conversion.trouble:
                typer.echo(as_json(kinds, conversion) if json else shown(kinds))
        else:
            conversion = sent(Sending(begin), export, Target(to, token, device, is_streamed=False))
    for notice in notices(conversion):
        typer.echo(notice, err=True)
    if conversion.trouble:
        raise Unreadable(conversion.trouble)


def sent(sending: Sending, export: Path, target: Target) -> Conversion:
    """Raises CannotSend."""
    try:
        anyio.run(sending.run, export, target)
    except KeyboardInterrupt:
        typer.echo(sending.summary)
        typer.echo(f"atlas: Interrupted. {GOES_ON}", err=True)
        raise
    if sending.lines.taken or not sending.conversion.trouble:
        typer.echo(sending.summary)
    for number, reason in sending.balance.rejects:
        typer.echo(f"sample {number}: {reason}", err=True)
    if sending.balance.trouble:
        raise CannotSend(f"{sending.balance.trouble} {GOES_ON}")
    return sending.conversion


def shown(kinds: list[Kind]) -> str:
    """A table. It has no value in it."""
    lines = [
        LINE.format(kind.type, f"{kind.count:,}", kind.first[:DAY], kind.last[:DAY]).rstrip()
        for kind in kinds
    ]
    total = sum(kind.count for kind in kinds)
    return "\n".join([HEADINGS, *lines, f"{total:,} samples of {len(kinds):,} types"])


def as_json(kinds: list[Kind], conversion: Conversion) -> str:
    told = {
        "samples": sum(kind.count for kind in kinds),
        "types": kinds,
        "others": conversion.others,
        "files_left_out": conversion.passed_over,
        "tags_left_out": conversion.reader.left_out,
    }
    return msgspec.json.encode(told).decode()


def notices(conversion: Conversion) -> Iterator[str]:
    """What is not in the lines, and why."""
    if conversion.others:
        others = ", ".join(f"{count:,} {name}" for name, count in conversion.others.items())
        yield f"no samples, left out: {others}"
    for reason, count in conversion.passed_over.items():
        yield f"files left out: {count:,} ({reason})"
    reader = conversion.reader
    if reader.left_out:
        lines = ", ".join(map(str, reader.lines))
        more = ", ..." if reader.left_out > len(reader.lines) else ""
        yield f"tags left out that are no XML: {reader.left_out:,} (lines {lines}{more})"
