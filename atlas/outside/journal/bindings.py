"""The exports that an Idempotency-Key names, and the parts of a stream."""

from collections.abc import Iterable
from typing import NamedTuple

from atlas.core import identifiers
from atlas.core.errors import IdempotencyKeyReused
from atlas.core.messages import ExportMetadata
from atlas.outside.journal.cipher import Cipher

STREAM_LENGTH = 0  # of the binding of a streamed body, because its end is not known


class Binding(NamedTuple):
    """An export at a position of a sequence. `key` is a keyed hash."""

    key: str
    position: int
    length: int
    export: str


def list_keys(cipher: Cipher, head: ExportMetadata) -> list[str]:
    """Return the hashed keys whose bindings `require_unused` and `build_bindings` refer to."""
    keys = []
    if head.binding is not None:
        keys += [head.binding.key, identifiers.derive_stream_id(head.user, head.binding.key)]
    if head.place is not None:
        keys += [head.place.whole, *([head.place.key] if head.place.key is not None else [])]
    return [cipher.hash_text(key) for key in keys]


def require_unused(
    cipher: Cipher, head: ExportMetadata, id: str, stored: Iterable[Binding]
) -> None:
    """Raise IdempotencyKeyReused if the key of this export is bound to other exports.

    `stored` are all bindings of the user under `list_keys`.
    """
    stored = list(stored)

    def list_under(key: str) -> list[Binding]:
        hashed = cipher.hash_text(key)
        return [each for each in stored if each.key == hashed]

    if head.binding is not None:
        slot = head.binding
        for each in list_under(slot.key):
            is_other = each.position == slot.position and each.export != id
            if each.length != slot.length or is_other:
                raise IdempotencyKeyReused
        if list_under(identifiers.derive_stream_id(head.user, slot.key)):
            raise IdempotencyKeyReused
    stream = head.place
    if stream is not None and stream.key is not None:
        if list_under(stream.key):
            raise IdempotencyKeyReused
        if any(
            each.position == stream.position and each.export != id
            for each in list_under(stream.whole)
        ):
            raise IdempotencyKeyReused


def build_bindings(cipher: Cipher, head: ExportMetadata, id: str) -> list[Binding]:
    """Return the bindings that this export adds."""
    bindings = []
    if head.binding is not None:
        slot = head.binding
        bindings.append(Binding(cipher.hash_text(slot.key), slot.position, slot.length, id))
    if head.place is not None:
        whole = cipher.hash_text(head.place.whole)
        bindings.append(Binding(whole, head.place.position, STREAM_LENGTH, id))
    return bindings
