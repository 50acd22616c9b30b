"""A file that is synced can be lost all the same: its name stands in its folder.

SQLite syncs the folder when it has made a log there, and does not look whether that went well.
"""

import os
from pathlib import Path
from urllib.parse import quote

from atlas.core.errors import CommandError


def fsync_parents(journal: Path | None) -> None:
    """The journal and its log can be found after a power cut. Raises CommandError.

    With them the folders that were made for it: as far up as we may read, on the same disk.
    """
    if journal is None:
        return
    try:
        disk = journal.stat().st_dev
        for folder in journal.absolute().parents:
            if not os.access(folder, os.R_OK) or folder.stat().st_dev != disk:
                return
            fsync_path(folder)
    except OSError as error:
        raise CommandError(
            f"The folder of {journal} cannot be synced: {error.strerror}."
        ) from error


def fsync_path(path: Path) -> None:
    """A folder, or a file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write(path: Path, content: bytes, mode: int = 0o666) -> None:
    """Write a file durably, whole or not at all. Raises OSError."""
    fresh = build_sibling_path(path, ".new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    descriptor, written = os.open(fresh, flags, mode), 0
    try:
        while written < len(content):
            written += os.pwrite(descriptor, content[written:], written)
    finally:
        os.close(descriptor)
    replace(path, fresh)


def replace(path: Path, fresh: Path) -> None:
    """Put a finished file in the place of another, durably. Raises OSError."""
    fsync_path(fresh)
    fresh.replace(path)
    fsync_path(path.parent)


def build_sibling_path(journal: Path, ending: str) -> Path:
    """A file that belongs to the journal: its name, and what it is."""
    return journal.with_name(journal.name + ending)


def read_only_uri(path: Path) -> str:
    """For SQLite, which then reads the main file only, and takes no lock."""
    return f"file:{quote(str(path.absolute()))}?mode=ro&immutable=1"
