"""Prints the table: `python -m tests.bench [NAME]...`; without a name, all but
`ship`, which needs podman.
"""

import os
import platform
import sys
from importlib import import_module
from pathlib import Path

from rich.console import Console
from rich.table import Table

NAMES = ("apple", "codec", "hop", "journal", "layout", "observe", "service", "sync")


def machine() -> str:
    """What it was measured on."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    model = models[0] if models else platform.processor() or platform.machine()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{model}, {cores} cores, Python {platform.python_version()}, {platform.system()}"


def main(asked: list[str]) -> None:
    table = Table("", "measured", "to reach", title=machine(), title_justify="left", box=None)
    for name in asked or NAMES:
        bench = import_module(f"tests.bench.{name}")  # what another needs takes memory in none
        for row in bench.measure():
            table.add_row(*row)
    Console(width=100).print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
