"""Sealed on disk: nobody reads it without the key, and no bit of it changes unnoticed.

All that is kept is sealed with keys that are derived from one root, which is made with the journal
and lies beside it and in it, wrapped with the operator's key. So a change of that key wraps 32
bytes anew and no payload, and users keep their hashes.
"""

import hmac
import os
import threading
from functools import lru_cache, partial

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from atlas.core.errors import CorruptEntry

NONCE_BYTES, NONCES_AT_ONCE = 12, 32
HASH_CHARACTERS = 32
USERS_REMEMBERED = 4_096


class Nonces(threading.local):
    """Random nonces, many of them by one system call. None is used twice."""

    def __init__(self) -> None:
        self._left = b""

    def take(self) -> bytes:
        if not self._left:
            self._left = os.urandom(NONCE_BYTES * NONCES_AT_ONCE)
        nonce, self._left = self._left[:NONCE_BYTES], self._left[NONCE_BYTES:]
        return nonce


_nonces = Nonces()


class Cipher:
    """What the keys derived from one root do: close, open, and give names that tell nothing."""

    def __init__(self, data_key: bytes) -> None:
        self.data_key = data_key
        self.user_key = derive_key(data_key, b"user")
        self._content = AESGCM(derive_key(data_key, b"content"))
        self._name_key = derive_key(data_key, b"name")
        self._user = lru_cache(USERS_REMEMBERED)(partial(compute_hmac, self.user_key))

    def encrypt(self, content: bytes, aad: bytes) -> bytes:
        """AES-256-GCM under a random nonce, which comes first; `aad` is to be the same later."""
        return encrypt_with(self._content, content, aad)

    def decrypt(self, sealed: bytes, aad: bytes) -> bytes:
        """Raises Damaged when a bit of either has changed."""
        try:
            return self._content.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], aad)
        except (InvalidTag, ValueError) as error:
            raise CorruptEntry from error

    def verifies(self, sealed: bytes, aad: bytes) -> bool:
        try:
            self.decrypt(sealed, aad)
        except CorruptEntry:
            return False
        return True

    def hash_user(self, sub: str) -> str:
        """Begins as the pseudonym of the user in logs does."""
        return self._user(sub)

    def hash_text(self, text: str) -> str:
        """Equal for equal texts, to find one again without keeping it."""
        return compute_hmac(self._name_key, text)


def generate_data_key() -> bytes:
    return os.urandom(32)


def wrap_key(data_key: bytes, key: bytes) -> bytes:
    return encrypt_with(AESGCM(key), data_key, b"root")


def unwrap_key(wrapping: bytes, key: bytes) -> bytes | None:
    """The root; None when this is not the key."""
    try:
        return AESGCM(key).decrypt(wrapping[:NONCE_BYTES], wrapping[NONCE_BYTES:], b"root")
    except (InvalidTag, ValueError):
        return None


def encrypt_with(cipher: AESGCM, content: bytes, aad: bytes) -> bytes:
    nonce = _nonces.take()
    return nonce + cipher.encrypt(nonce, content, aad)


def derive_key(data_key: bytes, purpose: bytes) -> bytes:
    """HKDF-SHA-256 (RFC 5869); the root is uniform already, so no salt."""
    return HKDF(SHA256(), 32, salt=None, info=b"atlas journal " + purpose).derive(data_key)


def compute_hmac(key: bytes, text: str) -> str:
    return hmac.digest(key, text.encode(), "sha256").hex()[:HASH_CHARACTERS]
