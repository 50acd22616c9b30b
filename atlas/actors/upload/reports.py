"""Results of the two effects that handle many files at once."""

from collections.abc import Mapping

from msgspec import Struct

from atlas.core.errors import FoundryError
from atlas.core.messages import File


class FileRefusal(Struct, frozen=True):
    """Foundry's refusal of a file. `is_certain`: the file itself is at fault."""

    file: File
    reason: str
    is_certain: bool = False


class UploadReport(Struct, frozen=True):
    """The outcome of each file of a group.

    stored       Foundry confirmed the path and size
    unconfirmed  uploaded, but the response was lost or unreadable
    taken        another file is at the path
    refused      Foundry does not accept the file
    unanswered   no usable response after several attempts
    interrupted  in flight when the upload was stopped
    corrupt      ids of exports whose payload can no longer be read

    Files that are in none of these were not tried, because Foundry stopped responding or the
    transaction has ended (`is_ended`). `is_spoiled`: Foundry stored a file with the wrong size, so
    the transaction must not be committed.
    """

    stored: tuple[File, ...] = ()
    unconfirmed: tuple[File, ...] = ()
    taken: tuple[File, ...] = ()
    refused: tuple[FileRefusal, ...] = ()
    unanswered: tuple[File, ...] = ()
    interrupted: tuple[File, ...] = ()
    corrupt: tuple[str, ...] = ()
    is_ended: bool = False
    is_spoiled: bool = False
    last_error: FoundryError | None = None

    @property
    def possible(self) -> tuple[File, ...]:
        """The files that may be in the transaction."""
        return self.stored + self.unconfirmed + self.unanswered + self.interrupted

    @property
    def is_committable(self) -> bool:
        return bool(self.stored or self.unconfirmed) and not self.is_spoiled


class Resolution(Struct, frozen=True):
    """The outcome of a search for the owners of our files' paths, by export id.

    stored   exports whose rows are already in the dataset, with the transaction that holds them
    moved    exports that need another path
    corrupt  exports whose payload can no longer be read

    Exports of a file whose path is free are in none of these.
    """

    stored: Mapping[str, str] = {}
    moved: tuple[str, ...] = ()
    corrupt: tuple[str, ...] = ()
