"""The folder of `atlas local`: held by one process, and readable by its owner only."""

import base64
import fcntl
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

import msgspec

from atlas.cli.emulators import JOURNAL
from atlas.core.errors import CommandError
from atlas.settings import Settings

LOCK = "local.lock"
KEY_BYTES = 32
PRIVATE_UMASK = 0o077


class LocalFolderInUse(CommandError):
    """Another `atlas local` uses the folder."""

    exit_code = 75


@contextmanager
def hold_folder(folder: Path, url: str, suggest: Callable[[], str]) -> Iterator[None]:
    """Hold the folder, and keep the files that this process and its children create private.

    `url` is the address of Atlas, and `suggest` describes how to run another one; both are for a
    process that finds the folder held. Raises LocalFolderInUse, and CommandError if nothing can be
    written to the folder.
    """
    with open_lock(folder) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = describe_owner(lock)
            raise LocalFolderInUse(f"{folder} is in use by {owner}. {suggest()}") from None
        lock.truncate(0)
        lock.write(f"{os.getpid()} {url}".encode())
        lock.flush()
        protect_files(folder)
        umask = os.umask(PRIVATE_UMASK)
        try:
            yield
        finally:
            os.umask(umask)


def open_lock(folder: Path) -> BinaryIO:
    """Create the folder, and open the file of its lock. Raises CommandError."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    except OSError as error:
        reason = f"Cannot write to {folder}: {error.strerror}"
        if isinstance(error, FileExistsError | NotADirectoryError):
            reason = f"{error.filename} is not a folder"
        raise CommandError(f"{reason}. Choose another folder: --state FOLDER") from error
    return os.fdopen(descriptor, "a+b")


def describe_owner(lock: BinaryIO) -> str:
    """Describe the process that holds the lock, as far as it has written who it is."""
    since = datetime.fromtimestamp(os.fstat(lock.fileno()).st_mtime).astimezone()
    lock.seek(0)
    pid, _, url = lock.read().decode().partition(" ")
    if not url:
        return "another atlas local"
    return f"another atlas local (process {pid}, since {since:%Y-%m-%d %H:%M:%S}, at {url})"


def protect_files(folder: Path) -> None:
    """Make the files of earlier versions private."""
    for path in (folder / "foundry", *folder.glob(f"{JOURNAL}*")):
        with suppress(FileNotFoundError, PermissionError):  # the journal names another's file
            path.chmod(0o700 if path.is_dir() else 0o600)


def load_journal_key(journal: Path) -> tuple[str, ...]:
    """Return the key in the file next to the journal; a new journal gets one.

    Without a valid key for an existing journal, return none: opening the journal tells the reason.
    """
    file = journal.with_name(f"{journal.name}.key")
    text = file.read_bytes().strip() if file.exists() else b""
    if not text and not journal.exists():
        text = base64.b64encode(secrets.token_bytes(KEY_BYTES))
        file.write_bytes(text + b"\n")
    return (text.decode(),) if is_key(text) else ()


def is_key(text: bytes) -> bool:
    with suppress(ValueError):
        return len(base64.b64decode(text, validate=True)) == KEY_BYTES
    return False


def write_settings(file: Path, settings: Settings) -> None:
    """Write the settings, secrets included, for other processes."""
    write_private(file, render_toml(msgspec.to_builtins(settings, enc_hook=str)).encode())


def render_toml(sections: Mapping[str, object], path: str = "") -> str:
    """Encode settings as TOML. Values that are not tables are written as in JSON."""
    lines, tables = [], []
    for name, value in sections.items():
        if isinstance(value, Mapping):
            at = f"{path}{name}"
            tables.append(f"\n[{at}]\n{render_toml(value, f'{at}.')}")
        else:
            lines.append(f"{name} = {msgspec.json.encode(value).decode()}\n")
    return "".join([*lines, *tables])


def write_private(file: Path, content: bytes) -> None:
    """Write a file that only this user can read."""
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as private:
        private.write(content)
