"""`atlas compare`: compares the rows of the old service with those of Atlas."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from atlas.comparison import ComparisonReport, ReasonSummary, RowLocation, compare_sides, open_side

LINE = "{:<24}  {:>11}  {:>11}"

OldArgument = Annotated[
    Path,
    typer.Argument(
        metavar="OLD",
        exists=True,
        readable=True,
        help="Rows of the old service: a file of NDJSON, or a folder of them.",
    ),
]
NewArgument = Annotated[
    Path,
    typer.Argument(metavar="NEW", exists=True, readable=True, help="Rows of Atlas."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def compare(old: OldArgument, new: NewArgument, json: JsonOption = False) -> None:
    """Compare the rows of the old service with those of Atlas, and explain the differences.

    Exits with 1 if a difference is unexplained, and with 2 if a file cannot be read. It prints
    positions, and no values.

    Example: atlas compare old.ndjson new.ndjson
    """
    sides = open_side(old), open_side(new)
    with build_progress(sum(side.bytes for side in sides)) as progress:
        task = progress.task_ids[0]
        balance = compare_sides(*sides, lambda read: progress.update(task, completed=read))
    typer.echo(msgspec.json.encode(balance) if json else "\n".join(format_report(balance)))
    if not balance.is_explained:
        raise typer.Exit(1)


def build_progress(total: int) -> Progress:
    """Build a progress bar on stderr, disabled unless that is a terminal."""
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn()
    console = Console(stderr=True)
    progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    progress.add_task("comparing", total=total)
    return progress


def format_report(report: ComparisonReport) -> Iterator[str]:
    """Yield the lines of the report: the findings, unexplained ones first, and the totals."""
    for finding in report.findings:
        yield finding.sentence if finding.explained else f"UNEXPLAINED: {finding.sentence}"
        yield f"  {count_rows(finding)}"
        yield from (f"  {format_location(location)}" for location in finding.places)
        yield ""
    yield LINE.format("ROWS", "OLD", "NEW")
    for name, rows in (
        ("the same", report.same),
        ("differ as intended", report.as_intended),
        ("unexplained", report.unexplained),
        ("all", report.rows),
    ):
        yield LINE.format(name, f"{rows.old:,}", f"{rows.new:,}")


def count_rows(finding: ReasonSummary) -> str:
    columns = ", ".join(
        name if rows == finding.rows else f"{name} in {rows:,} of them"
        for name, rows in finding.columns.items()
    )
    rows = "1 row" if finding.rows == 1 else f"{finding.rows:,} rows"
    return f"{rows}: {columns}" if columns else rows


def format_location(location: RowLocation) -> str:
    """Format the positions of a row, or of the only side that has it."""
    if location.old is None or location.new is None:
        return f"only {location.new if location.old is None else location.old}"
    return f"{location.old}  {location.new}"
