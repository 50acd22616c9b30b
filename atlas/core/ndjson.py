"""Decodes the body of a request into numbered lines."""

import binascii
import codecs
import re
from collections.abc import Iterator
from contextlib import suppress

import msgspec
import pybase64

from atlas.core import identifiers
from atlas.core.errors import ChunkTooLarge, Rejected
from atlas.core.messages import DecodedExport, ExportMetadata, RawExport, StreamPart

ROW_BYTES_MIN = 600  # of the row of `{}`
ROW_BYTES_MAX = 1_024  # on average, if an export has the most lines
WHITE_SPACE = b" \t\r\n"
NOT_BLANK_LINE = re.compile(rb"\S[^\n]*")
URL_SAFE_TO_STANDARD = bytes.maketrans(b"-_", b"+/")


def decode(export: RawExport, bytes_max: int, lines_max: int) -> DecodedExport:
    """Decode the base64 body of an export.

    Raises Rejected if it is not base64 or is blank, ChunkTooLarge above the limits. The number of
    lines is limited, too, because even the shortest line becomes a long row: `{}` becomes 600
    bytes, and each row repeats the device and the timestamp.
    """
    text = decode_base64(export.body)
    if len(text) > bytes_max:
        raise ChunkTooLarge(f"An export may have at most {bytes_max} decoded bytes; send less.")
    if is_blank(text):
        raise Rejected("rawhealthkit is empty.")
    check_limits(text, export.head, lines_max)
    id = identifiers.derive_export_id(export.head, text)
    return DecodedExport(id, export.head, text, likeness=hash(text))


def decode_part(part: StreamPart, lines_max: int) -> DecodedExport:
    """Check the limits of a part of a stream, which is not encoded. Raises ChunkTooLarge."""
    check_limits(part.text, part.head, lines_max)
    return DecodedExport(part.id, part.head, part.text, part.first, likeness=hash(part.id))


def check_limits(text: bytes, head: ExportMetadata, lines_max: int) -> None:
    """Raise ChunkTooLarge for too many lines, or too long values that every row repeats."""
    lines = text.count(b"\n") + 1
    bytes_bound = lines * (ROW_BYTES_MIN + bound_repeated_bytes(head))
    if lines <= lines_max and bytes_bound <= lines_max * ROW_BYTES_MAX:
        return
    # counted without a list of all lines: for four million blank ones, that would take a second
    filled = sum(1 for _ in NOT_BLANK_LINE.finditer(text))
    if filled > lines_max:
        raise ChunkTooLarge(f"An export may have at most {lines_max} lines; send fewer.")
    if filled * (ROW_BYTES_MIN + count_repeated_bytes(head)) > lines_max * ROW_BYTES_MAX:
        raise ChunkTooLarge("device and timestamp are too long to be repeated in so many rows.")


def count_repeated_bytes(head: ExportMetadata) -> int:
    """Return the size of the values that every row repeats."""
    return len(msgspec.json.encode((head.user.sub, head.device, head.timestamp)))


def bound_repeated_bytes(head: ExportMetadata) -> int:
    """Return an upper bound of `count_repeated_bytes`, which takes ten times as long.

    JSON needs at most six bytes for a character.
    """
    return 10 + 6 * (len(head.user.sub) + len(head.device) + len(head.timestamp))


def decode_base64(body: bytes | memoryview) -> bytes:
    """Decode base64 of either alphabet, padded or not, with white space. Raises Rejected.

    The usual form is decoded directly. Any other is copied and normalized first.
    """
    with suppress(binascii.Error):
        return pybase64.b64decode(body, validate=True)
    padded = bytes(body).translate(URL_SAFE_TO_STANDARD, delete=WHITE_SPACE)
    digits = padded.rstrip(b"=")
    if len(padded) - len(digits) > 2:
        raise Rejected("rawhealthkit is not base64: it ends in more than two '='.")
    try:
        return pybase64.b64decode(digits + b"=" * (-len(digits) % 4), validate=True)
    except binascii.Error as error:
        raise Rejected("rawhealthkit is not base64.") from error


def split_lines(text: bytes, first: int = 1) -> tuple[bytes, ...]:
    r"""Split text at "\n" or "\r\n". A byte order mark before line 1 is removed.

    `first` is the number of the first line. Blank lines are kept, because line numbers count them.
    """
    text = strip_bom(text, first)
    if b"\r" in text:  # ten times as fast as a search for two bytes
        text = text.replace(b"\r\n", b"\n")
    return tuple(text.split(b"\n"))


def split_blocks(text: bytes, bytes_min: int) -> Iterator[bytes]:
    """Yield the text in pieces of at least `bytes_min` bytes, each cut at the next line end."""
    begin = 0
    while begin < len(text):
        end = text.find(b"\n", begin + bytes_min - 1) + 1 or len(text)
        yield text[begin:end]
        begin = end


def is_blank(text: bytes, first: int = 1) -> bool:
    """True if the text is empty or has only white space."""
    text = strip_bom(text, first)
    return not text or text.isspace()


def strip_bom(text: bytes, first: int) -> bytes:
    """Remove a byte order mark at the start of line 1."""
    return text.removeprefix(codecs.BOM_UTF8) if first == 1 else text
