"""`atlas import`: Apple's Health export, converted and sent as the app would send it."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated

import anyio
import msgspec
import typer

from atlas.apple import Conversion, TypeSummary, Unreadable, open_export, summarize
from atlas.cli.meter import ImportMeter
from atlas.cli.phone import URL_DEFAULT, DeviceOption, Target, TokenOption, ToOption
from atlas.cli.windows import ImportRun
from atlas.client import CannotSend

LINE = "{:<56}  {:>11}  {:<10}  {:<10}"
HEADINGS = LINE.format("TYPE", "SAMPLES", "FIRST", "LAST").rstrip()
DAY = len("2020-04-10")
RESUME_HINT = "The same command goes on where it ended, and adds nothing twice."

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
    with open_export(export) as health_export:
        begin = partial(Conversion, health_export, ecg, routes)
        if dry_run:
            conversion = begin()
            with ImportMeter(conversion.size) as meter:
                summaries = summarize(meter.track("counting", conversion))
            if summaries or not conversion.error:
                typer.echo(
                    encode_summary(summaries, conversion) if json else format_summary(summaries)
                )
        else:
            conversion = send_export(
                ImportRun(begin), export, Target(to, token, device, is_streamed=False)
            )
    for notice in list_notices(conversion):
        typer.echo(notice, err=True)
    if conversion.error:
        raise Unreadable(conversion.error)


def send_export(sending: ImportRun, export: Path, target: Target) -> Conversion:
    """Raises CannotSend."""
    try:
        anyio.run(sending.run, export, target)
    except KeyboardInterrupt:
        typer.echo(sending.summary)
        typer.echo(f"atlas: Interrupted. {RESUME_HINT}", err=True)
        raise
    if sending.lines.taken or not sending.conversion.error:
        typer.echo(sending.summary)
    for number, reason in sending.balance.rejects:
        typer.echo(f"sample {number}: {reason}", err=True)
    if sending.balance.trouble:
        raise CannotSend(f"{sending.balance.trouble} {RESUME_HINT}")
    return sending.conversion


def format_summary(summaries: list[TypeSummary]) -> str:
    """A table. It has no value in it."""
    lines = [
        LINE.format(kind.type, f"{kind.count:,}", kind.first[:DAY], kind.last[:DAY]).rstrip()
        for kind in summaries
    ]
    total = sum(kind.count for kind in summaries)
    return "\n".join([HEADINGS, *lines, f"{total:,} samples of {len(summaries):,} types"])


def encode_summary(summaries: list[TypeSummary], conversion: Conversion) -> str:
    fields = {
        "samples": sum(kind.count for kind in summaries),
        "types": summaries,
        "others": conversion.other_elements,
        "files_left_out": conversion.skipped,
        "tags_left_out": conversion.reader.tags_left_out,
    }
    return msgspec.json.encode(fields).decode()


def list_notices(conversion: Conversion) -> Iterator[str]:
    """What is not in the lines, and why."""
    if conversion.other_elements:
        others = ", ".join(f"{count:,} {name}" for name, count in conversion.other_elements.items())
        yield f"no samples, left out: {others}"
    for reason, count in conversion.skipped.items():
        yield f"files left out: {count:,} ({reason})"
    reader = conversion.reader
    if reader.tags_left_out:
        lines = ", ".join(map(str, reader.omitted_lines))
        more = ", ..." if reader.tags_left_out > len(reader.omitted_lines) else ""
        yield f"tags left out that are no XML: {reader.tags_left_out:,} (lines {lines}{more})"
