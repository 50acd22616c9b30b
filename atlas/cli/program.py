"""The words that started this process, for the commands that it prints."""

import shlex
import shutil
import sys
from pathlib import Path


def render_program() -> str:
    """Return the words that start this program again from this folder, as .venv/bin/atlas does."""
    started = Path(sys.argv[0])
    if started.name == "__main__.py":
        return f"{render_executable(Path(sys.executable))} -m atlas"
    return render_executable(started)


def render_executable(file: Path) -> str:
    """Return its name if a shell finds it by that, else the path from this folder."""
    found = shutil.which(file.name)
    if found is not None and Path(found).absolute() == file.absolute():
        return shlex.quote(file.name)
    return render_path(file)


def render_path(path: Path) -> str:
    """Return the path from this folder if the file is in it, else the absolute path."""
    path, folder = path.absolute(), Path.cwd()
    if not path.is_relative_to(folder):
        return shlex.quote(str(path))
    relative = path.relative_to(folder)
    return shlex.quote(str(relative) if len(relative.parts) > 1 else f"./{relative}")
