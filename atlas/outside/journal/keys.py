"""The operator's keys, which wrap the data key of a journal."""

import base64
from collections.abc import Sequence

from atlas.core.errors import ConfigurationError, CorruptEntry
from atlas.outside.journal.cipher import Cipher, unwrap_key

KEY_BYTES = 32
CHECK_AAD = b"the root of this journal"
DESTINATION_AAD = b"where the exports of this journal go"


def parse_key(text: str) -> bytes:
    """Decode 32 bytes from base64. Raises ConfigurationError."""
    key = decode_key(text.encode())
    if len(key) != KEY_BYTES:
        raise ConfigurationError(
            "ATLAS_JOURNAL_KEY must be one key, or several separated by commas: 32 bytes each, as "
            "base64. To create one: head -c 32 /dev/urandom | base64"
        )
    return key


def require_common_key(keys: Sequence[object]) -> None:
    """Raise ConfigurationError if replicas have no key."""
    if not keys:
        raise ConfigurationError(
            "ATLAS_JOURNAL_KEY is not set, and replicas need a common key: 32 bytes in base64. "
            "To create one: head -c 32 /dev/urandom | base64"
        )


def build_key_error(journal: object) -> ConfigurationError:
    return ConfigurationError(
        f"ATLAS_JOURNAL_KEY does not open the journal {journal}: it was encrypted with another "
        "key. Add that key to the end of the list. If it is lost: atlas exports discard."
    )


def unwrap_all(copies: Sequence[bytes], keys: Sequence[bytes]) -> list[bytes]:
    """Return the data keys in the copies that one of the keys unwraps."""
    unwrapped = (unwrap_key(copy, key) for copy in copies for key in keys)
    return [each for each in unwrapped if each is not None]


def decode_key(text: bytes) -> bytes:
    """Decode base64; b"", which is never a valid key, if that fails."""
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return b""


def fits_check(data_key: bytes, check: bytes | None) -> bool:
    """True if this data key encrypted the journal's check text, or if there is none yet."""
    try:
        return check is None or Cipher(data_key).decrypt(check, CHECK_AAD) == b""
    except CorruptEntry:
        return False


def encrypt_destination(cipher: Cipher, destination: str) -> bytes:
    return cipher.encrypt(destination.encode(), DESTINATION_AAD)


def decrypt_destination(cipher: Cipher, encrypted: bytes | None) -> str | None:
    """Return the dataset and branch; None if none is stored, or if it is corrupt."""
    if encrypted is None:
        return None
    try:
        return cipher.decrypt(encrypted, DESTINATION_AAD).decode()
    except CorruptEntry:
        return None


def require_destination(
    journal: str, stored: str | None, configured: str, *, has_committed: bool
) -> None:
    """Raise ConfigurationError if exports were committed to another dataset or branch.

    Receipts would be false otherwise: an export would count as `replayed` in a dataset that never
    received it. Before the first commit the destination may change, for example to fix a wrong RID.
    """
    if stored not in {None, configured} and has_committed:
        raise ConfigurationError(
            f"The journal {journal} has committed exports to {stored}, but FOUNDRY_DATASET_RID and "
            f"FOUNDRY_BRANCH name {configured}. Use another journal for that: set ATLAS_JOURNAL."
        )
