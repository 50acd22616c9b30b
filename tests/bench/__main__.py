"""Prints the table: `python -m tests.bench [NAME]...`; without a name, all but `ship`, which needs
podman, and `growth` and `overload`, which take ten minutes each.
"""

import argparse
import os
import platform
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from rich.console import Console
from rich.table import Table

NAMES = ("apple", "codec", "hop", "journal", "layout", "observe", "service", "sync")
END = "<!-- end -->"

Rows = Sequence[tuple[str, str, str]]


def machine() -> str:
    """The processor and the interpreter that were measured."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    model = models[0] if models else platform.processor() or platform.machine()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{model}, {cores} cores, Python {platform.python_version()}, {platform.system()}"


def measure(name: str, *, is_quick: bool) -> Rows:
    bench = import_module(f"tests.bench.{name}")  # what another needs takes memory in none
    return list(bench.measure_quickly() if is_quick else bench.measure())


def print_table(found: Rows) -> None:
    table = Table("", "measured", "to reach", title=machine(), title_justify="left", box=None)
    for row in found:
        table.add_row(*row)
    Console(width=120).print(table)


def write_into(page: Path, name: str, found: Rows) -> None:
    """Put the rows between `<!-- bench NAME -->` and `<!-- end -->`, as a table of Markdown."""
    begin = f"<!-- bench {name} -->"
    before, is_there, rest = page.read_text(encoding="utf-8").partition(begin)
    if not is_there:
        sys.exit(f"{page} has no {begin}.")
    lines = ["", f"{machine()}:", "", "| | measured | to reach |", "|---|---|---|"]
    lines += [f"| {what.strip()} | {figure} | {to_reach} |" for what, figure, to_reach in found]
    after = rest.partition(END)[2]
    text = "\n".join([begin, *lines, "", END])
    page.write_text(f"{before}{text}{after}", encoding="utf-8")


def main() -> None:
    asked = argparse.ArgumentParser("python -m tests.bench", description=__doc__)
    asked.add_argument("names", nargs="*", default=NAMES)
    asked.add_argument("--quick", action="store_true", help="one short round, of service and such")
    asked.add_argument("--into", type=Path, help="write the tables into this page, too")
    given = asked.parse_args()
    for name in given.names:
        found = measure(name, is_quick=given.quick)
        print_table(found)
        if given.into is not None:
            write_into(given.into, name, found)


if __name__ == "__main__":
    main()
