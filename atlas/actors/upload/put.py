"""A group on its way into a transaction."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from atlas.core.errors import FoundryError
from atlas.core.messages import ClaimedExport, CommitGroup, File

UNSURE_FILES, UNSURE_SHARE = 2, 0.1  # of a group: more than that, and Foundry is away


@dataclass(slots=True)
class Put:
    """A group, and what became of its files on their way into a transaction.

    They are there as they were put; of the unsure nobody knows whether they are.
    """

    group: CommitGroup
    there: list[File] = field(default_factory=list)
    refused: list[File] = field(default_factory=list)
    unsure: list[File] = field(default_factory=list)
    trouble: FoundryError | None = None

    @property
    def is_whole(self) -> bool:
        return sum(len(file.exports) for file in self.there) == len(self.group.exports)

    @property
    def named(self) -> list[ClaimedExport]:
        """The exports that Foundry has refused by name: of those in one file nobody knows whose
        fault it is.
        """
        return [file.exports[0] for file in self.refused if len(file.exports) == 1]

    @property
    def unsure_max(self) -> float:
        return UNSURE_FILES + UNSURE_SHARE * len(self.group.files)


def size_of(files: Iterable[File]) -> int:
    return sum(file.bytes for file in files)
