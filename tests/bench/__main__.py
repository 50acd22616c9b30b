"""Prints tables of figures: `python -m tests.bench [NAME]...`. Without a name it runs all but
`ship`, which needs podman, `machines`, which needs PostgreSQL, `spark`, which needs Java, and
`growth` and `overload`. Each of the last four takes ten minutes.
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

NAMES = (
    *("apple", "codec", "hop", "journal", "layout", "observe", "phones", "service", "stream"),
    *("sync", "tokens"),
)
END = "<!-- end -->"

Rows = Sequence[tuple[str, str, str]]


def describe_machine() -> str:
    """Return the processor and the interpreter."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    model = models[0] if models else platform.processor() or platform.machine()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{model}, {cores} cores, Python {platform.python_version()}, {platform.system()}"


def run_bench(name: str, *, is_quick: bool) -> Rows:
    bench = import_module(
        f"tests.bench.{name}"
    )  # imported alone, so that no other benchmark takes memory
    return list(bench.measure_quickly() if is_quick else bench.measure())


def print_table(rows: Rows) -> None:
    table = Table(
        "", "measured", "target", title=describe_machine(), title_justify="left", box=None
    )
    for row in rows:
        table.add_row(*row)
    Console(width=120).print(table)


def write_into(page: Path, name: str, rows: Rows) -> None:
    """Write the rows as a Markdown table between `<!-- bench NAME -->` and `<!-- end -->`."""
    begin = f"<!-- bench {name} -->"
    before, is_there, rest = page.read_text(encoding="utf-8").partition(begin)
    if not is_there:
        sys.exit(f"{page} has no {begin}.")
    lines = ["", f"{describe_machine()}:", "", "| | measured | target |", "|---|---|---|"]
    lines += [f"| {label.strip()} | {figure} | {target} |" for label, figure, target in rows]
    after = rest.partition(END)[2]
    text = "\n".join([begin, *lines, "", END])
    page.write_text(f"{before}{text}{after}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser("python -m tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", default=NAMES)
    parser.add_argument(
        "--quick", action="store_true", help="one short round, if the benchmark has one"
    )
    parser.add_argument("--into", type=Path, help="also write the tables into this page")
    options = parser.parse_args()
    for name in options.names:
        rows = run_bench(name, is_quick=options.quick)
        print_table(rows)
        if options.into is not None:
            write_into(options.into, name, rows)


if __name__ == "__main__":
    main()
