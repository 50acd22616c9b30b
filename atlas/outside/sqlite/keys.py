"""Which key opens the journal: the operator's, or, if there is none, one in a file beside it.

    journal.db.key    made only where no key is set; mode 0600; as base64, to be set later
    journal.db.seal   the root, wrapped with the key; the journal holds the same once more, as one
                      bad sector is not to cost everything

All of it is checked before SQLite opens anything, so that a wrong key touches nothing.
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
CHECK = b"the root of this journal"
DESTINATION = b"where the exports of this journal go"


def open_cipher(path: Path, keys: Sequence[bytes]) -> Cipher:
    """The seal of the journal at this path, wrapped with the first key from now on.

    With no keys, that of the file beside the journal. Raises ConfigurationError when no key opens it.
    """
    beside_it = read_wrapped_key(path)
    if not keys:
        keys = [
            read_key_file(
                path, is_new=beside_it is None and "root" not in read_stored_secrets(path)
            )
        ]
    data_keys = unwrap_data_keys(path, keys)
    root = data_keys[0] if data_keys else cipher.generate_data_key()
    if beside_it is None or cipher.unwrap_key(beside_it, keys[0]) != root:
        write(build_sibling_path(path, ".seal"), base64.b64encode(cipher.wrap_key(root, keys[0])))
    return Cipher(root)


def open_readonly(path: Path, keys: Sequence[bytes]) -> Cipher:
    """The same seal, and nothing is written. Raises ConfigurationError when no key opens it."""
    is_sealed = read_wrapped_key(path) is not None or "root" in read_stored_secrets(path)
    if is_sealed and not keys:
        keys = [read_key_file(path, is_new=False)]
    data_keys = unwrap_data_keys(path, keys)
    return Cipher(data_keys[0] if data_keys else cipher.generate_data_key())


def unwrap_data_keys(path: Path, keys: Sequence[bytes]) -> list[bytes]:
    """What these keys unwrap, of this journal. Raises ConfigurationError when it is sealed with others."""
    within = read_stored_secrets(path)
    wrapped_keys = [
        each for each in (within.get("root"), read_wrapped_key(path)) if each is not None
    ]
    unwrapped = [
        root for each in wrapped_keys for key in keys if (root := cipher.unwrap_key(each, key))
    ]
    matching = [root for root in unwrapped if matches(root, within)]
    if wrapped_keys and not matching:
        raise ConfigurationError(
            f"ATLAS_JOURNAL_KEY does not open the journal {path}: it was sealed with another key. "
            "Add that key to the end of the list; if it is lost for good: atlas exports discard."
        )
    return matching


def matches(root: bytes, within: Mapping[str, bytes]) -> bool:
    """Whether this is the root of that journal, and not of one that lay in its place before."""
    check = within.get("check")
    return check is None or Cipher(root).verifies(check, CHECK)


def store_key(db: sqlite3.Connection, path: Path, cipher: Cipher) -> None:
    """Once more, in the journal itself, and in its main file, where it is found without the WAL."""
    for name, value in (("root", read_wrapped_key(path)), ("check", cipher.encrypt(b"", CHECK))):
        db.execute("INSERT OR REPLACE INTO secret VALUES (?, ?)", [name, value])
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def forget(path: Path) -> None:
    """The key is lost: what was sealed stays sealed, and a new root is made at the next start."""
    build_sibling_path(path, ".seal").unlink(missing_ok=True)
    default_key_path(path).unlink(missing_ok=True)


def read_wrapped_key(path: Path) -> bytes | None:
    try:
        return decode_key(build_sibling_path(path, ".seal").read_bytes())
    except FileNotFoundError:
        return None


def read_stored_secrets(path: Path) -> dict[str, bytes]:
    """The root as the journal has it, wrapped, and something that only that root opens."""
    if not path.exists():
        return {}
    # immutable: SQLite neither recovers nor writes; what stands only in the WAL is not seen
    with (
        suppress(*damage.UNREADABLE),
        closing(sqlite3.connect(read_only_uri(path), uri=True)) as db,
    ):
        select = "SELECT name, value FROM secret WHERE name IN ('root', 'check')"
        return dict(db.execute(select).fetchall())
    return {}


def read_key_file(path: Path, *, is_new: bool) -> bytes:
    """Raises ConfigurationError when the journal is sealed and the file is not there or holds no key.

    OSError when it cannot be read: then it is not lost, and nothing is to be abandoned.
    """
    file = default_key_path(path)
    if is_new and not file.exists():
        write(file, base64.b64encode(cipher.generate_data_key()) + b"\n", OWNER_ONLY)
    try:
        return parse_key(file.read_text(encoding="ascii").strip())
    except (FileNotFoundError, ValueError, ConfigurationError) as error:
        raise ConfigurationError(
            f"ATLAS_JOURNAL_KEY is not set, and the journal {path} is sealed with a key that is "
            f"not in {file}. If it is lost for good: atlas exports discard."
        ) from error


def parse_key(text: str) -> bytes:
    """32 bytes, of their base64. Raises ConfigurationError."""
    raw_key = decode_key(text.encode())
    if len(raw_key) != KEY_BYTES:
        raise ConfigurationError(
            "ATLAS_JOURNAL_KEY is a key, or several with commas between them: 32 bytes each, as "
            "base64. A new one: head -c 32 /dev/urandom | base64"
        )
    return raw_key


def decode_key(text: bytes) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return b""  # no key opens that


def default_key_path(path: Path) -> Path:
    """Where the key is, if none is set."""
    return build_sibling_path(path, ".key")


def keep_destination(db: sqlite3.Connection, path: Path, cipher: Cipher, destination: str) -> None:
    """Note the dataset and branch. Raises ConfigurationError if something is committed elsewhere.

    There the receipts would not be true: an export would be `replayed` that never came there. Until
    something is committed it may change, as after a RID that was wrong.
    """
    before = read_destination(db, cipher)
    if before == destination:
        return
    if before is not None and has_committed(db):
        raise ConfigurationError(
            f"What the journal {path} has committed stands in {before}; FOUNDRY_DATASET_RID and "
            f"FOUNDRY_BRANCH lead to {destination}. Take another journal for that: ATLAS_JOURNAL."
        )
    sealed = cipher.encrypt(destination.encode(), DESTINATION)
    db.execute("INSERT OR REPLACE INTO secret VALUES ('destination', ?)", [sealed])


def read_destination(db: sqlite3.Connection, cipher: Cipher) -> str | None:
    """None in a new journal, in one of an earlier version, and when the note is damaged."""
    found = db.execute("SELECT value FROM secret WHERE name = 'destination'").fetchone()
    try:
        return cipher.decrypt(found[0], DESTINATION).decode() if found else None
    except CorruptEntry:
        return None
