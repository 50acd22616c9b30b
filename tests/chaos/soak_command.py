"""`just soak`: everything at once for half an hour, to find what grows."""

import secrets
import signal
from typing import Annotated

import anyio
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from tests.chaos import SCALES, Outcome, Plan, build_soak, build_table, render_markdown
from tests.chaos import run_scenarios as run_trials
from tests.chaos.prove_command import SEED_BITS, WIDTH_OF_A_FILE, ReportOption, SeedOption

INTERRUPTED = 130

MinutesOption = Annotated[float, typer.Option(min=0.1, help="Duration of the mixed load.")]


def soak(
    minutes: MinutesOption = 30.0, seed: SeedOption = None, report: ReportOption = None
) -> None:
    """Mix good and bad clients, floods, bombs and faults in one run of the service.

    Memory, descriptors, tasks and the journal are read each second and must not grow. Ctrl-C ends
    the soak early, with the results so far. Exit 1 if anything has grown, was lost, or is stored
    twice.

    Example: just soak --minutes 5 --seed 7
    """
    if report is not None:
        report.parent.mkdir(parents=True, exist_ok=True)
        report.touch()
    number = secrets.randbits(SEED_BITS) if seed is None else seed
    typer.echo(f"seed {number}, {minutes:g} minutes", err=True)
    outcome, is_early = anyio.run(
        run_soak, minutes * 60, number, backend_options={"use_uvloop": True}
    )
    console = Console()
    Console(width=None if console.is_terminal else WIDTH_OF_A_FILE).print(build_table([outcome]))
    if report is not None:
        again = f"just soak --minutes {minutes:g} --seed {number}"
        report.write_text(render_markdown(again, [outcome]), encoding="utf-8")
    if outcome.verdict == "FAIL":
        raise typer.Exit(1)
    if is_early:
        raise typer.Exit(INTERRUPTED)


async def run_soak(seconds: float, seed: int) -> tuple[Outcome, bool]:
    """Return the outcome, and True if the soak was ended early."""
    stop = anyio.Event()
    with build_progress() as bar:
        task = bar.add_task("", total=seconds)

        def report_progress(at: float, read: str) -> None:
            bar.update(task, completed=at, description=read)

        trial = build_soak(seconds, report_progress, stop)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stop_at_signal, stop)
            (outcome,) = await run_trials(Plan([trial], SCALES["full"], seed), lambda _: None)
            tasks.cancel_scope.cancel()
    return outcome, stop.is_set()


async def stop_at_signal(stop: anyio.Event) -> None:
    """Stop the load at the first Ctrl-C and settle ongoing work; a second one ends everything."""
    with anyio.open_signal_receiver(signal.SIGINT) as signals:
        typer.echo("Ctrl-C ends it early.", err=True)
        async for _ in signals:
            stop.set()
            return


def build_progress() -> Progress:
    """Build a progress bar on stderr; nothing without a terminal."""
    console = Console(stderr=True)
    columns = BarColumn(20), TimeElapsedColumn(), TextColumn("{task.description}")
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
