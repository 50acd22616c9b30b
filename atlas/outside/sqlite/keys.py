"""The key of the journal: the operator's, or if none is set, one in a file next to the journal.

    journal.db.key    the key, as base64, with mode 0600; created only if no key is set
    journal.db.seal   the data key, wrapped with the key; stored in the journal, too, so that one
                      bad sector does not destroy it

All of this is checked before SQLite opens the journal, so that nothing changes under a wrong key.
"""

import base64
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path

from atlas.core.errors import ConfigurationError, CorruptEntry
from atlas.outside.sqlite import cipher
from atlas.outside.sqlite.cipher import Cipher
from atlas.outside.sqlite.disk import damage
from atlas.outside.sqlite.disk.folder import build_sibling_path, read_only_uri, write
from atlas.outside.sqlite.reconciliation import has_committed

KEY_BYTES = 32
OWNER_ONLY = 0o600
CHECK_AAD = b"the root of this journal"
DESTINATION_AAD = b"where the exports of this journal go"


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
    unwrapped = [cipher.unwrap_key(copy, key) for copy in copies for key in keys]
    data_keys = [each for each in unwrapped if each is not None and is_data_key(each, secrets)]
    if copies and not data_keys:
        raise ConfigurationError(
            f"ATLAS_JOURNAL_KEY does not open the journal {path}: it was encrypted with another "
            "key. Add that key to the end of the list. If it is lost: atlas exports discard."
        )
    return data_keys


def is_data_key(data_key: bytes, secrets: Mapping[str, bytes]) -> bool:
    """True if this is the data key of the journal, not of an earlier one at the same path."""
    check = secrets.get("check")
    try:
        return check is None or Cipher(data_key).decrypt(check, CHECK_AAD) == b""
    except CorruptEntry:
        return False


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
            f"not in {file}. If it is lost: atlas exports discard."
        ) from error


def parse_key(text: str) -> bytes:
    """Decode 32 bytes from base64. Raises ConfigurationError."""
    key = decode_key(text.encode())
    if len(key) != KEY_BYTES:
        raise ConfigurationError(
            "ATLAS_JOURNAL_KEY must be one key, or several separated by commas: 32 bytes each, as "
            "base64. To create one: head -c 32 /dev/urandom | base64"
        )
    return key


def decode_key(text: bytes) -> bytes:
    """Decode base64; b"", which is never a valid key, if that fails."""
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return b""


def default_key_path(path: Path) -> Path:
    """Return the path of the key file."""
    return build_sibling_path(path, ".key")


def store_destination(db: sqlite3.Connection, path: Path, cipher: Cipher, destination: str) -> None:
    """Record the dataset and branch. Raises ConfigurationError if exports are committed elsewhere.

    Receipts would be false otherwise: an export would count as `replayed` in a dataset that never
    received it. Before the first commit the destination may change, for example to fix a wrong RID.
    """
    before = read_destination(db, cipher)
    if before == destination:
        return
    if before is not None and has_committed(db):
        raise ConfigurationError(
            f"The journal {path} has committed exports to {before}, but FOUNDRY_DATASET_RID and "
            f"FOUNDRY_BRANCH name {destination}. Use another journal for that: set ATLAS_JOURNAL."
        )
    encrypted = cipher.encrypt(destination.encode(), DESTINATION_AAD)
    db.execute("INSERT OR REPLACE INTO secret VALUES ('destination', ?)", [encrypted])


def read_destination(db: sqlite3.Connection, cipher: Cipher) -> str | None:
    """Return None in a new journal, in one of an earlier version, and if it is corrupt."""
    row = db.execute("SELECT value FROM secret WHERE name = 'destination'").fetchone()
    try:
        return cipher.decrypt(row[0], DESTINATION_AAD).decode() if row else None
    except CorruptEntry:
        return None
