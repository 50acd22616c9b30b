"""System calls of a process on its disk, and its output meanwhile, as recorded by strace."""

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
class Created:
    """A file was opened for writing; it may have existed before."""

    path: Path


@dataclass(frozen=True, slots=True)
class Written:
    path: Path
    offset: int
    text: bytes


@dataclass(frozen=True, slots=True)
class Truncated:
    path: Path
    size: int


@dataclass(frozen=True, slots=True)
class Synced:
    """A file was synced, or a folder with its names; the sync may have failed."""

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
class Output:
    text: str


Operation = Created | Written | Truncated | Synced | Removed | Renamed | Output


@dataclass(frozen=True, slots=True)
class Recording:
    """The exit code of a process, the number of injected errors, and all its operations."""

    exit_code: int
    faults: int
    operations: list[Operation]

    def output(self) -> list[str]:
        return "".join(each.text for each in self.operations if isinstance(each, Output)).split()


def needs_strace() -> None:
    needs("strace", "-f", "-o", os.devnull, "true")


def record(folder: Path, exports: int, synchronous: str = "FULL", fault: str = "") -> Recording:
    """Run the victim in a new folder. `fault` is an injection of strace."""
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
        found = map(WHOLE.fullmatch, join_calls(lines))
        calls = [call for call in found if call]  # others are signals and thread exits
    log.unlink()
    faults = sum(call[4].endswith("(INJECTED)") for call in calls)
    operations = [each for call in calls for each in parse_operation(call, folder)]
    return Recording(ended.returncode, faults, operations)


def join_calls(lines: Iterable[str]) -> Iterator[str]:
    """Yield one line per call, at its end, although threads call concurrently."""
    begun: dict[str, str] = {}
    for line in lines:
        thread, call = line.rstrip("\n").split(maxsplit=1)
        if call.endswith(BEGUN):
            begun[thread] = call.removesuffix(BEGUN)
        elif resumed := RESUMED.match(call):
            yield begun.pop(thread) + call[resumed.end() :]
        else:
            yield call


def parse_operation(call: re.Match[str], folder: Path) -> Iterator[Operation]:
    name, arguments, result, rest = call.groups()
    if name == "write" and arguments.startswith("1<"):
        yield Output(parse_texts(arguments)[0].decode())
    if result == "-1" and "sync" not in name:
        return
    place = Path(parse_path(result + rest if name == "openat" else arguments))
    if folder not in {place, *place.parents}:
        return
    match name:
        case "openat" if "O_CREAT" in arguments:
            yield Created(place)
            yield from [Truncated(place, 0)] * ("O_TRUNC" in arguments)
        case "pwrite64":
            yield Written(place, last_number(arguments), parse_texts(arguments)[0][: int(result)])
        case "ftruncate":
            yield Truncated(place, last_number(arguments))
        case "fdatasync" | "fsync":
            yield Synced(place, result == "0")
        case _:
            yield from parse_name_operation(name, arguments, place)


def parse_name_operation(name: str, arguments: str, place: Path) -> Iterator[Operation]:
    match name:
        case "unlink":
            yield Removed(place)
        case "rename":
            yield Renamed(*(Path(text.decode()) for text in parse_texts(arguments)))
        case "write":
            raise NotImplementedError(f"{name}({arguments})")


def parse_path(arguments: str) -> str:
    """Return the path of the open file of a call; for unlink, its argument."""
    found = HANDLE.match(arguments)
    return decode_text(found[1]).decode() if found else parse_texts(arguments)[0].decode()


def last_number(arguments: str) -> int:
    return int(arguments.rpartition(", ")[2])


def parse_texts(arguments: str) -> list[bytes]:
    return [decode_text(text) for text in TEXT.findall(arguments)]


def decode_text(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", "")) if text.startswith("\\x") else text.encode()
