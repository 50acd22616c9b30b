"""Opens a file of records, and recognises files that are something else."""

import re
import shlex
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import chain
from pathlib import Path
from typing import BinaryIO, NamedTuple

import typer

from atlas.core.errors import CommandError
from atlas.core.records import LineRejected, decode_slow

LINES_SEARCHED = 100  # for a first record; a file may begin with a few damaged lines
PIECE_BYTES = 64 * 1024
STDIN = Path("-")
BOM = b"\xef\xbb\xbf"
CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f\x7f]")
# the first bytes, the kind of file, and the command for it
SIGNATURES = [
    (b"PK\x03\x04", "a zip archive", "for Apple's Health export: atlas import {file}"),
    (b"PK\x05\x06", "an empty zip archive", "nothing can be sent"),
    (b"\x1f\x8b", "compressed with gzip", "use: gunzip -c {file} | atlas send -"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", "use: zstd -dc {file} | atlas send -"),
    (b"\xfd7zXZ\x00", "compressed with xz", "use: xz -dc {file} | atlas send -"),
    (b"BZh", "compressed with bzip2", "use: bzip2 -dc {file} | atlas send -"),
    (b"PAR1", "Parquet", "send the records as NDJSON"),
    (b"\xff\xfe", "UTF-16", "use: iconv -f UTF-16 -t UTF-8 {file} | atlas send -"),
    (b"\xfe\xff", "UTF-16", "use: iconv -f UTF-16 -t UTF-8 {file} | atlas send -"),
    (b"{\x00", "UTF-16", "use: iconv -f UTF-16LE -t UTF-8 {file} | atlas send -"),
    (b"\x00{", "UTF-16", "use: iconv -f UTF-16BE -t UTF-8 {file} | atlas send -"),
    (b"<", "XML", "for Apple's Health export: atlas import {file}"),
    (b"[", "a JSON array", "use: jq -c '.[]' {file} | atlas send -"),
]
PRETTY_ENDS = (b"{", b"[", b",")
NDJSON = "NDJSON is one JSON object a line, as `atlas sample` prints"


class NotRecords(CommandError):
    """The input is not NDJSON; the message says what it is, and what to do."""


class Records(NamedTuple):
    """An open file, its lines, and its size in bytes; None if it is unknown, as for a pipe."""

    file: BinaryIO
    lines: Iterable[bytes]
    size: int | None


@contextmanager
def open_records(path: Path) -> Iterator[Records]:
    """Open a file of records, or standard input for "-".

    Raises NotRecords, and typer.BadParameter if it cannot be read.
    """
    if path.is_dir():
        raise NotRecords(
            f"{path} is a folder: name one of its files, or, if it is Apple's Health export "
            f"unpacked, use: atlas import {shlex.quote(str(path))}"
        )
    try:
        opened = nullcontext(sys.stdin.buffer) if path == STDIN else path.open("rb")
    except OSError as error:
        raise typer.BadParameter(f"Cannot read {path}: {error.strerror}.") from error
    with opened as file:
        head = read_head(file, path)
        size = path.stat().st_size if path != STDIN and path.is_file() else None
        if file.seekable():
            file.seek(0)
            yield Records(file, file, size)
        else:
            yield Records(file, chain(head, file), size)


def read_head(file: BinaryIO, path: Path) -> list[bytes]:
    """Read the lines up to the first that may be a record. Raises NotRecords if there is none."""
    lines = list[bytes]()
    first = b""  # that is not blank
    while len(lines) < LINES_SEARCHED and (piece := file.readline(PIECE_BYTES)):
        text = piece.removeprefix(BOM).strip()
        if not first and text:
            first = text
            check_kind(piece.removeprefix(BOM).lstrip(), path)
        lines.append(piece if piece.endswith(b"\n") else piece + file.readline())
        if text.startswith(b"{"):
            check_is_on_one_line(lines[-1].strip(), path)
            return lines
    if not first and len(lines) < LINES_SEARCHED:
        raise NotRecords(f"{name(path)} is empty: there is nothing to send.")
    if first:
        raise NotRecords(f"{name(path)} {describe_text(first)}. {NDJSON}.")
    return lines


def describe_text(line: bytes) -> str:
    """Describe a line that is no record. Its last character may be cut."""
    if len(line.decode(errors="ignore").encode()) < len(line) - 3:
        return "is not text in UTF-8"
    is_table = any(mark in line for mark in (b",", b";", b"\t"))
    return "looks like CSV" if is_table else "does not look like JSON"


def check_kind(start: bytes, path: Path) -> None:
    """Raise NotRecords if the first bytes are not those of text, or of JSON in another form."""
    for signature, kind, advice in SIGNATURES:
        if start.startswith(signature):
            file = "FILE" if path == STDIN else shlex.quote(str(path))
            raise NotRecords(f"{name(path)} is {kind}; {advice.format(file=file)}")
    # a damaged record may have control characters, too
    if b"\x00" in start or (not start.startswith(b"{") and CONTROL.search(start)):
        raise NotRecords(f"{name(path)} is a binary file. {NDJSON}.")


def check_is_on_one_line(line: bytes, path: Path) -> None:
    """Raise NotRecords if this line only begins an object that continues on the next lines."""
    if line.endswith(PRETTY_ENDS):
        try:
            decode_slow(line)
        except LineRejected:
            file = "FILE" if path == STDIN else shlex.quote(str(path))
            raise NotRecords(
                f"{name(path)} has a JSON object on several lines; "
                f"use: jq -c . {file} | atlas send -"
            ) from None


def name(path: Path) -> str:
    return "Standard input" if path == STDIN else str(path)
