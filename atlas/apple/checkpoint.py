"""The progress of an import, in a small file next to the export: some numbers and two digests.

The next run converts the export again, which is fast, and skips the lines that were confirmed if
their digest is the same. Otherwise it starts from the first line. Atlas recognizes lines that it
has already, so a lost checkpoint costs only time.
"""

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec import Struct

from atlas.apple.identity import IDENTITY_DEFAULT
from atlas.core.errors import JSON_ERRORS, CommandError

SUFFIX = ".atlas"


class Checkpoint(Struct):
    """The first `lines` lines, with this digest, are safe with this receiver.

    A file without `identity` is from the time when there was only the first version.
    """

    receiver: str
    lines: int
    digest: str
    identity: int = 1
    replaced_identity: int | None = None


class IdentityChoice(NamedTuple):
    """Versions of the identity of samples: the one to use, and the one whose uuids to delete."""

    identity: int | None = None
    replaced: int | None = None

    @property
    def version(self) -> int:
        return IDENTITY_DEFAULT if self.identity is None else self.identity

    def resolve(self, checkpoint: Checkpoint | None) -> "IdentityChoice":
        """Add what the interrupted import had, else the default. Raises CommandError."""
        if checkpoint is None:
            return self._replace(identity=self.version)
        began = checkpoint.identity
        if self.identity not in {None, began} or self.replaced == began:
            raise CommandError(
                f"This import began with --identity {began}: finish it with that. To start again, "
                f"delete the file {SUFFIX} next to the export; what was sent stays."
            )
        replaced = checkpoint.replaced_identity if self.replaced is None else self.replaced
        return IdentityChoice(began, replaced)


@dataclass(frozen=True, slots=True)
class CheckpointFile:
    """The checkpoint file of an export. `receiver` is a digest of the URL and the sender."""

    path: Path
    receiver: str

    @classmethod
    def for_export(cls, export: Path, *receiver: str) -> "CheckpointFile":
        digest = hashlib.sha256("\x1f".join(receiver).encode()).hexdigest()
        path = export.resolve()
        return cls(path.with_name(path.name + SUFFIX), digest)

    def read(self) -> Checkpoint | None:
        """Return the checkpoint, or None if there is none for this receiver that can be read."""
        with suppress(OSError, *JSON_ERRORS):
            mark = msgspec.json.decode(self.path.read_bytes(), type=Checkpoint)
            return mark if mark.receiver == self.receiver else None
        return None

    def write(self, lines: int, digest: str, choice: IdentityChoice) -> None:
        """Replace the file atomically. Raises OSError."""
        checkpoint = Checkpoint(self.receiver, lines, digest, choice.version, choice.replaced)
        new = self.path.with_name(self.path.name + ".new")
        new.write_bytes(msgspec.json.encode(checkpoint))
        new.replace(self.path)

    def delete(self) -> None:
        with suppress(OSError):
            self.path.unlink(missing_ok=True)


class CountedLines:
    """Counts and digests lines as they are taken."""

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
