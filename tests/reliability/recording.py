"""What a process asked of its disk, call by call, and what it said meanwhile, as strace saw it."""

import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import needs

CALLS = "openat,pwrite64,write,ftruncate,fdatasync,fsync,unlink,rename"
ROOT = Path(__file__).parent.parent.parent
JOURNAL = "journal.db"
SECONDS = 300

WHOLE = re.compile(r"(\w+)\((.*)\)\s+= (-?\d+)(.*)")
BEGUN = " <unfinished ...>"
RESUMED = re.compile(r"<\.\.\. \w+ resumed>")
HANDLE = re.compile(r"\d+<([^>]*)>")
TEXT = re.compile(r'"([^"]*)"')


@dataclass(frozen=True, slots=True)
class Made:
    """A name that was not there before, or was there already: it was opened to be written."""

    path: Path


@dataclass(frozen=True, slots=True)
class Wrote:
    path: Path
    offset: int
    text: bytes


@dataclass(frozen=True, slots=True)
class Shortened:
    path: Path
    size: int


@dataclass(frozen=True, slots=True)
class Synced:
    """A file, or a folder and the names in it; or it was tried and failed."""

    path: Path
    succeeded: bool


@dataclass(frozen=True, slots=True)
class Removed:
    path: Path


@dataclass(frozen=True, slots=True)
class Renamed:
    path: Path
    to: Path


@dataclass(frozen=True, slots=True)
class Said:
    text: str


Happening = Made | Wrote | Shortened | Synced | Removed | Renamed | Said


@dataclass(frozen=True, slots=True)
class Recording:
    """How a process ended, how many calls failed as told, and all that happened until then."""

    exit_code: int
    faults: int
    happenings: list[Happening]

    def said(self) -> list[str]:
        return "".join(each.text for each in self.happenings if isinstance(each, Said)).split()


def needs_strace() -> None:
    needs("strace", "-f", "-o", os.devnull, "true")


def recorded(folder: Path, exports: int, synchronous: str = "FULL", fault: str = "") -> Recording:
    """The victim, at work in a new folder. `fault` is what strace injects."""
    folder.mkdir()
    log = folder.with_suffix(".strace")
    strace = ["strace", "-f", "--seccomp-bpf", "-y", "-xx", "-s", "1000000", "-o", str(log)]
    watch = ["-e", f"trace={CALLS}", *(["-e", f"inject={fault}"] if fault else [])]
    victim = [sys.executable, "-m", "tests.reliability.victim", str(folder / JOURNAL)]
    ended = subprocess.run(
        [*strace, *watch, *victim, str(exports), synchronous],
        cwd=ROOT,
        capture_output=True,
        check=False,
        timeout=SECONDS,
    )
    with log.open(encoding="ascii") as lines:
        found = map(WHOLE.fullmatch, whole(lines))
        calls = [call for call in found if call]  # the others are signals, and ends of threads
    log.unlink()
    faults = sum(call[4].endswith("(INJECTED)") for call in calls)
    happenings = [each for call in calls for each in happening(call, folder)]
    return Recording(ended.returncode, faults, happenings)


def whole(lines: Iterable[str]) -> Iterator[str]:
    """One line a call, where it ended, although several threads call at once."""
    begun: dict[str, str] = {}
    for line in lines:
        thread, call = line.rstrip("\n").split(maxsplit=1)
        if call.endswith(BEGUN):
            begun[thread] = call.removesuffix(BEGUN)
        elif resumed := RESUMED.match(call):
            yield begun.pop(thread) + call[resumed.end() :]
        else:
            yield call


def happening(call: re.Match[str], folder: Path) -> Iterator[Happening]:
    name, arguments, result, told = call.groups()
    if name == "write" and arguments.startswith("1<"):
        yield Said(texts(arguments)[0].decode())
    if result == "-1" and "sync" not in name:
        return
    place = Path(handle(result + told if name == "openat" else arguments))
    if folder not in {place, *place.parents}:
        return
    match name:
        case "openat" if "O_CREAT" in arguments:
            yield Made(place)
            yield from [Shortened(place, 0)] * ("O_TRUNC" in arguments)
        case "pwrite64":
            yield Wrote(place, last_number(arguments), texts(arguments)[0][: int(result)])
        case "ftruncate":
            yield Shortened(place, last_number(arguments))
        case "fdatasync" | "fsync":
            yield Synced(place, result == "0")
        case _:
            yield from of_names(name, arguments, place)


def of_names(name: str, arguments: str, place: Path) -> Iterator[Happening]:
    match name:
        case "unlink":
            yield Removed(place)
        case "rename":
            yield Renamed(*(Path(text.decode()) for text in texts(arguments)))
        case "write":
            raise NotImplementedError(f"{name}({arguments})")


def handle(arguments: str) -> str:
    """The path of the open file that a call is about; of unlink, the path itself."""
    found = HANDLE.match(arguments)
    return plain(found[1]).decode() if found else texts(arguments)[0].decode()


def last_number(arguments: str) -> int:
    return int(arguments.rpartition(", ")[2])


def texts(arguments: str) -> list[bytes]:
    return [plain(text) for text in TEXT.findall(arguments)]


def plain(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", "")) if text.startswith("\\x") else text.encode()
