"""Reads the rows of one side, with the file and line of each."""

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

from atlas.core.errors import JSON_ERRORS, CommandError

SUFFIXES = (".ndjson", ".json", ".ndjson.gz", ".json.gz")  # the old service wrote .json, too
GZIP, PARQUET = b"\x1f\x8b", b"PAR1"
ROW_BYTES_MAX = 64 * 1024 * 1024  # a line of 8 MiB, escaped, and again in a text column
SUB_PART = re.compile(r"[A-Za-z0-9]{6,}")  # of a sub, in whatever form a path contains it
PROGRESS_ROWS = 2_000  # between two progress updates


class NotRows(CommandError):
    """A file cannot be read, or holds something else. The message quotes nothing of the data."""

    exit_code = 2  # like cmp and diff, where 1 means that the files differ


class ComparedRow(Struct, forbid_unknown_fields=True):
    """A row of either side. The old service also wrote other types into its text columns."""

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


_decode = msgspec.json.Decoder(ComparedRow).decode


@dataclass(slots=True)
class Side:
    """The rows of one side: a file, or a folder of files."""

    root: Path
    paths: tuple[Path, ...]
    bytes: int
    bytes_read: int = 0
    subs: set[str] = field(default_factory=set)

    def rows(self) -> Iterator[tuple[int, int, ComparedRow]]:
        """Yield file number, line number and row. Raises NotRows."""
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

    def lines(self, file: BinaryIO, number: int) -> Iterator[ComparedRow | None]:
        """Yield the row of each line, None for a blank line."""
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
        """The path as given, with the parts masked that contain a user's `sub`."""
        return self.mask_users(*self.root.parts)

    def locate(self, file: int, line: int) -> str:
        """Format FILE:LINE. Folders below the given one are "*", because one of them is the sub."""
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
    """A line is not a row. The message says why."""


def open_side(root: Path) -> Side:
    """Find the files of a side. Raises NotRows."""
    paths = tuple(sorted(list_files(root))) if root.is_dir() else (root,)
    if not paths:
        raise NotRows(f"There is no file below {root} whose name ends in .ndjson or .json.")
    return Side(root, paths, sum(path.stat().st_size for path in paths))


def list_files(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        if path.name.endswith(SUFFIXES) and not path.name.startswith(".") and path.is_file():
            yield path


def open_plain(file: BinaryIO) -> BinaryIO | gzip.GzipFile:
    """Detect gzip and Parquet by signature, because the name proves nothing."""
    head = file.read(4)
    file.seek(0)
    if head == PARQUET:
        raise InvalidRow("this is Parquet; compare reads NDJSON (ATLAS_FILE_FORMAT=ndjson)")
    return gzip.GzipFile(fileobj=file) if head.startswith(GZIP) else file


def parse_row(line: bytes) -> ComparedRow | None:
    """Parse a line, None if it is blank. Raises InvalidRow."""
    try:
        return _decode(line)
    except JSON_ERRORS:
        if not line.strip():
            return None
    try:
        # with a byte order mark, or a lone surrogate, which JavaScript accepts
        return msgspec.convert(json.loads(line), ComparedRow)
    except UnicodeDecodeError:
        raise InvalidRow("not UTF-8") from None
    except msgspec.ValidationError:
        raise InvalidRow("not a row: the columns are not the 21 columns") from None
    except (ValueError, RecursionError):
        is_cut = not line.endswith(b"\n") and len(line) < ROW_BYTES_MAX
        raise InvalidRow("the file is truncated" if is_cut else "not a row: not JSON") from None
