"""Shows the progress of an import as a bar on a terminal."""

from collections.abc import Iterator
from typing import Self

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from atlas.apple import Conversion, Sample

SAMPLES_PER_UPDATE = 5_000


class ImportMeter:
    """A progress bar with rate and remaining time. Without a terminal, only warnings."""

    def __init__(self, size: int) -> None:
        console = Console(stderr=True)
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self.task = self.progress.add_task("importing", total=size, rate="")
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

    def track(self, activity: str, conversion: Conversion) -> Iterator[Sample]:
        """Yield the samples of a conversion, and show its progress."""
        for number, sample in enumerate(conversion.samples()):
            if number % SAMPLES_PER_UPDATE == 0:
                self.show(activity, conversion.bytes_read, number)
            yield sample
