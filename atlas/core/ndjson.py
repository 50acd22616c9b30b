"""Turns the body of a request into numbered lines."""

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

ROW_BYTES_MIN, ROW_BYTES_MAX = 600, 1_024  # of a row of `{}`; of as many rows as there may be lines
WHITE_SPACE = b" \t\r\n"
NOT_BLANK_LINE = re.compile(rb"\S[^\n]*")  # a line that is not blank
_standard = bytes.maketrans(b"-_", b"+/")


def decode(export: RawExport, bytes_max: int, lines_max: int) -> DecodedExport:
    """The lines inside a base64 body.

    Raises Rejected for what is no base64 or holds nothing, ChunkTooLarge above the limits. Lines
    are limited, too, because a row is long however short its line: `{}` makes 600 bytes of it, and
    the device and the timestamp stand in each.
    """
    text = decode_base64(export.body)
    if len(text) > bytes_max:
        raise ChunkTooLarge(f"One export may have {bytes_max} bytes after decoding; send less.")
    if is_blank(text):
        raise Rejected("There is nothing in rawhealthkit.")
    check_limits(text, export.head, lines_max)
    id = identifiers.derive_export_id(export.head, text)
    return DecodedExport(id, export.head, text, likeness=hash(text))


def decode_part(part: StreamPart, lines_max: int) -> DecodedExport:
    """The same of a part of a stream. Raises ChunkTooLarge."""
    check_limits(part.text, part.head, lines_max)
    return DecodedExport(part.id, part.head, part.text, part.first, likeness=hash(part.id))


def check_limits(text: bytes, head: ExportMetadata, lines_max: int) -> None:
    """Raises ChunkTooLarge when there are too many lines, or what every row repeats is too long."""
    lines = text.count(b"\n") + 1
    bytes_max = lines * (ROW_BYTES_MIN + bound_repeated_bytes(head))
    if lines <= lines_max and bytes_max <= lines_max * ROW_BYTES_MAX:
        return
    row_bytes = ROW_BYTES_MIN + count_repeated_bytes(head)
    filled = sum(
        1 for _ in NOT_BLANK_LINE.finditer(text)
    )  # a list of four million blanks takes a second
    if filled > lines_max:
        raise ChunkTooLarge(f"One export may have {lines_max} lines; send less.")
    if filled * row_bytes > lines_max * ROW_BYTES_MAX:
        raise ChunkTooLarge("device and timestamp are too long to stand in so many rows.")


def count_repeated_bytes(head: ExportMetadata) -> int:
    """The size of the values that every row repeats."""
    return len(msgspec.json.encode((head.user.sub, head.device, head.timestamp)))


def bound_repeated_bytes(head: ExportMetadata) -> int:
    """An upper bound of it in a tenth of the time: JSON needs at most six bytes a character."""
    return 10 + 6 * (len(head.user.sub) + len(head.device) + len(head.timestamp))


def decode_base64(body: bytes | memoryview) -> bytes:
    """Decode base64 of either alphabet, padded or not, with white space. Raises Rejected.

    The usual form is decoded as it is. Any other is copied and normalized first.
    """
    with suppress(binascii.Error):
        return pybase64.b64decode(body, validate=True)
    digits = bytes(body).translate(_standard, delete=WHITE_SPACE)
    bare = digits.rstrip(b"=")
    if len(digits) - len(bare) > 2:
        raise Rejected("rawhealthkit is not base64: it ends in more than two '='.")
    try:
        return pybase64.b64decode(bare + b"=" * (-len(bare) % 4), validate=True)
    except binascii.Error as error:
        raise Rejected("rawhealthkit is not base64.") from error


def split_lines(text: bytes, first: int = 1) -> tuple[bytes, ...]:
    """At "\\n" only; a "\\r" before it belongs to it; a byte order mark at the start is none.

    Blank lines are kept: they count when lines are numbered, of which `first` is the number of the
    first.
    """
    text = strip_bom(text, first)
    if b"\r" in text:  # a tenth of the time of looking for two bytes
        text = text.replace(b"\r\n", b"\n")
    return tuple(text.split(b"\n"))


def iterate_pieces(text: bytes, bytes_min: int) -> Iterator[bytes]:
    """The text, cut at the first line end after each so many bytes."""
    begin = 0
    while begin < len(text):
        end = text.find(b"\n", begin + bytes_min - 1) + 1 or len(text)
        yield text[begin:end]
        begin = end


def is_blank(text: bytes, first: int = 1) -> bool:
    """Whether there is nothing in it."""
    text = strip_bom(text, first)
    return not text or text.isspace()


def strip_bom(text: bytes, first: int) -> bytes:
    """Without a byte order mark at the start; elsewhere it is none."""
    return text.removeprefix(codecs.BOM_UTF8) if first == 1 else text
