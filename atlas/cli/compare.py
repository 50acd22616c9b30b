"""`atlas compare`: the rows of the old service beside those of Atlas, and why they differ."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from atlas.comparison import Balance, Finding, Place, compared, opened

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
    typer.Argument(metavar="NEW", exists=True, readable=True, help="Those of Atlas."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="As JSON, for a program.")]


def compare(old: OldArgument, new: NewArgument, json: JsonOption = False) -> None:
    """Rows of the old service beside those of Atlas: which differ, and why.

    Each known reason is a deliberate difference, quoted in the report. Exit 1 if anything is
    unexplained, 2 if a file cannot be read. No value of a row is printed, only where it is.

    Example: atlas compare old.ndjson new.ndjson
    """
    sides = opened(old), opened(new)
    with bar(sum(side.bytes for side in sides)) as progress:
        task = progress.task_ids[0]
        balance = compared(*sides, lambda read: progress.update(task, completed=read))
    typer.echo(msgspec.json.encode(balance) if json else "\n".join(shown(balance)))
    if not balance.is_explained:
        raise typer.Exit(1)


def bar(total: int) -> Progress:
    """On stderr, and only on a terminal."""
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn()
    console = Console(stderr=True)
    progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    progress.add_task("comparing", total=total)
    return progress


def shown(balance: Balance) -> Iterator[str]:
    """What was found, what is unexplained first, and the balance."""
    for finding in balance.findings:
        yield finding.sentence if finding.explained else f"UNEXPLAINED: {finding.sentence}"
        yield f"  {counted(finding)}"
        yield from (f"  {where(place)}" for place in finding.places)
        yield ""
    yield LINE.format("ROWS", "OLD", "NEW")
    for name, rows in (
        ("the same", balance.same),
        ("differ as intended", balance.as_intended),
        ("unexplained", balance.unexplained),
        ("all", balance.rows),
    ):
        yield LINE.format(name, f"{rows.old:,}", f"{rows.new:,}")


def counted(finding: Finding) -> str:
    columns = ", ".join(
        name if rows == finding.rows else f"{name} in {rows:,} of them"
        for name, rows in finding.columns.items()
    )
    rows = "1 row" if finding.rows == 1 else f"{finding.rows:,} rows"
    return f"{rows}: {columns}" if columns else rows


def where(place: Place) -> str:
    """Of the rows that stand on one side only, that is said."""
    if place.old is None or place.new is None:
        return f"only {place.new if place.old is None else place.old}"
    return f"{place.old}  {place.new}"
