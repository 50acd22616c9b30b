"""The key of the journal: the operator's, or if none is set, one in a file next to the journal.

    journal.db.key    the key, as base64, with mode 0600; created only if no key is set
    journal.db.seal   the data key, wrapped with the key; stored in the journal, too, so that one
                      bad sector does not destroy it

All of this is checked before SQLite opens the journal, so that nothing changes under a wrong key.
"""

import base64
import sqlite3
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path

from atlas.core.errors import ConfigurationError
from atlas.outside.journal import cipher
from atlas.outside.journal.cipher import Cipher
from atlas.outside.journal.keys import (
    CHECK_AAD,
    build_key_error,
    decode_key,
    decrypt_destination,
    encrypt_destination,
    fits_check,
    parse_key,
    require_destination,
    unwrap_all,
)
from atlas.outside.sqlite.disk import damage
from atlas.outside.sqlite.disk.folder import build_sibling_path, read_only_uri, write
from atlas.outside.sqlite.reconciliation import has_committed

OWNER_ONLY = 0o600


def open_cipher(path: Path, keys: Sequence[bytes]) -> Cipher:
    """Return the cipher of the journal, and wrap its data key with the first of the keys.

    Without keys, the one in the key file is used. Raises ConfigurationError if no key fits.
    """
    wrapped = read_wrapped_key(path)
    if not keys:
        is_new = wrapped is None and "root" not in read_stored_secrets(path)
        keys = [read_key_file(path, is_new=is_new)]
    data_keys = unwrap_data_keys(path, keys)
    data_key = data_keys[0] if data_keys else cipher.generate_data_key()
    if wrapped is None or cipher.unwrap_key(wrapped, keys[0]) != data_key:
        rewrapped = base64.b64encode(cipher.wrap_key(data_key, keys[0]))
        write(build_sibling_path(path, ".seal"), rewrapped, OWNER_ONLY)
    return Cipher(data_key)


def open_readonly(path: Path, keys: Sequence[bytes]) -> Cipher:
    """Return the cipher without writing. Raises ConfigurationError if no key fits."""
    has_data_key = read_wrapped_key(path) is not None or "root" in read_stored_secrets(path)
    if has_data_key and not keys:
        keys = [read_key_file(path, is_new=False)]
    data_keys = unwrap_data_keys(path, keys)
    return Cipher(data_keys[0] if data_keys else cipher.generate_data_key())


def unwrap_data_keys(path: Path, keys: Sequence[bytes]) -> list[bytes]:
    """Unwrap the stored copies of the data key; none if the journal is new.

    Raises ConfigurationError if none of the keys fits.
    """
    secrets = read_stored_secrets(path)
    copies = [each for each in (secrets.get("root"), read_wrapped_key(path)) if each is not None]
    check = secrets.get("check")
    data_keys = [each for each in unwrap_all(copies, keys) if fits_check(each, check)]
    if copies and not data_keys:
        raise build_key_error(path)
    return data_keys


def store_key(db: sqlite3.Connection, path: Path, cipher: Cipher) -> None:
    """Store the wrapped data key in the journal; in its main file, to be found without the WAL."""
    secrets = {"root": read_wrapped_key(path), "check": cipher.encrypt(b"", CHECK_AAD)}
    db.executemany("INSERT OR REPLACE INTO secret VALUES (?, ?)", secrets.items())
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def forget(path: Path) -> None:
    """Delete a lost key: old data stay encrypted, and the next start creates a new data key."""
    build_sibling_path(path, ".seal").unlink(missing_ok=True)
    default_key_path(path).unlink(missing_ok=True)


def read_wrapped_key(path: Path) -> bytes | None:
    try:
        return decode_key(build_sibling_path(path, ".seal").read_bytes())
    except FileNotFoundError:
        return None


def read_stored_secrets(path: Path) -> dict[str, bytes]:
    """Return `root`, the wrapped data key, and `check`, a text encrypted with it."""
    if not path.exists():
        return {}
    # immutable: SQLite neither recovers nor writes, and does not read the WAL
    with (
        suppress(*damage.UNREADABLE),
        closing(sqlite3.connect(read_only_uri(path), uri=True)) as db,
    ):
        select = "SELECT name, value FROM secret WHERE name IN ('root', 'check')"
        return dict(db.execute(select).fetchall())
    return {}


def read_key_file(path: Path, *, is_new: bool) -> bytes:
    """Read the key file, or create it for a new journal.

    Raises ConfigurationError if it is missing or invalid; OSError if it cannot be read, because
    then the key is not lost.
    """
    file = default_key_path(path)
    if is_new and not file.exists():
        write(file, base64.b64encode(cipher.generate_data_key()) + b"\n", OWNER_ONLY)
    try:
        return parse_key(file.read_text(encoding="ascii").strip())
    except (FileNotFoundError, ValueError, ConfigurationError) as error:
        raise ConfigurationError(
            f"ATLAS_JOURNAL_KEY is not set, and the journal {path} is encrypted with a key that is "
            f"not in {file}. A copy of a journal needs a copy of its key file next to it. If the "
            "key is lost: atlas exports discard."
        ) from error


def default_key_path(path: Path) -> Path:
    """Return the path of the key file."""
    return build_sibling_path(path, ".key")


def store_destination(db: sqlite3.Connection, path: Path, cipher: Cipher, destination: str) -> None:
    """Record the dataset and branch. Raises ConfigurationError if exports are in another one."""
    row = db.execute("SELECT value FROM secret WHERE name = 'destination'").fetchone()
    stored = decrypt_destination(cipher, row[0] if row else None)
    if stored != destination:
        require_destination(str(path), stored, destination, has_committed=has_committed(db))
        encrypted = encrypt_destination(cipher, destination)
        db.execute("INSERT OR REPLACE INTO secret VALUES ('destination', ?)", [encrypted])
