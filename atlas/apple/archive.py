"""Opens an export: the phone's zip, the folder that it unpacks to, or the XML alone.

Nothing is unpacked to disk. Other files in a zip are ignored, and members that expand suspiciously
are refused: a real XML is 15 to 25 times the size of its zip.
"""

import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self
from unicodedata import normalize

from atlas.apple.errors import Unreadable
from atlas.apple.zip_members import (
    RATIO_MAX,
    SWELLS,
    decode_name,
    estimate_size,
    has_uncertain_size,
    open_unsized,
)

CHUNK_BYTES = 64 * 1024  # damage in a zip loses at most one chunk
SMALL_BYTES = 1024 * 1024  # files up to this may have any ratio
# other methods can require gigabytes of memory
SUPPORTED_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
ENCRYPTED = 0x1 | 0x20 | 0x40  # or patched data, which phones do not write either
ZIP_SIGNATURES = (b"PK\x03\x04", b"PK\x05\x06")  # the second one is that of an empty zip
CLINICAL_SUFFIX = "_cda.xml"  # export_cda.xml: the same data in another format
OUTSIDE_PATH = re.compile(r"(?:^|/)\.\.(?:/|$)|^/|^[A-Za-z]:|[\x00-\x1f]")
LEADS_OUT = "has a path that leads out of the zip"
MACOS_EXTRAS = re.compile(r"(?:^|/)(?:__MACOSX/|\._)")  # added by macOS
COPY = "copy it from the phone again"
# UnicodeDecodeError is raised for the name of a member
DAMAGE_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, UnicodeDecodeError)


class ReadableFile(Protocol):
    """An open file, of which no more is used than this."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> bool | None: ...

    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class ExportFile:
    """A file of an export. If `fault` is not empty, it says why the file must not be read."""

    name: str
    size: int
    open: Callable[[], ReadableFile]
    fault: str = ""

    def chunks(self) -> Iterator[bytes]:
        """Yield the content. Raises Unreadable."""
        try:
            with self.open() as file:
                while chunk := file.read(CHUNK_BYTES):
                    yield chunk
        except DAMAGE_ERRORS as error:
            raise Unreadable(f"The zip is damaged: {COPY}.") from error
        except OSError as error:
            raise Unreadable(f"A file cannot be read: {error.strerror or 'damaged'}.") from error


@dataclass(frozen=True, slots=True)
class HealthExport:
    """The files of an export. `skipped` counts those that are left out, by reason."""

    xml: ExportFile
    ecgs: tuple[ExportFile, ...]
    routes: tuple[ExportFile, ...]
    skipped: Counter[str]


@contextmanager
def open_export(path: Path) -> Iterator[HealthExport]:
    """Open a zip, a folder or an XML file. Raises Unreadable."""
    if path.is_dir():
        yield find_export(list_files(path))
    elif is_zip(path):
        with open_zip(path) as archive:
            yield find_export(list_members(archive, path))
    else:
        xml = ExportFile(path.name, path.stat().st_size, partial(FileIO, path))
        yield HealthExport(xml, (), (), Counter())


def find_export(parts: Iterable[ExportFile]) -> HealthExport:
    """Sort the files by kind. The largest XML is the export: its name depends on the language."""
    files = list(parts)
    outside = [part.fault for part in files if part.fault == LEADS_OUT]
    inside = [part for part in files if part.fault != LEADS_OUT]
    xmls = filter_by_suffix(inside, ".xml")
    if not xmls:
        why = f" ({len(outside)} {LEADS_OUT})" if outside else ""
        raise Unreadable(f"There is no XML of an export in it{why}: give the export.zip.")
    xml = max(xmls, key=lambda part: part.size)
    if xml.fault:
        raise Unreadable(f"The XML in the zip {xml.fault}: refused.")
    ecgs, routes = filter_by_suffix(inside, ".csv"), filter_by_suffix(inside, ".gpx")
    return HealthExport(
        xml,
        tuple(part for part in ecgs if not part.fault),
        tuple(part for part in routes if not part.fault),
        Counter(part.fault for part in (*ecgs, *routes) if part.fault) + Counter(outside),
    )


def filter_by_suffix(parts: Iterable[ExportFile], suffix: str) -> list[ExportFile]:
    """Select by suffix, sorted by name, so that every run has the same order."""
    selected = [part for part in parts if part.name.lower().endswith(suffix)]
    return sorted(
        (part for part in selected if not part.name.lower().endswith(CLINICAL_SUFFIX)),
        key=lambda part: part.name,
    )


def is_zip(path: Path) -> bool:
    """Check the signature: the end may be cut off, and the name proves nothing."""
    with path.open("rb") as file:
        return file.read(4) in ZIP_SIGNATURES


def list_files(folder: Path) -> Iterator[ExportFile]:
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not path.is_symlink() and not MACOS_EXTRAS.search(name):
            yield ExportFile(normalize("NFC", name), path.stat().st_size, partial(FileIO, path))


def open_zip(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (*DAMAGE_ERRORS, NotImplementedError) as error:
        raise Unreadable(f"The zip {path} is truncated or damaged: {COPY}.") from error


def list_members(archive: zipfile.ZipFile, path: Path) -> Iterator[ExportFile]:
    size = path.stat().st_size
    infos = [info for info in archive.infolist() if not info.filename.endswith("/")]
    if sum(info.compress_size for info in infos) > size:
        raise Unreadable("Files in the zip overlap, as in a zip bomb: refused.")
    for info in infos:
        name = decode_name(info)
        if MACOS_EXTRAS.search(name):
            continue
        fault = find_member_fault(name, info)
        if has_uncertain_size(info, size):
            open_member: Callable[[], ReadableFile] = partial(open_unsized, archive, info, path)
            yield ExportFile(name, estimate_size(info), open_member, fault)
        else:
            yield ExportFile(name, info.file_size, partial(archive.open, info), fault)


def find_member_fault(name: str, info: zipfile.ZipInfo) -> str:
    if OUTSIDE_PATH.search(name):
        return LEADS_OUT
    if info.flag_bits & ENCRYPTED:
        return "is encrypted (unpack it with its password, and give the folder)"
    if info.compress_type not in SUPPORTED_METHODS:
        return "is compressed in a way that phones do not use"
    if info.file_size > max(SMALL_BYTES, RATIO_MAX * info.compress_size):
        return SWELLS
    return ""
