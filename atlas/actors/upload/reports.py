"""Results of the two effects that handle many files at once."""

from collections.abc import Mapping

from msgspec import Struct

from atlas.core.errors import FoundryError
from atlas.core.messages import File


class FileRefusal(Struct, frozen=True):
    """Foundry's answer that it does not take a file. `is_certain`: it blames the file alone."""

    file: File
    reason: str
    is_certain: bool = False


class UploadReport(Struct, frozen=True):
    """The outcome of each file of a group.

    stored       Foundry confirmed path and size
    unconfirmed  put, but the answer was lost or unreadable
    taken        another file stands at the path
    refused      Foundry does not take the file
    unanswered   no usable answer after several attempts
    interrupted  in flight when the upload was stopped
    corrupt      ids of exports whose payload cannot be read any more

    Files that are in none of these were not tried, because Foundry stopped answering or the
    transaction has ended (`is_ended`). `is_spoiled`: Foundry stored a file with another size than
    was sent, so the transaction must not be committed.
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
    """The owners of our files' paths.

    stored   exports whose rows are in the dataset already, and in which transaction
    moved    exports that need another path
    corrupt  exports whose payload cannot be read any more

    Exports of a file whose path is free are in none of these.
    """

    stored: Mapping[str, str] = {}
    moved: tuple[str, ...] = ()
    corrupt: tuple[str, ...] = ()
