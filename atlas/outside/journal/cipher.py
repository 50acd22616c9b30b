"""Encryption at rest: AES-256-GCM with keys derived from the data key of the journal.

The data key is created with the journal. It is stored wrapped with the operator's key, in the
journal and in a file next to it. So changing the operator's key rewraps 32 bytes: payloads are not
encrypted again, and the hashes of users stay the same.
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
USERS_CACHED_MAX = 4_096
KEY_AAD = b"root"


class Nonces(threading.local):
    """Random nonces, each used once; one system call creates many."""

    def __init__(self) -> None:
        self._left = b""

    def take(self) -> bytes:
        if not self._left:
            self._left = os.urandom(NONCE_BYTES * NONCES_AT_ONCE)
        nonce, self._left = self._left[:NONCE_BYTES], self._left[NONCE_BYTES:]
        return nonce


_nonces = Nonces()


class Cipher:
    """Encrypts, decrypts and pseudonymizes with keys derived from one data key."""

    def __init__(self, data_key: bytes) -> None:
        self.data_key = data_key
        self.user_key = derive_key(data_key, b"user")
        self._content = AESGCM(derive_key(data_key, b"content"))
        self._name_key = derive_key(data_key, b"name")
        self._user = lru_cache(USERS_CACHED_MAX)(partial(compute_hmac, self.user_key))

    def encrypt(self, content: bytes, aad: bytes) -> bytes:
        """Return a random nonce and the ciphertext; decryption needs the same `aad`."""
        return encrypt(self._content, content, aad)

    def decrypt(self, encrypted: bytes, aad: bytes) -> bytes:
        """Return the content. Raises CorruptEntry if a bit of `encrypted` or `aad` has changed."""
        content = decrypt(self._content, encrypted, aad)
        if content is None:
            raise CorruptEntry
        return content

    def hash_user(self, sub: str) -> str:
        """Return a keyed hash of a user id; it begins with the pseudonym used in logs."""
        return self._user(sub)

    def hash_text(self, text: str) -> str:
        """Return a keyed hash, to look up a text without storing it."""
        return compute_hmac(self._name_key, text)


def generate_data_key() -> bytes:
    return os.urandom(32)


def wrap_key(data_key: bytes, key: bytes) -> bytes:
    return encrypt(AESGCM(key), data_key, KEY_AAD)


def unwrap_key(wrapped: bytes, key: bytes) -> bytes | None:
    """Return the data key, or None if it is not wrapped with this key."""
    return decrypt(AESGCM(key), wrapped, KEY_AAD)


def encrypt(cipher: AESGCM, content: bytes, aad: bytes) -> bytes:
    nonce = _nonces.take()
    return nonce + cipher.encrypt(nonce, content, aad)


def decrypt(cipher: AESGCM, encrypted: bytes, aad: bytes) -> bytes | None:
    """Return the content; None if the tag does not match, or the nonce or tag is missing."""
    try:
        return cipher.decrypt(encrypted[:NONCE_BYTES], encrypted[NONCE_BYTES:], aad)
    except (InvalidTag, ValueError):
        return None


def derive_key(data_key: bytes, purpose: bytes) -> bytes:
    """Derive a key by HKDF-SHA-256 (RFC 5869); unsalted, as the data key is uniformly random."""
    return HKDF(SHA256(), 32, salt=None, info=b"atlas journal " + purpose).derive(data_key)


def compute_hmac(key: bytes, text: str) -> str:
    return hmac.digest(key, text.encode("utf-8", "surrogatepass"), "sha256").hex()[:HASH_CHARACTERS]
