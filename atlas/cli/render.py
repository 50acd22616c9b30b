"""Renders the status of a running service for a terminal."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from rich.bar import Bar
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from atlas.core.identifiers import format_duration
from atlas.core.status import StageStatus, StatusSnapshot
from atlas.core.verdict import describe_state

THIN = (0, 1, 0, 0)  # one space between columns, so that all fit in 80 characters
BAR_WIDTH, SPARKS_MAX, COMMITS_SHOWN = 12, 60, 5
SPARKS = "▁▂▃▄▅▆▇█"
KIB = 1024
VERDICT_STYLES = {"ok": "bold green", "degraded": "bold yellow", "down": "bold red"}
RATE_SECONDS = 5.0
RATE_SHOWN_MAX = 10_000
COUNT_UNITS = {"T": 10**12, "G": 10**9, "M": 10**6}


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
        *render_replicas(status),
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
        f"{status.version} at {format_time(status.at)} UTC   ",
        (f"{describe_state(status.verdict)}\n", VERDICT_STYLES[status.verdict.state]),
        (f"{status.dataset}  {status.branch}\n", "dim"),
    )
    for reason in status.verdict.reasons:
        text.append(f"{reason}\n", VERDICT_STYLES[status.verdict.state])
    if connection_error:
        text.append(f"{connection_error}\n", "red")
    return text


def render_flow(status: StatusSnapshot, rates: Rates) -> Table:
    table = Table(box=None, pad_edge=False, padding=THIN)
    table.add_column("Flow")
    for heading in ("per second", "handled", "queued"):
        table.add_column(heading, justify="right", min_width=8)
    table.add_column("", min_width=BAR_WIDTH)
    table.add_column("")
    counts, handled = status.counts, count_handled(status)

    def row(name: str, *rest: RenderableType) -> None:
        table.add_row(
            Text(name), format_rate(rates.per_second(name)), format_count(handled[name]), *rest
        )

    row("edge", "", "", f"{format_count(counts.refused)} rejected")
    for stage in status.stages:
        crashes = Text(f"{format_count(stage.crashes)} crashed" if stage.crashes else "", "red")
        queued = f"{format_count(stage.queue)} of {format_count(stage.size)}"
        row(stage.name, queued, render_queue(stage), crashes)
    row("Foundry", "", "", f"{format_count(counts.foundry_retries)} retried")
    return table


def render_queue(stage: StageStatus) -> Bar:
    """Render the fill level of a queue, yellow from 80 %."""
    size = max(stage.size, 1)
    color = "yellow" if stage.queue >= 0.8 * size else "blue"
    return Bar(size, 0, min(stage.queue, size), width=BAR_WIDTH, color=color)


def render_replicas(status: StatusSnapshot) -> list[RenderableType]:
    """Render all replicas and which numbers are theirs; nothing without replicas."""
    if not status.replicas:
        return []
    table = Table(box=None, pad_edge=False, padding=THIN)
    for heading in ("Replicas", "version"):
        table.add_column(heading, overflow="fold")
    for heading in ("uploads", "seen", ""):
        table.add_column(heading, no_wrap=True)
    has_versions = len({each.version for each in status.replicas}) > 1
    for each in status.replicas:
        table.add_row(
            Text(each.name),
            Text(each.version, "yellow" if has_versions else ""),
            "follows" if each.epoch is None else f"leads (epoch {each.epoch:,})",
            f"{each.seen_at:%H:%M:%S}",
            "this one" if each.is_this else "",
        )
    scope = "The journal is that of all replicas; flow, commits and counts are of this one."
    return [table, Text(scope, "dim"), Text()]


def render_journal(status: StatusSnapshot) -> Text:
    journal, free, failed = status.journal, "", ""
    if journal.database_bytes is not None:
        free = f", {format_size(journal.database_bytes)} in the database"
    elif journal.free_bytes is not None:
        free = f", {format_size(journal.free_bytes)} free on the disk"
    if journal.failed:
        reason = journal.failed_reason or "unknown reason"
        failed = f"{journal.failed:,} failed and are retried separately: {reason}\n"
    return Text.assemble(
        ("Journal  ", "bold"),
        f"{journal.exports:,} of {journal.exports_max:,} exports wait, ",
        f"{format_size(journal.bytes)} of {format_size(journal.bytes_max)}; ",
        f"the oldest for {format_duration(journal.oldest_seconds)}\n",
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
    table = Table(box=None, pad_edge=False, padding=THIN)
    table.add_column("Commits", min_width=8)
    for heading in ("exports", "rows", "took"):
        table.add_column(heading, justify="right", min_width=7)
    table.add_column("trigger", min_width=8)
    table.add_column("transaction", overflow="fold")
    for commit in reversed(status.commits[-COMMITS_SHOWN:]):
        table.add_row(
            format_time(commit.at),
            format_count(commit.exports),
            format_count(commit.rows),
            f"{commit.seconds:,.1f} s",
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
    return ", ".join(f"{format_count(count)} {name}" for name, count in ordered) or "none"


def render_sparkline(numbers: Sequence[int]) -> str:
    """Render a bar chart of one line; each bar shows the maximum of its interval."""
    step = -(-len(numbers) // SPARKS_MAX) or 1
    peaks = [max(numbers[at : at + step]) for at in range(0, len(numbers), step)]
    top, highest = len(SPARKS) - 1, max(peaks, default=0) or 1
    return "".join(SPARKS[round(top * peak / highest)] for peak in peaks)


def format_rate(per_second: float) -> str:
    return f"{per_second:,.1f}" if per_second < RATE_SHOWN_MAX else format_count(per_second)


def format_count(number: float) -> str:
    """Format a number in 8 characters at most: from a million on with a unit, as 1.5 M."""
    for unit, size in COUNT_UNITS.items():
        if number >= size:
            return f"{number / size:,.1f} {unit}"
    return f"{number:,.0f}"


def format_size(number: float) -> str:
    """Format a number of bytes, such as 1536 as 1.5 KiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < KIB:
            return f"{number:,.0f} B" if unit == "B" else f"{number:,.1f} {unit}"
        number /= KIB
    return f"{number:,.1f} TiB"
