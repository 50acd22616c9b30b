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

from atlas.core.errors import Damaged

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


class Seal:
    """What the keys derived from one root do: close, open, and give names that tell nothing."""

    def __init__(self, root: bytes) -> None:
        self.root = root
        self.user_key = derived(root, b"user")
        self._content = AESGCM(derived(root, b"content"))
        self._name_key = derived(root, b"name")
        self._user = lru_cache(USERS_REMEMBERED)(partial(keyed, self.user_key))

    def close(self, content: bytes, bound: bytes) -> bytes:
        """AES-256-GCM under a random nonce, which comes first; `bound` is to be the same later."""
        return close(self._content, content, bound)

    def open(self, sealed: bytes, bound: bytes) -> bytes:
        """Raises Damaged when a bit of either has changed."""
        try:
            return self._content.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], bound)
        except (InvalidTag, ValueError) as error:
            raise Damaged from error

    def opens(self, sealed: bytes, bound: bytes) -> bool:
        try:
            self.open(sealed, bound)
        except Damaged:
            return False
        return True

    def user(self, sub: str) -> str:
        """Begins as the pseudonym of the user in logs does."""
        return self._user(sub)

    def name(self, text: str) -> str:
        """Equal for equal texts, to find one again without keeping it."""
        return keyed(self._name_key, text)


def new_root() -> bytes:
    return os.urandom(32)


def wrapped(root: bytes, key: bytes) -> bytes:
    return close(AESGCM(key), root, b"root")


def unwrapped(wrapping: bytes, key: bytes) -> bytes | None:
    """The root; None when this is not the key."""
    try:
        return AESGCM(key).decrypt(wrapping[:NONCE_BYTES], wrapping[NONCE_BYTES:], b"root")
    except (InvalidTag, ValueError):
        return None


def close(cipher: AESGCM, content: bytes, bound: bytes) -> bytes:
    nonce = _nonces.take()
    return nonce + cipher.encrypt(nonce, content, bound)


def derived(root: bytes, purpose: bytes) -> bytes:
    """HKDF-SHA-256 (RFC 5869); the root is uniform already, so no salt."""
    return HKDF(SHA256(), 32, salt=None, info=b"atlas journal " + purpose).derive(root)


def keyed(key: bytes, text: str) -> str:
    return hmac.digest(key, text.encode(), "sha256").hex()[:HASH_CHARACTERS]
