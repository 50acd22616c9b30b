"""`atlas import`: converts Apple's Health export, and sends it as the app would."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated

import anyio
import msgspec
import typer

from atlas.apple import (
    IDENTITIES,
    Conversion,
    IdentityChoice,
    Sample,
    SampleDeletion,
    TypeSummary,
    Unreadable,
    open_export,
    summarize,
)
from atlas.apple.archive import HealthExport
from atlas.cli.configuration import JsonOption
from atlas.cli.import_windows import ImportRun
from atlas.cli.progress_meter import ImportMeter
from atlas.cli.send import (
    URL_DEFAULT,
    DeviceOption,
    SendTarget,
    TokenOption,
    ToOption,
    check_outcome,
)
from atlas.cli.transfer_report import print_outcome

LINE = "{:<56}  {:>11}  {:<10}  {:<10}"
HEADINGS = LINE.format("TYPE", "SAMPLES", "FIRST", "LAST").rstrip()
DAY = len("2020-04-10")
SAMPLES_PER_UPDATE = 5_000
RESUME_HINT = "Run the same command again to continue; nothing is added twice."

ExportArgument = Annotated[
    Path,
    typer.Argument(
        metavar="EXPORT",
        exists=True,
        readable=True,
        help="The phone's export.zip, the folder it unpacks to, or its XML.",
    ),
]
EcgOption = Annotated[bool, typer.Option("--ecg", help="Include electrocardiograms.")]
RoutesOption = Annotated[bool, typer.Option("--routes", help="Include the routes of workouts.")]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Send nothing; print the number of samples by type.")
]
IdentityOption = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=min(IDENTITIES),
        max=max(IDENTITIES),
        help="Version of the uuids. Default: 2, or that of the interrupted import.",
    ),
]
ReplaceOption = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=min(IDENTITIES),
        max=max(IDENTITIES),
        help="Also delete the rows that an earlier import wrote with this version.",
    ),
]


def import_(  # noqa: PLR0913, PLR0917  # one for each option
    export: ExportArgument,
    device: DeviceOption = None,
    to: ToOption = URL_DEFAULT,
    token: TokenOption = None,
    ecg: EcgOption = False,
    routes: RoutesOption = False,
    identity: IdentityOption = None,
    replace_identity: ReplaceOption = None,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
) -> None:
    """Send Apple's Health export.

    Reports the outcome of its samples. After Ctrl-C, run the same command again to continue: its
    progress is stored in a small file next to the export until everything is sent.

    Example: atlas import export.zip --dry-run
    """
    choice = choose_identity(identity, replace_identity)
    with open_export(export) as health_export:
        begin = partial(begin_conversion, health_export, ecg, routes)
        if dry_run:
            conversion = begin(choice)
            with ImportMeter(conversion.size) as meter:
                summaries = summarize(count_samples(conversion, meter))
            if summaries or not conversion.error:
                typer.echo(
                    encode_summary(summaries, conversion) if json else format_summary(summaries)
                )
        else:
            target = SendTarget(to, token, device, is_streamed=False)
            conversion = send_export(ImportRun(begin, choice=choice), export, target, json=json)
    for notice in list_notices(conversion):
        typer.echo(notice, err=True)
    if conversion.error:
        raise Unreadable(conversion.error)


def choose_identity(identity: int | None, replaced: int | None) -> IdentityChoice:
    """Raises typer.BadParameter."""
    choice = IdentityChoice(identity, replaced)
    if choice.replaced == choice.version:
        raise typer.BadParameter(
            "An import cannot delete the rows that it writes.", param_hint="--replace-identity"
        )
    return choice


def begin_conversion(
    health_export: HealthExport, ecg: bool, routes: bool, choice: IdentityChoice
) -> Conversion:
    return Conversion(health_export, ecg, routes, choice.version, choice.replaced)


def count_samples(conversion: Conversion, meter: ImportMeter) -> Iterator[Sample | SampleDeletion]:
    """Yield the samples of a conversion, and show its progress."""
    for number, sample in enumerate(conversion.samples()):
        if number % SAMPLES_PER_UPDATE == 0:
            meter.show("counting", conversion.bytes_read, number)
        yield sample


def send_export(run: ImportRun, export: Path, target: SendTarget, *, json: bool) -> Conversion:
    """Send the export, and print the outcome. Raises CommandError."""
    print_result = partial(print_outcome, run.balance, json=json, item="sample")
    try:
        folder = anyio.run(run.run, export, target)
    except KeyboardInterrupt:
        print_result(None, already_sent=run.already_safe)
        typer.echo(f"atlas: Interrupted. {RESUME_HINT}", err=True)
        raise
    if run.lines.taken or not run.conversion.error:
        print_result(folder, already_sent=run.already_safe)
    check_outcome(run.balance, RESUME_HINT)
    return run.conversion


def format_summary(summaries: list[TypeSummary]) -> str:
    """Format a table of the types. It contains no values."""
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
        "unread": conversion.unread,
        "deletions": conversion.deletions,
        "tags_left_out": conversion.reader.tags_left_out,
    }
    return msgspec.json.encode(fields).decode()


def list_notices(conversion: Conversion) -> Iterator[str]:
    """Yield the parts of the export that were not converted, and why."""
    if conversion.other_elements:
        ignored_kinds = ", ".join(
            f"{count:,} {name}" for name, count in conversion.other_elements.items()
        )
        yield f"skipped, not samples: {ignored_kinds}"
    for reason, count in conversion.skipped.items():
        yield f"skipped files: {count:,} ({reason})"
    if conversion.unread:
        kinds = ", ".join(
            f"{kind} ({count:,})" for kind, count in sorted(conversion.unread.items())
        )
        yield f"not understood, so sent as text or left out: {kinds}"
    if conversion.deletions:
        yield f"lines that delete rows of an earlier identity: {conversion.deletions:,}"
    reader = conversion.reader
    if reader.tags_left_out:
        lines = ", ".join(map(str, reader.omitted_lines))
        more = ", ..." if reader.tags_left_out > len(reader.omitted_lines) else ""
        yield f"skipped tags that are not XML: {reader.tags_left_out:,} (lines {lines}{more})"
