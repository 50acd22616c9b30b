"""Reads the main file of a journal that its service keeps unchanged meanwhile."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from atlas.core.errors import CommandError
from atlas.outside.journal.row_codec import RowCodec
from atlas.outside.sqlite import keys
from atlas.outside.sqlite.disk import damage
from atlas.outside.sqlite.disk.folder import read_only_uri
from atlas.outside.sqlite.journal import decode_lossy, map_open_errors
from atlas.outside.sqlite.transfer import SqliteTables, require_file


@contextmanager
def open_held(path: Path, journal_keys: Sequence[bytes]) -> Iterator[SqliteTables]:
    """Open the file of a journal that is held. Raises ConfigurationError, CommandError."""
    path = require_file(path)
    with require_unchanged(path), map_open_errors(path):
        codec = RowCodec(keys.open_readonly(path, journal_keys))
        with closing(sqlite3.connect(read_only_uri(path), uri=True, isolation_level=None)) as db:
            db.text_factory = decode_lossy
            if damage.is_corrupt(db, path):
                raise CommandError(f"The journal {path} is damaged: restart Atlas to repair it.")
            yield SqliteTables(db, path, codec.cipher.data_key)


@contextmanager
def require_unchanged(path: Path) -> Iterator[None]:
    """Raise CommandError if the file changes meanwhile, instead of an error that this caused."""
    before = read_state(path)
    try:
        yield
    except CommandError as error:
        if read_state(path) != before:
            raise build_error(path) from error
        raise
    if read_state(path) != before:
        raise build_error(path)


def read_state(path: Path) -> tuple[int, int, int]:
    stat = path.stat()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def build_error(path: Path) -> CommandError:
    return CommandError(
        f"The service has rewritten {path} meanwhile, or was stopped. Run the command again."
    )
