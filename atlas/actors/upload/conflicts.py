"""Decides whether a file at one of our paths is ours, from an earlier life, or somebody else's."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from atlas.actors.upload.files import FileBuilder
from atlas.actors.upload.reports import Resolution
from atlas.core import identifiers
from atlas.core.errors import ContentTooLarge, CorruptEntry, FoundryError
from atlas.core.messages import File, PathOwner
from atlas.core.ports import Branch
from atlas.runtime import Quota, for_each_concurrently

OTHER_SIZE = "Foundry returned a file of another size than it lists. Atlas tries again."


@dataclass(frozen=True, slots=True)
class RemoteFiles:
    """Reads committed files of the dataset, within the memory `quota`."""

    branch: Branch
    files: FileBuilder
    quota: Quota

    async def read(self, file: File, owner: PathOwner) -> frozenset[bytes]:
        """Return the rows of the file at a path of ours: all rows of an export, or none.

        A file of another size may still hold rows of ours: a shared file may have been built from
        other exports, and the size of Parquet changes with its writer. Raises ContentTooLarge,
        FoundryError.
        """
        is_as_it_came = (
            identifiers.is_single_export(file.path)
            and identifiers.detect_format(file.path) == "ndjson"
        )
        if is_as_it_came and owner.bytes != file.bytes:
            return frozenset()
        async with self.quota.hold(owner.bytes):
            content = await read_content(self.branch, file.path, owner)
            return await self.files.read_rows(file.path, content)


async def read_content(branch: Branch, path: str, owner: PathOwner) -> bytes:
    """Return the committed file at this path. Raises ContentTooLarge, FoundryError."""
    content = await branch.read_file(path, owner.bytes)
    if len(content) != owner.bytes:
        raise FoundryError(OTHER_SIZE)
    return content


@dataclass(slots=True)
class Findings:
    """The resolution as it grows."""

    stored: dict[str, str] = field(default_factory=dict)
    moved: list[str] = field(default_factory=list)
    corrupt: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ConflictResolver:
    """Resolves conflicts over paths by comparing rows."""

    branch: Branch
    files: FileBuilder
    remote: RemoteFiles
    concurrency: int

    async def resolve(self, files: Iterable[File]) -> Resolution:
        """Return the owners of these paths. Raises FoundryError, and the journal's Unavailable."""
        findings = Findings()

        async def check_file(file: File) -> None:
            owner = await self.branch.find_file(file.path)
            if owner is None:
                return
            rows = await self.read_rows_at(file, owner)
            for export in file.exports:
                try:
                    own_rows = await self.files.read_export_rows(export, file.path)
                except CorruptEntry:
                    findings.corrupt.append(export.id)
                    continue
                if rows is None or own_rows <= rows:
                    findings.stored[export.id] = owner.transaction
                else:
                    findings.moved.append(export.id)

        await for_each_concurrently(check_file, files, self.concurrency)
        return Resolution(findings.stored, tuple(findings.moved), tuple(findings.corrupt))

    async def read_rows_at(self, file: File, owner: PathOwner) -> frozenset[bytes] | None:
        """Return the rows at the file's path.

        None if they cannot be read, but the size matches, so that the file counts as ours.
        """
        try:
            return await self.remote.read(file, owner)
        except ContentTooLarge:
            return None if owner.bytes == file.bytes else frozenset()
