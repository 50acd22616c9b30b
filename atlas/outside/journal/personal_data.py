"""The record of shared files that still hold rows of an erased person.

Atlas cannot remove those rows, so the list must remain available. It is kept under the keyed hash
of the person.
"""

from collections.abc import Sequence

import msgspec

from atlas.core.personal_data import SharedFile

encode_shared_files = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(tuple[SharedFile, ...])


def decode_shared_files(encoded: bytes | None) -> Sequence[SharedFile]:
    """Return the files; none if nothing is recorded."""
    return () if encoded is None else _decoder.decode(encoded)


def build_shared_key(hashed_user: str) -> str:
    """Return the name of the record."""
    return f"shared {hashed_user}"
