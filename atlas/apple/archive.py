"""An export on the disk: the zip of the phone, the folder that it unpacks to, or the XML alone.

Nothing is unpacked. What in a zip is no part of an export is passed over, and what would swell is
refused: the XML of a real one has 15 to 25 times the size of its zip.
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
from typing import IO

from atlas.apple.errors import Unreadable

CHUNK_BYTES = 64 * 1024  # the last one is lost with a bit of it
RATIO_MAX, SMALL_BYTES = 200, 1024 * 1024  # what is small may be of any ratio
SUPPORTED_METHODS = (
    zipfile.ZIP_STORED,
    zipfile.ZIP_DEFLATED,
)  # others can ask for gigabytes of memory
ENCRYPTED = 0x1 | 0x20 | 0x40  # or patched, which no phone does either
ZIP_SIGNATURES = (b"PK\x03\x04", b"PK\x05\x06")  # the latter of an empty one
CLINICAL_SUFFIX = "_cda.xml"  # export_cda.xml: the same once more, in another format
OUTSIDE_PATH = re.compile(r"(?:^|/)\.\.(?:/|$)|^/|^[A-Za-z]:|[\x00-\x1f]")
LEADS_OUT = "has a path that leads out of the zip"
MACOS_EXTRAS = re.compile(r"(?:^|/)(?:__MACOSX/|\._)")  # what macOS adds to a zip
COPY = "copy it from the phone once more"
DAMAGE_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    UnicodeDecodeError,
)  # the last one of a name


@dataclass(frozen=True, slots=True)
class ExportFile:
    """A file of an export. `fault` says why it must not be read."""

    name: str
    size: int
    open: Callable[[], IO[bytes]]
    fault: str = ""

    def chunks(self) -> Iterator[bytes]:
        """Its bytes. Raises Unreadable."""
        try:
            with self.open() as file:
                while chunk := file.read(CHUNK_BYTES):
                    yield chunk
        except DAMAGE_ERRORS as error:
            raise Unreadable(f"The zip is damaged: {COPY}.") from error
        except OSError as error:
            raise Unreadable(f"A file cannot be read: {error.strerror or 'it is torn'}.") from error


@dataclass(frozen=True, slots=True)
class HealthExport:
    """What it holds. `skipped` counts what is left out, by the reason."""

    xml: ExportFile
    ecgs: tuple[ExportFile, ...]
    routes: tuple[ExportFile, ...]
    skipped: Counter[str]


@contextmanager
def open_export(path: Path) -> Iterator[HealthExport]:
    """Raises Unreadable."""
    if path.is_dir():
        yield find_export(list_files(path))
    elif is_zip(path):
        with open_zip(path) as archive:
            yield find_export(list_members(archive, path.stat().st_size))
    else:
        xml = ExportFile(path.name, path.stat().st_size, partial(FileIO, path))
        yield HealthExport(xml, (), (), Counter())


def find_export(parts: Iterable[ExportFile]) -> HealthExport:
    """The largest XML is that of the export, whatever its name: each language has its own."""
    found = list(parts)
    outside = [part.fault for part in found if part.fault == LEADS_OUT]
    inside = [part for part in found if part.fault != LEADS_OUT]
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
    """In the order of their names, which is the same for every run."""
    found = [part for part in parts if part.name.lower().endswith(suffix)]
    return sorted(
        (part for part in found if not part.name.lower().endswith(CLINICAL_SUFFIX)),
        key=lambda part: part.name,
    )


def is_zip(path: Path) -> bool:
    """By its beginning: its end may be cut off, and a name says nothing."""
    with path.open("rb") as file:
        return file.read(4) in ZIP_SIGNATURES


def list_files(folder: Path) -> Iterator[ExportFile]:
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not path.is_symlink() and not MACOS_EXTRAS.search(name):
            yield ExportFile(name, path.stat().st_size, partial(FileIO, path))


def open_zip(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (*DAMAGE_ERRORS, NotImplementedError) as error:
        raise Unreadable(f"{path} is a zip that is cut short or damaged: {COPY}.") from error


def list_members(archive: zipfile.ZipFile, size: int) -> Iterator[ExportFile]:
    infos = [info for info in archive.infolist() if not info.filename.endswith("/")]
    if sum(info.compress_size for info in infos) > size:
        raise Unreadable("The files in the zip lie in each other, as a bomb's do: refused.")
    for info in infos:
        name = info.orig_filename.replace("\\", "/")
        if not MACOS_EXTRAS.search(name):
            yield ExportFile(
                name, info.file_size, partial(archive.open, info), find_member_fault(name, info)
            )


def find_member_fault(name: str, info: zipfile.ZipInfo) -> str:
    if OUTSIDE_PATH.search(name):
        return LEADS_OUT
    if info.flag_bits & ENCRYPTED:
        return "is encrypted (unpack it with its password, and give the folder)"
    if info.compress_type not in SUPPORTED_METHODS:
        return "is compressed in a way that phones do not use"
    if info.file_size > max(SMALL_BYTES, RATIO_MAX * info.compress_size):
        return f"would swell to more than {RATIO_MAX} times its size, as a bomb does"
    return ""
