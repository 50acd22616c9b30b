"""`atlas compare`: compares the rows of the old service with those of Atlas."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from atlas.cli.configuration import JsonOption
from atlas.cli.progress_meter import build_progress
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


def compare(old: OldArgument, new: NewArgument, json: JsonOption = False) -> None:
    """Compare the rows of the old service with those of Atlas.

    Explains the differences, and prints positions, but no values. Exits with 1 if a difference
    is unexplained, and with 2 if a file cannot be read.

    Example: atlas compare old.ndjson new.ndjson
    """
    sides = open_side(old), open_side(new)
    total = sum(side.bytes for side in sides)
    with build_progress("comparing", total, is_transient=True) as progress:
        task = progress.task_ids[0]
        balance = compare_sides(*sides, lambda read: progress.update(task, completed=read))
    typer.echo(msgspec.json.encode(balance) if json else "\n".join(format_report(balance)))
    if not balance.is_explained:
        raise typer.Exit(1)


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
