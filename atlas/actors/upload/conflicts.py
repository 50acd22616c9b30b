"""Who holds the paths of our files: we, from another life, or somebody else?"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from atlas.actors.upload.files import FileBuilder
from atlas.actors.upload.reports import Resolution
from atlas.core import names
from atlas.core.errors import ContentTooLarge, Damaged, FoundryError
from atlas.core.messages import File, PathOwner
from atlas.core.ports import Branch
from atlas.runtime import Budget, side_by_side


@dataclass(frozen=True, slots=True)
class RemoteFiles:
    """Reads committed files of the dataset."""

    branch: Branch
    files: FileBuilder
    budget: Budget

    async def read(self, file: File, owner: PathOwner) -> frozenset[bytes]:
        """The rows that stand at a path of ours. Of an export all rows are there, or none.

        A file of another size may hold some of ours all the same: a shared file may have been made
        of others when it was put, and Parquet of one size today is of another tomorrow. Raises
        ContentTooLarge, FoundryError.
        """
        is_as_it_came = names.is_own(file.path) and names.format_of(file.path) == "ndjson"
        if is_as_it_came and owner.bytes != file.bytes:
            return frozenset()
        async with self.budget.taken(owner.bytes):
            content = await self.branch.content(file.path, owner.bytes)
            if len(content) != owner.bytes:
                raise FoundryError("Foundry serves another size of a file than it lists.")
            return await self.files.read_rows(file.path, content)


@dataclass(slots=True)
class Findings:
    stored: dict[str, str] = field(default_factory=dict)
    moved: list[str] = field(default_factory=list)
    corrupt: list[str] = field(default_factory=list)
    free: list[File] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Conflicts:
    """Resolves conflicts over paths: by the rows that stand there."""

    branch: Branch
    files: FileBuilder
    remote: RemoteFiles
    at_once: int

    async def resolve(self, files: Iterable[File]) -> Resolution:
        """Raises FoundryError, Unavailable of the journal."""
        findings = Findings()

        async def check_file(file: File) -> None:
            owner = await self.branch.file_at(file.path)
            if owner is None:
                findings.free.append(file)
                return
            rows = await self.rows_there(file, owner)
            for export in file.exports:
                try:
                    ours = await self.files.rows_of_export(export, file.path)
                except Damaged:
                    findings.corrupt.append(export.id)
                    continue
                if rows is None or ours <= rows:
                    findings.stored[export.id] = owner.transaction
                else:
                    findings.moved.append(export.id)

        await side_by_side(check_file, files, self.at_once)
        return Resolution(
            findings.stored,
            tuple(findings.moved),
            tuple(findings.corrupt),
            tuple(findings.free),
        )

    async def rows_there(self, file: File, owner: PathOwner) -> frozenset[bytes] | None:
        """None: they cannot be read, but a file of this path and this size is ours."""
        try:
            return await self.remote.read(file, owner)
        except ContentTooLarge:
            return None if owner.bytes == file.bytes else frozenset()
