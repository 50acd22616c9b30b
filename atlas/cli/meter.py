"""How far an import is: a bar on a terminal."""

from collections.abc import Iterator
from typing import Self

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from atlas.apple import Conversion, Sample

STEP = 5_000  # samples between two looks at the bar


class Meter:
    """A bar on a terminal, with samples a second and the time that is left; else only troubles."""

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
        self.told: set[str] = set()

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.progress.stop()

    def show(self, what: str, done: int, samples: int) -> None:
        seconds = self.progress.tasks[0].elapsed
        rate = f"{samples / seconds:,.0f}/s" if seconds else ""
        self.progress.update(self.task, completed=done, description=what, rate=rate)

    def tell_once(self, trouble: str) -> None:
        if trouble and trouble not in self.told:
            self.told.add(trouble)
            if self.progress.disable:
                typer.echo(f"atlas: {trouble}", err=True)

    def watched(self, what: str, conversion: Conversion) -> Iterator[Sample]:
        """Its samples."""
        for number, sample in enumerate(conversion.samples()):
            if number % STEP == 0:
                self.show(what, conversion.bytes_read, number)
            yield sample
