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

from atlas.core.errors import BadSetting, Damaged
from atlas.outside.sqlite import seal
from atlas.outside.sqlite.disk import damage
from atlas.outside.sqlite.disk.folder import beside, read_only_uri, write
from atlas.outside.sqlite.reconciliation import has_committed
from atlas.outside.sqlite.seal import Seal

KEY_BYTES = 32
OWNER_ONLY = 0o600
CHECK = b"the root of this journal"
DESTINATION = b"where the exports of this journal go"


def opened(path: Path, keys: Sequence[bytes]) -> Seal:
    """The seal of the journal at this path, wrapped with the first key from now on.

    With no keys, that of the file beside the journal. Raises BadSetting when no key opens it.
    """
    beside_it = wrapping_beside(path)
    if not keys:
        keys = [key_beside(path, is_new=beside_it is None and "root" not in secrets_in(path))]
    ours = roots(path, keys)
    root = ours[0] if ours else seal.new_root()
    if beside_it is None or seal.unwrapped(beside_it, keys[0]) != root:
        write(beside(path, ".seal"), base64.b64encode(seal.wrapped(root, keys[0])))
    return Seal(root)


def looked(path: Path, keys: Sequence[bytes]) -> Seal:
    """The same seal, and nothing is written. Raises BadSetting when no key opens it."""
    is_sealed = wrapping_beside(path) is not None or "root" in secrets_in(path)
    if is_sealed and not keys:
        keys = [key_beside(path, is_new=False)]
    ours = roots(path, keys)
    return Seal(ours[0] if ours else seal.new_root())


def roots(path: Path, keys: Sequence[bytes]) -> list[bytes]:
    """What these keys unwrap, of this journal. Raises BadSetting when it is sealed with others."""
    within = secrets_in(path)
    found = [each for each in (within.get("root"), wrapping_beside(path)) if each is not None]
    unwrapped = [root for each in found for key in keys if (root := seal.unwrapped(each, key))]
    ours = [root for root in unwrapped if is_of(root, within)]
    if found and not ours:
        raise BadSetting(
            f"ATLAS_JOURNAL_KEY does not open the journal {path}: it was sealed with another key. "
            "Add that key to the end of the list; if it is lost for good: atlas exports abandon."
        )
    return ours


def is_of(root: bytes, within: Mapping[str, bytes]) -> bool:
    """Whether this is the root of that journal, and not of one that lay in its place before."""
    check = within.get("check")
    return check is None or Seal(root).opens(check, CHECK)


def keep(db: sqlite3.Connection, path: Path, ours: Seal) -> None:
    """Once more, in the journal itself, and in its main file, where it is found without the WAL."""
    for name, value in (("root", wrapping_beside(path)), ("check", ours.close(b"", CHECK))):
        db.execute("INSERT OR REPLACE INTO secret VALUES (?, ?)", [name, value])
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def forget(path: Path) -> None:
    """The key is lost: what was sealed stays sealed, and a new root is made at the next start."""
    beside(path, ".seal").unlink(missing_ok=True)
    file_of(path).unlink(missing_ok=True)


def wrapping_beside(path: Path) -> bytes | None:
    try:
        return decoded(beside(path, ".seal").read_bytes())
    except FileNotFoundError:
        return None


def secrets_in(path: Path) -> dict[str, bytes]:
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


def key_beside(path: Path, *, is_new: bool) -> bytes:
    """Raises BadSetting when the journal is sealed and the file is not there or holds no key.

    OSError when it cannot be read: then it is not lost, and nothing is to be abandoned.
    """
    file = file_of(path)
    if is_new and not file.exists():
        write(file, base64.b64encode(seal.new_root()) + b"\n", OWNER_ONLY)
    try:
        return key(file.read_text(encoding="ascii").strip())
    except (FileNotFoundError, ValueError, BadSetting) as error:
        raise BadSetting(
            f"ATLAS_JOURNAL_KEY is not set, and the journal {path} is sealed with a key that is "
            f"not in {file}. If it is lost for good: atlas exports abandon."
        ) from error


def key(text: str) -> bytes:
    """32 bytes, of their base64. Raises BadSetting."""
    found = decoded(text.encode())
    if len(found) != KEY_BYTES:
        raise BadSetting(
            "ATLAS_JOURNAL_KEY is a key, or several with commas between them: 32 bytes each, as "
            "base64. A new one: head -c 32 /dev/urandom | base64"
        )
    return found


def decoded(text: bytes) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return b""  # no key opens that


def file_of(path: Path) -> Path:
    """Where the key is, if none is set."""
    return beside(path, ".key")


def keep_destination(db: sqlite3.Connection, path: Path, seal: Seal, destination: str) -> None:
    """Note the dataset and branch. Raises BadSetting if something is committed elsewhere.

    There the receipts would not be true: an export would be `replayed` that never came there. Until
    something is committed it may change, as after a RID that was wrong.
    """
    before = noted_destination(db, seal)
    if before == destination:
        return
    if before is not None and has_committed(db):
        raise BadSetting(
            f"What the journal {path} has committed stands in {before}; FOUNDRY_DATASET_RID and "
            f"FOUNDRY_BRANCH lead to {destination}. Take another journal for that: ATLAS_JOURNAL."
        )
    sealed = seal.close(destination.encode(), DESTINATION)
    db.execute("INSERT OR REPLACE INTO secret VALUES ('destination', ?)", [sealed])


def noted_destination(db: sqlite3.Connection, seal: Seal) -> str | None:
    """None in a new journal, in one of an earlier version, and when the note is damaged."""
    found = db.execute("SELECT value FROM secret WHERE name = 'destination'").fetchone()
    try:
        return seal.open(found[0], DESTINATION).decode() if found else None
    except Damaged:
        return None
