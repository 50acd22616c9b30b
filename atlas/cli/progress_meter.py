"""Shows the progress of a command as a bar on a terminal."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)


def build_progress(
    activity: str,
    total: int | None,
    amount: ProgressColumn | None = None,
    *,
    is_transient: bool = False,
) -> Progress:
    """Build a progress bar on stderr with one task, disabled unless that is a terminal."""
    console = Console(stderr=True)
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        amount or DownloadColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=is_transient,
        disable=not console.is_terminal,
    )
    progress.add_task(activity, total=total, rate="")
    return progress


@contextmanager
def show_activity(activity: str) -> Iterator[None]:
    """Show on stderr that a command is busy, without an amount, if that is a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with console.status(f"{activity} ..."):
        yield


class ImportMeter:
    """A progress bar with rate and remaining time. Without a terminal, only warnings."""

    def __init__(self, size: int) -> None:
        self.progress = build_progress("importing", size, TextColumn("{task.fields[rate]}"))
        self.task = self.progress.task_ids[0]
        self.shown_errors: set[str] = set()

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.progress.stop()

    def show(self, activity: str, done: int, samples: int) -> None:
        seconds = self.progress.tasks[0].elapsed
        rate = f"{samples / seconds:,.0f}/s" if seconds else ""
        self.progress.update(self.task, completed=done, description=activity, rate=rate)

    def warn_once(self, error: str) -> None:
        if error and error not in self.shown_errors:
            self.shown_errors.add(error)
            if self.progress.disable:
                typer.echo(f"atlas: {error}", err=True)
