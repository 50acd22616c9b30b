"""Draws the picture of a running service on a terminal."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from rich.bar import Bar
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from atlas.core.status import StageStatus, StatusSnapshot

BAR_WIDTH, SPARKS_MAX, COMMITS_SHOWN = 12, 60, 5
SPARKS = "▁▂▃▄▅▆▇█"
KIB = 1024
RATE_SECONDS = 5.0


def count_handled(picture: StatusSnapshot) -> Mapping[str, int]:
    """The number of requests, messages and calls so far, by the name of the stage or end."""
    ends = {"edge": picture.counts.requests, "Foundry": picture.counts.foundry_calls}
    return {stage.name: stage.handled for stage in picture.stages} | ends


class Rates:
    """Numbers per second, over the last five; of the first status, since the service started."""

    def __init__(self, first: StatusSnapshot) -> None:
        self._samples: list[tuple[datetime, Mapping[str, int]]] = []
        self._started = ""
        self.add(first)

    def add(self, picture: StatusSnapshot) -> None:
        at = datetime.fromisoformat(picture.at)
        if picture.started != self._started:
            self._started = picture.started
            start = (
                datetime.fromisoformat(picture.started),
                dict.fromkeys(count_handled(picture), 0),
            )
            self._samples = [start]
        self._samples.append((at, count_handled(picture)))
        while len(self._samples) > 2 and (at - self._samples[0][0]).total_seconds() > RATE_SECONDS:
            del self._samples[0]

    def per_second(self, name: str) -> float:
        (began, before), (ended, now) = self._samples[0], self._samples[-1]
        seconds = (ended - began).total_seconds()
        return max(0, now[name] - before[name]) / seconds if seconds > 0 else 0.0


def render(picture: StatusSnapshot, rates: Rates, connection_error: str = "") -> RenderableType:
    """All of it; `connection_error` says why the service cannot be asked now, if it cannot."""
    return Group(
        render_header(picture, connection_error),
        render_flow(picture, rates),
        Text(),
        render_journal(picture),
        Text(),
        render_commits(picture),
        Text(),
        Text.assemble(("Rejected lines    ", "dim"), format_reasons(picture.rejects)),
        Text.assemble(("Refused requests  ", "dim"), format_reasons(picture.refusals)),
    )


def render_header(picture: StatusSnapshot, connection_error: str) -> Text:
    text = Text.assemble(
        ("Atlas ", "bold"),
        f"{picture.version} at {format_time(picture.at)} UTC\n",
        (f"{picture.dataset}  {picture.branch}\n", "dim"),
    )
    paused, journal_totals = picture.foundry.paused_reason, picture.journal
    if paused is not None and (
        journal_totals.exports > journal_totals.failed or not journal_totals.failed
    ):
        text.append(f"Nothing goes to Foundry: {paused}\n", "yellow")
    if picture.is_draining:
        text.append("It drains: nothing new is taken.\n", "yellow")
    if connection_error:
        text.append(f"{connection_error}\n", "red")
    return text


def render_flow(picture: StatusSnapshot, rates: Rates) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("Flow")
    for heading in ("a second", "handled"):
        table.add_column(heading, justify="right")
    table.add_column("waits", justify="right")
    table.add_column("", min_width=BAR_WIDTH)
    table.add_column("")
    counts = picture.counts
    done = count_handled(picture)

    def row(name: str, *rest: RenderableType) -> None:
        table.add_row(Text(name), f"{rates.per_second(name):,.1f}", f"{done[name]:,}", *rest)

    row("edge", "", "", f"{counts.refused:,} refused")
    for stage in picture.stages:
        crashes = Text(f"{stage.crashes:,} crashed" if stage.crashes else "", "red")
        row(stage.name, f"{stage.queue:,} of {stage.size:,}", render_queue(stage), crashes)
    row("Foundry", "", "", f"{counts.foundry_retries:,} tried again")
    return table


def render_queue(stage: StageStatus) -> Bar:
    """How full its queue is."""
    size = max(stage.size, 1)
    color = "yellow" if stage.queue >= 0.8 * size else "blue"
    return Bar(size, 0, min(stage.queue, size), width=BAR_WIDTH, color=color)


def render_journal(picture: StatusSnapshot) -> Text:
    journal_totals = picture.journal
    free = (
        ""
        if journal_totals.free_bytes is None
        else f", {format_size(journal_totals.free_bytes)} free on the disk"
    )
    return Text.assemble(
        ("Journal  ", "bold"),
        f"{journal_totals.exports:,} of {journal_totals.exports_max:,} exports wait, ",
        f"{format_size(journal_totals.bytes)} of {format_size(journal_totals.bytes_max)}; ",
        f"the oldest for {journal_totals.oldest_seconds:,.0f} s\n",
        (f"{journal_totals.set_aside:,} set aside", "red" if journal_totals.set_aside else ""),
        free,
        "\n",
        (render_failures(picture), "yellow"),
        (render_sparkline([moment.exports for moment in picture.history]), "blue"),
        ("  the last hour", "dim"),
    )


def render_failures(picture: StatusSnapshot) -> str:
    journal_totals = picture.journal
    if not journal_totals.failed:
        return ""
    reason = journal_totals.failed_reason or "for no known reason"
    return f"{journal_totals.failed:,} failed, tried apart from the others: {reason}\n"


def render_commits(picture: StatusSnapshot) -> RenderableType:
    if not picture.commits:
        return Text("No commit since the start.", "dim")
    table = Table(box=None, pad_edge=False)
    table.add_column("Commits", min_width=8)
    for heading in ("exports", "rows", "bytes", "took"):
        table.add_column(heading, justify="right", min_width=8)
    table.add_column("trigger", min_width=8)
    table.add_column("transaction", no_wrap=True)
    for each in reversed(picture.commits[-COMMITS_SHOWN:]):
        table.add_row(
            format_time(each.at),
            f"{each.exports:,}",
            f"{each.rows:,}",
            format_size(each.bytes),
            f"{each.seconds:.1f} s",
            Text(each.trigger),
            Text(each.transaction.rpartition(".")[2]),
        )
    return table


def format_time(at: str) -> str:
    """The time of the day."""
    return f"{datetime.fromisoformat(at):%H:%M:%S}"


def format_reasons(counts: Mapping[str, int]) -> str:
    """The most frequent first."""
    ordered = sorted(counts.items(), key=lambda each: -each[1])
    return ", ".join(f"{count:,} {name}" for name, count in ordered) or "none"


def render_sparkline(numbers: Sequence[int]) -> str:
    """A line of blocks, each as high as the highest number that falls into it."""
    step = -(-len(numbers) // SPARKS_MAX) or 1
    peaks = [max(numbers[at : at + step]) for at in range(0, len(numbers), step)]
    top, highest = len(SPARKS) - 1, max(peaks, default=0) or 1
    return "".join(SPARKS[round(top * peak / highest)] for peak in peaks)


def format_size(number: float) -> str:
    """1536 is 1.5 KiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < KIB:
            return f"{number:,.0f} B" if unit == "B" else f"{number:,.1f} {unit}"
        number /= KIB
    return f"{number:,.1f} TiB"
