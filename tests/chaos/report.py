"""The balance as a table, for a terminal and for a file."""

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from tests.chaos.runner import Outcome

COLUMNS = ("trial", "accepted", "committed", "lost", "twice", "seconds", "balance", "measured")
NUMBERS = {"accepted", "committed", "lost", "twice", "seconds"}
COLOURS = {"PASS": "green", "FAIL": "bold red", "skipped": "yellow"}


def build_table(outcomes: Sequence[Outcome]) -> Table:
    """For a terminal."""
    result = Table(title="The balance", title_justify="left")
    for column in COLUMNS:
        result.add_column(column, justify="right" if column in NUMBERS else "left")
    for outcome in outcomes:
        *cells, verdict, measured = build_row(outcome)
        result.add_row(*cells, Text(verdict, COLOURS[verdict]), Text(measured))
    return result


def render_markdown(command: str, outcomes: Sequence[Outcome]) -> str:
    """For a file: the command that does it again, with its seed, and what came of it."""
    lines = [
        "# What Atlas was put through",
        "",
        f"`{command}`",
        "",
        "The seed repeats every choice (when, where, how often), not the timing of the machine.",
        "Lost: promised with 200 or 202 and not in the dataset. Twice: lines that stand there",
        "more than once. Exports have 40 records, 20 KB.",
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|" + "|".join("--:" if column in NUMBERS else "---" for column in COLUMNS) + "|",
    ]
    lines += ["| " + " | ".join(build_row(outcome)) + " |" for outcome in outcomes]
    return "\n".join(lines) + "\n"


def build_row(outcome: Outcome) -> tuple[str, ...]:
    balance = outcome.balance
    numbers = (
        (
            f"{balance.accepted:,}",
            f"{balance.committed:,}",
            f"{len(balance.lost):,}",
            f"{len(balance.twice):,}",
        )
        if balance is not None
        else ("", "", "", "")
    )
    measured = "; ".join([*outcome.failures, *outcome.facts])
    return (outcome.name, *numbers, f"{outcome.seconds:.0f}", outcome.verdict, measured)
