"""Renders the status of a running service for a terminal."""

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


def count_handled(status: StatusSnapshot) -> Mapping[str, int]:
    """Count the requests, messages and calls so far, by row of the table "Flow"."""
    ends = {"edge": status.counts.requests, "Foundry": status.counts.foundry_calls}
    return {stage.name: stage.handled for stage in status.stages} | ends


class Rates:
    """Rates per second over the last five seconds; at first, since the start of the service."""

    def __init__(self, first: StatusSnapshot) -> None:
        self._samples: list[tuple[datetime, Mapping[str, int]]] = []
        self._started = ""
        self.add(first)

    def add(self, status: StatusSnapshot) -> None:
        at = datetime.fromisoformat(status.at)
        handled = count_handled(status)
        if status.started != self._started:
            self._started = status.started
            self._samples = [(datetime.fromisoformat(status.started), dict.fromkeys(handled, 0))]
        self._samples.append((at, handled))
        while len(self._samples) > 2 and (at - self._samples[0][0]).total_seconds() > RATE_SECONDS:
            del self._samples[0]

    def per_second(self, name: str) -> float:
        (start, before), (end, after) = self._samples[0], self._samples[-1]
        seconds = (end - start).total_seconds()
        return max(0, after[name] - before[name]) / seconds if seconds > 0 else 0.0


def render(status: StatusSnapshot, rates: Rates, connection_error: str = "") -> RenderableType:
    """Render the whole screen. `connection_error` says why the status is not current."""
    return Group(
        render_header(status, connection_error),
        render_flow(status, rates),
        Text(),
        render_journal(status),
        Text(),
        render_commits(status),
        Text(),
        Text.assemble(("Rejected lines    ", "dim"), format_reasons(status.rejects)),
        Text.assemble(("Refused requests  ", "dim"), format_reasons(status.refusals)),
    )


def render_header(status: StatusSnapshot, connection_error: str) -> Text:
    text = Text.assemble(
        ("Atlas ", "bold"),
        f"{status.version} at {format_time(status.at)} UTC\n",
        (f"{status.dataset}  {status.branch}\n", "dim"),
    )
    paused, journal = status.foundry.paused_reason, status.journal
    if paused is not None and (journal.exports > journal.failed or not journal.failed):
        text.append(f"Uploads are paused: {paused}\n", "yellow")
    if status.is_draining:
        text.append("Shutting down: new exports are rejected.\n", "yellow")
    if connection_error:
        text.append(f"{connection_error}\n", "red")
    return text


def render_flow(status: StatusSnapshot, rates: Rates) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("Flow")
    for heading in ("per second", "handled", "queued"):
        table.add_column(heading, justify="right")
    table.add_column("", min_width=BAR_WIDTH)
    table.add_column("")
    counts, handled = status.counts, count_handled(status)

    def row(name: str, *rest: RenderableType) -> None:
        table.add_row(Text(name), f"{rates.per_second(name):,.1f}", f"{handled[name]:,}", *rest)

    row("edge", "", "", f"{counts.refused:,} rejected")
    for stage in status.stages:
        crashes = Text(f"{stage.crashes:,} crashed" if stage.crashes else "", "red")
        row(stage.name, f"{stage.queue:,} of {stage.size:,}", render_queue(stage), crashes)
    row("Foundry", "", "", f"{counts.foundry_retries:,} retried")
    return table


def render_queue(stage: StageStatus) -> Bar:
    """Render the fill level of a queue, yellow from 80 %."""
    size = max(stage.size, 1)
    color = "yellow" if stage.queue >= 0.8 * size else "blue"
    return Bar(size, 0, min(stage.queue, size), width=BAR_WIDTH, color=color)


def render_journal(status: StatusSnapshot) -> Text:
    journal, free, failed = status.journal, "", ""
    if journal.free_bytes is not None:
        free = f", {format_size(journal.free_bytes)} free on the disk"
    if journal.failed:
        reason = journal.failed_reason or "unknown reason"
        failed = f"{journal.failed:,} failed and are retried separately: {reason}\n"
    return Text.assemble(
        ("Journal  ", "bold"),
        f"{journal.exports:,} of {journal.exports_max:,} exports wait, ",
        f"{format_size(journal.bytes)} of {format_size(journal.bytes_max)}; ",
        f"the oldest for {journal.oldest_seconds:,.0f} s\n",
        (f"{journal.set_aside:,} set aside", "red" if journal.set_aside else ""),
        free,
        "\n",
        (failed, "yellow"),
        (render_sparkline([moment.exports for moment in status.history]), "blue"),
        ("  the last hour", "dim"),
    )


def render_commits(status: StatusSnapshot) -> RenderableType:
    if not status.commits:
        return Text("No commits since the start.", "dim")
    table = Table(box=None, pad_edge=False)
    table.add_column("Commits", min_width=8)
    for heading in ("exports", "rows", "bytes", "took"):
        table.add_column(heading, justify="right", min_width=8)
    table.add_column("trigger", min_width=8)
    table.add_column("transaction", no_wrap=True)
    for commit in reversed(status.commits[-COMMITS_SHOWN:]):
        table.add_row(
            format_time(commit.at),
            f"{commit.exports:,}",
            f"{commit.rows:,}",
            format_size(commit.bytes),
            f"{commit.seconds:.1f} s",
            Text(commit.trigger),
            Text(commit.transaction.rpartition(".")[2]),
        )
    return table


def format_time(at: str) -> str:
    """Return the time of day."""
    return f"{datetime.fromisoformat(at):%H:%M:%S}"


def format_reasons(counts: Mapping[str, int]) -> str:
    """List the reasons, most frequent first."""
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return ", ".join(f"{count:,} {name}" for name, count in ordered) or "none"


def render_sparkline(numbers: Sequence[int]) -> str:
    """Render a bar chart of one line; each bar shows the maximum of its interval."""
    step = -(-len(numbers) // SPARKS_MAX) or 1
    peaks = [max(numbers[at : at + step]) for at in range(0, len(numbers), step)]
    top, highest = len(SPARKS) - 1, max(peaks, default=0) or 1
    return "".join(SPARKS[round(top * peak / highest)] for peak in peaks)


def format_size(number: float) -> str:
    """Format a number of bytes, such as 1536 as 1.5 KiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < KIB:
            return f"{number:,.0f} B" if unit == "B" else f"{number:,.1f} {unit}"
        number /= KIB
    return f"{number:,.1f} TiB"
