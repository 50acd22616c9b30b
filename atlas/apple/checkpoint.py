"""How far the sending of an export came, in a small file beside it: a number and two digests.

A second run converts the export once more, which is quick, and passes over as many lines as were
answered as safe, if they are the same lines. If they are not, it begins at the beginning; what
Atlas has by then it recognises, so a place that is lost costs time and nothing else.
"""

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import msgspec
from msgspec import Struct

from atlas.core.errors import NOT_JSON

SUFFIX = ".atlas"


class Checkpoint(Struct):
    """So many lines are safe with this receiver, and this is what they were."""

    receiver: str
    lines: int
    digest: str


@dataclass(frozen=True, slots=True)
class CheckpointFile:
    """The file beside an export. `receiver` is where the lines go, and as whose."""

    path: Path
    receiver: str

    @classmethod
    def for_export(cls, export: Path, *receiver: str) -> "CheckpointFile":
        digest = hashlib.sha256("\x1f".join(receiver).encode()).hexdigest()
        path = export.resolve()
        return cls(path.with_name(path.name + SUFFIX), digest)

    def read(self) -> Checkpoint | None:
        """Of the same receiver, if there is one that can be read."""
        with suppress(OSError, *NOT_JSON):
            mark = msgspec.json.decode(self.path.read_bytes(), type=Checkpoint)
            return mark if mark.receiver == self.receiver else None
        return None

    def write(self, lines: int, digest: str) -> None:
        """Whole or not at all. Raises OSError."""
        new = self.path.with_name(self.path.name + ".new")
        new.write_bytes(msgspec.json.encode(Checkpoint(self.receiver, lines, digest)))
        new.replace(self.path)

    def delete(self) -> None:
        with suppress(OSError):
            self.path.unlink(missing_ok=True)


class CountedLines:
    """Lines, counted and digested as they are taken."""

    def __init__(self, lines: Iterator[bytes]) -> None:
        self.lines = lines
        self.taken = 0
        self.sha = hashlib.sha256()

    @property
    def digest(self) -> str:
        return self.sha.hexdigest()

    def take(self, count: int) -> Iterator[bytes]:
        for line in islice(self.lines, count):
            self.taken += 1
            self.sha.update(line)
            yield line
