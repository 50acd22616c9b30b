"""Recognizes bodies that were sent as the wrong one of the two content types.

As lines, a JSON export would become a row without values, and its samples would be lost; so it is
refused before any part is stored. It is not understood as JSON, because the same samples would then
have two identities: those of an export, and those of the parts of a stream.
"""

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from atlas.core import ndjson
from atlas.core.errors import JSON_ERRORS

PAYLOAD_KEY = b'"rawhealthkit"'
START_BYTES = 64 * 1024  # of a body, in which the key is searched


class BodyKeys(Struct, frozen=True):
    """The keys that tell an export from a sample; others are skipped."""

    rawhealthkit: Raw | UnsetType = UNSET
    chunks: Raw | UnsetType = UNSET
    uuid: Raw | UnsetType = UNSET
    sample_type: Raw | UnsetType = msgspec.field(name="sampleType", default=UNSET)
    type: Raw | UnsetType = UNSET
    start_date: Raw | UnsetType = msgspec.field(name="startDate", default=UNSET)
    start: Raw | UnsetType = UNSET

    @property
    def is_sample(self) -> bool:
        keys = (self.uuid, self.sample_type, self.type, self.start_date, self.start)
        return any(key is not UNSET for key in keys)

    @property
    def is_export(self) -> bool:
        """True for an export or a batch. A sample with an unknown key of this name is neither."""
        has_payload = starts_with(self.rawhealthkit, b'"') or starts_with(self.chunks, b"[")
        return has_payload and not self.is_sample


def starts_with(value: Raw | UnsetType, first: bytes) -> bool:
    return not isinstance(value, UnsetType) and bytes(memoryview(value)[:1]) == first


def is_json_export(text: bytes) -> bool:
    """True if the start of a body of lines is that of a JSON export, on one line or on many.

    A body that begins with a sample is not one, whatever its later lines are.
    """
    text = ndjson.strip_bom(text, 1)
    key = text.find(PAYLOAD_KEY, 0, START_BYTES)
    if key < 0:
        return False
    first = find_keys(text.lstrip())
    if first is not None:
        return first.is_export
    line = find_keys(text[text.rfind(b"\n", 0, key) + 1 :])
    return line is None or line.is_export


def is_body_of_lines(body: bytes | bytearray) -> bool:
    """True if the first line of a body is a sample, without a key of an export."""
    keys = find_keys(body.lstrip())
    return keys is not None and keys.is_sample and keys.rawhealthkit is keys.chunks is UNSET


def find_keys(text: bytes | bytearray) -> BodyKeys | None:
    """Return the keys of the first line; None if it is not a JSON object."""
    end = text.find(b"\n")
    try:
        return msgspec.json.decode(text if end < 0 else text[:end], type=BodyKeys)
    except JSON_ERRORS:
        return None
