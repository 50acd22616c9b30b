"""The files of rows of one side, and the rows in them, each with its place."""

import gzip
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
from msgspec import Struct

from atlas.core.errors import NOT_JSON, CannotStart

SUFFIXES = (".ndjson", ".json", ".ndjson.gz", ".json.gz")  # the old service wrote .json, too
GZIP, PARQUET = b"\x1f\x8b", b"PAR1"
ROW_BYTES_MAX = 64 * 1024 * 1024  # a line of 8 MiB, escaped, and once more as a text column
SUB_PART = re.compile(r"[A-Za-z0-9]{6,}")  # what is left of a sub, however it is written
PROGRESS_ROWS = 2_000  # rows between two looks at how far it is


class NotRows(CannotStart):
    """A file cannot be read, or holds something else. Nothing in the message is from the data."""

    exit_code = 2  # as of cmp and diff: 1 is that they differ


class Row(Struct, forbid_unknown_fields=True):
    """A line of a file, of either side: the old one put more than texts into its columns."""

    auth0_user_id: str
    device: Any
    ingested_at: Any
    export_timestamp: Any
    sample_type: Any
    source_name: Any
    sample_class: Any
    quantity_type: Any
    source_version: Any
    data_type: Any
    uuid: Any
    start_date: Any
    end_date: Any
    value_double: Any
    unit: Any
    device_hardware_version: Any
    device_model: Any
    device_name: Any
    device_manufacturer: Any
    device_software_version: Any
    raw_healthkit_record: Any


_decode = msgspec.json.Decoder(Row).decode


@dataclass(slots=True)
class Side:
    """OLD or NEW, as it was named: a file, or a folder of them."""

    root: Path
    paths: tuple[Path, ...]
    bytes: int
    bytes_read: int = 0
    subs: set[str] = field(default_factory=set)

    def rows(self) -> Iterator[tuple[int, int, Row]]:
        """Each with the numbers of its file and its line. Raises NotRows."""
        before = 0
        for number, path in enumerate(self.paths):
            with path.open("rb") as file:
                for line, row in enumerate(self.lines(file, number), 1):
                    if line % PROGRESS_ROWS == 0:
                        self.bytes_read = before + file.tell()
                    if row is not None:
                        self.subs.add(row.auth0_user_id)
                        yield number, line, row
            before += path.stat().st_size
            self.bytes_read = before

    def lines(self, file: BinaryIO, number: int) -> Iterator[Row | None]:
        """None for a blank one."""
        line = 0
        try:
            text = open_plain(file)
            while row := text.readline(ROW_BYTES_MAX):
                line += 1
                yield parse_row(row)
        except (InvalidRow, EOFError, zlib.error, gzip.BadGzipFile) as error:
            why = error if isinstance(error, InvalidRow) else "the compressed file is damaged"
            raise NotRows(f"{self.locate(number, line or 1)}: {why}.") from None

    @property
    def name(self) -> str:
        """As it was named, but for what holds a sub."""
        return self.mask_users(*self.root.parts)

    def locate(self, file: int, line: int) -> str:
        """FILE:LINE. Folders below the one that was named are "*": the sub is one of them."""
        below = self.paths[file].relative_to(self.root).parts
        return (
            f"{self.mask_users(*self.root.parts, *('*' for _ in below[:-1]), *below[-1:])}:{line}"
        )

    def mask_users(self, *parts: str) -> str:
        secrets = {*self.subs, *(part for sub in self.subs for part in SUB_PART.findall(sub))} - {
            ""
        }
        masked = ("*" if any(each in part for each in secrets) else part for part in parts)
        return str(Path(*masked))


class InvalidRow(ValueError):
    """This line is no row; why."""


def open_side(root: Path) -> Side:
    """Raises NotRows."""
    paths = tuple(sorted(list_files(root))) if root.is_dir() else (root,)
    if not paths:
        raise NotRows(f"There is no file below {root} whose name ends in .ndjson or .json.")
    return Side(root, paths, sum(path.stat().st_size for path in paths))


def list_files(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        if path.name.endswith(SUFFIXES) and not path.name.startswith(".") and path.is_file():
            yield path


def open_plain(file: BinaryIO) -> BinaryIO | gzip.GzipFile:
    """By its beginning: a name says nothing."""
    head = file.read(4)
    file.seek(0)
    if head == PARQUET:
        raise InvalidRow("this is Parquet; compare reads NDJSON (ATLAS_FILE_FORMAT=ndjson)")
    return gzip.GzipFile(fileobj=file) if head.startswith(GZIP) else file


def parse_row(line: bytes) -> Row | None:
    """None for a blank line. Raises Odd."""
    try:
        return _decode(line)
    except NOT_JSON:
        if not line.strip():
            return None
    try:
        # with a byte order mark, or a lone surrogate, which JavaScript takes
        return msgspec.convert(json.loads(line), Row)
    except UnicodeDecodeError:
        raise InvalidRow("not UTF-8") from None
    except msgspec.ValidationError:
        raise InvalidRow("no row: other than the 21 columns") from None
    except (ValueError, RecursionError):
        is_cut = not line.endswith(b"\n") and len(line) < ROW_BYTES_MAX
        raise InvalidRow("the file is cut short" if is_cut else "no row: not JSON") from None
