"""Reads the members of a zip as macOS writes them.

Its names are UTF-8 without the flag that says so, and may be decomposed. It writes no ZIP64: sizes
and positions beyond 4 GiB are what is left of them in 32 bits. The deflate stream has its own end,
and the checksum tells whether it is the right one.
"""

import zipfile
from collections.abc import Iterator
from contextlib import suppress
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import IO, Self
from unicodedata import normalize

from atlas.apple.errors import Unreadable

RATIO_MAX = 200  # of a size to that in the zip; a real XML has 15 to 25
SWELLS = f"would swell to more than {RATIO_MAX} times its size, as a bomb does"
WRAP = 2**32
UTF_8 = 0x800
ZIP64 = 1
LOCAL_HEADER, LOCAL_HEADER_BYTES = b"PK\x03\x04", 30


def decode_name(info: zipfile.ZipInfo) -> str:
    """Return the name, composed and with slashes, of a member from any system."""
    name = info.orig_filename
    if not info.flag_bits & UTF_8:
        with suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    return normalize("NFC", name.replace("\\", "/"))


def has_uncertain_size(info: zipfile.ZipInfo, zip_size: int) -> bool:
    """Check whether a size of this member can have more than 32 bits without saying so."""
    if info.compress_type != zipfile.ZIP_DEFLATED or ZIP64 in list_extra_fields(info.extra):
        return False
    return zip_size > WRAP or info.compress_size * RATIO_MAX > WRAP


def list_extra_fields(extra: bytes) -> Iterator[int]:
    """Yield the number of each extra field."""
    while len(extra) >= 4:
        yield int.from_bytes(extra[:2], "little")
        extra = extra[4 + int.from_bytes(extra[2:4], "little") :]


def estimate_size(info: zipfile.ZipInfo) -> int:
    """Return the least possible size: deflate adds a few bytes at most."""
    size = info.file_size
    while size < info.compress_size // 2:
        size += WRAP
    return size


def open_unsized(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> "UnsizedMember":
    """Open a member that may be larger than it says. Raises BadZipFile."""
    zip_size = path.stat().st_size
    member = zipfile.ZipInfo(info.filename, info.date_time)
    member.orig_filename = info.orig_filename
    member.compress_type, member.flag_bits, member.CRC = (
        info.compress_type,
        info.flag_bits,
        info.CRC,
    )
    member.header_offset, member.compress_size = info.header_offset, info.compress_size
    if zip_size > WRAP:
        member.header_offset = find_local_header(info, path, zip_size)
        member.compress_size = zip_size - member.header_offset
    bytes_max = RATIO_MAX * member.compress_size
    member.file_size = bytes_max + 1  # the end of the stream is before it, or it is a bomb
    return UnsizedMember(archive.open(member), info.file_size, bytes_max)


def find_local_header(info: zipfile.ZipInfo, path: Path, zip_size: int) -> int:
    """Find the position of a member whose upper bits are unknown. Raises BadZipFile."""
    name = info.orig_filename.encode("utf-8" if info.flag_bits & UTF_8 else "cp437")
    with FileIO(path) as file:
        for position in range(info.header_offset % WRAP, zip_size, WRAP):
            file.seek(position)
            header = file.read(LOCAL_HEADER_BYTES + len(name))
            if header.startswith(LOCAL_HEADER) and header[LOCAL_HEADER_BYTES:] == name:
                return position
    raise zipfile.BadZipFile("no local header")


class UnsizedMember:
    """A member of which only the lower 32 bits of the size are known."""

    def __init__(self, file: IO[bytes], declared: int, bytes_max: int) -> None:
        self.file = file
        self.declared = declared
        self.bytes_max = bytes_max
        self.taken = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.file.close()

    def read(self, size: int) -> bytes:
        """Read on to the end of the stream. Raises Unreadable, BadZipFile."""
        data = self.file.read(size)
        self.taken += len(data)
        if self.taken > self.bytes_max:
            raise Unreadable(f"A file in the zip {SWELLS}: refused.")
        if not data and self.taken % WRAP != self.declared % WRAP:
            raise zipfile.BadZipFile("another size")
        return data
