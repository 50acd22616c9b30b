"""`just prove`: runs the trials one after another and prints the balance of each."""

import secrets
from pathlib import Path
from typing import Annotated, Literal

import anyio
import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from tests.chaos import SCALES, SCENARIOS, Outcome, Plan, Scenario, build_table, render_markdown
from tests.chaos import run_scenarios as run_trials
from tests.chaos.runner import JournalEngine

SEED_BITS = 32
WIDTH_OF_A_FILE = 160

SeedOption = Annotated[
    int | None, typer.Option(min=0, help="Repeat the random choices of another run.")
]
SizeOption = Annotated[
    Literal["ci", "prove", "full"],
    typer.Option(help="ci: ten minutes. prove: twelve. full: several hours, the whole table."),
]
OnlyOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME", help="Run only this trial; may be repeated. An unknown name lists them all."
    ),
]
JournalOption = Annotated[
    JournalEngine,
    typer.Option(help="sqlite: all trials. postgres: those of one service, on PostgreSQL."),
]
ReportOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Also write the table to this file, as Markdown."),
]


def prove(
    seed: SeedOption = None,
    size: SizeOption = "prove",
    only: OnlyOption = None,
    report: ReportOption = None,
    journal: JournalOption = "sqlite",
) -> None:
    """Kill and starve the service against the emulators, and print the balance.

    Nothing leaves this machine, and nothing on it is changed. Exit 1 if any trial fails.

    Example: just prove --only 'kill -9' --seed 7
    """
    if report is not None:
        report.parent.mkdir(parents=True, exist_ok=True)
        report.touch()  # an hour later it would be too late to find that it cannot be written
    number = secrets.randbits(SEED_BITS) if seed is None else seed
    plan = Plan(select_trials(only, journal), SCALES[size], number, journal)
    typer.echo(f"seed {number}, size {size}, {len(plan.trials)} trials", err=True)
    with build_progress() as bar:
        task = bar.add_task("", total=len(plan.trials))

        def report_progress(news: str | Outcome) -> None:
            if isinstance(news, str):
                bar.update(task, description=news)
                return
            bar.advance(task)
            line = f"{news.name}: {news.verdict} ({news.seconds:.0f} s)"
            bar.console.print(line, highlight=False)

        outcomes = anyio.run(
            run_trials, plan, report_progress, backend_options={"use_uvloop": True}
        )
    console = Console()
    Console(width=None if console.is_terminal else WIDTH_OF_A_FILE).print(build_table(outcomes))
    again = f"just prove --size {size} --seed {number} --journal {journal}"
    if report is not None:
        report.write_text(render_markdown(again, outcomes), encoding="utf-8")
    if any(outcome.verdict == "FAIL" for outcome in outcomes):
        typer.echo(f"atlas: FAIL. Again: {again}", err=True)
        raise typer.Exit(1)


def select_trials(names: list[str] | None, journal: JournalEngine) -> tuple[Scenario, ...]:
    """Return the trials of these names, or all that concern this journal.

    Trials of several replicas belong to the run with SQLite. Raises typer.BadParameter for an
    unknown name.
    """
    known = {trial.name: trial for trial in SCENARIOS}
    for name in names or []:
        if name not in known:
            raise typer.BadParameter(
                f"There is no trial {name!r}. There are: {', '.join(known)}.", param_hint="--only"
            )
    if names:
        return tuple(known[name] for name in names)
    if journal == "sqlite":
        return SCENARIOS
    return tuple(trial for trial in SCENARIOS if not (trial.needs_sqlite or trial.replicas))


def build_progress() -> Progress:
    """Build a progress bar on stderr; without a terminal, print a line for each finished trial."""
    console = Console(stderr=True)
    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
