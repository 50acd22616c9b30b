"""Durable files: a synced file is lost all the same if its name in the folder is not synced.

SQLite syncs the folder after creating a write-ahead log (WAL), but ignores errors.
"""

import os
from pathlib import Path
from urllib.parse import quote

from atlas.core.errors import CommandError


def fsync_parents(journal: Path | None) -> None:
    """Sync the folders above the journal, so that it and its WAL are found after a power cut.

    Stops at a folder that is unreadable or on another disk. Raises CommandError.
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
    """Sync a file or folder."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write(path: Path, content: bytes, mode: int = 0o666) -> None:
    """Write a file durably and atomically. Raises OSError."""
    new = build_sibling_path(path, ".new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    descriptor, written = os.open(new, flags, mode), 0
    try:
        while written < len(content):
            written += os.pwrite(descriptor, content[written:], written)
    finally:
        os.close(descriptor)
    replace(path, new)


def replace(path: Path, new: Path) -> None:
    """Replace a file durably. Raises OSError."""
    fsync_path(new)
    new.replace(path)
    fsync_path(path.parent)


def build_sibling_path(journal: Path, ending: str) -> Path:
    """Return the path of a file that belongs to the journal."""
    return journal.with_name(journal.name + ending)


def read_only_uri(path: Path) -> str:
    """Return a URI with which SQLite reads the main file only, without a lock."""
    return f"file:{quote(str(path.absolute()))}?mode=ro&immutable=1"
