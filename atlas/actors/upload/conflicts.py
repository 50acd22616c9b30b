"""Resolves conflicts: decides by its rows whether an existing file at our path is ours."""

from collections.abc import Iterable
from dataclasses import dataclass

from atlas.actors.upload.files import FileBuilder
from atlas.actors.upload.reports import Resolution
from atlas.core import identifiers
from atlas.core.errors import ContentTooLarge, CorruptEntry, FoundryError
from atlas.core.messages import File, PathOwner
from atlas.core.ports import Branch
from atlas.runtime import Quota, for_each_concurrently

OTHER_SIZE = "Foundry returned a file of a different size than it lists. Atlas will retry."


@dataclass(frozen=True, slots=True)
class RemoteFiles:
    """Reads committed files of the dataset, within the memory `quota`."""

    branch: Branch
    files: FileBuilder
    quota: Quota

    async def read(self, file: File, owner: PathOwner) -> frozenset[bytes]:
        """Return the rows of the remote file at our path; empty if they cannot be ours.

        A file of a different size may still hold our rows: a shared file may have been built from
        other exports, and the size of a Parquet file depends on the version of its writer. Raises
        ContentTooLarge, FoundryError.
        """
        has_fixed_size = (
            identifiers.is_single_export(file.path)
            and identifiers.detect_format(file.path) == "ndjson"
        )
        if has_fixed_size and owner.bytes != file.bytes:
            return frozenset()
        async with self.quota.hold(owner.bytes):
            content = await read_content(self.branch, file.path, owner)
            return await self.files.read_rows(file.path, content)


async def read_content(branch: Branch, path: str, owner: PathOwner) -> bytes:
    """Return the content of a committed file. Raises ContentTooLarge, FoundryError."""
    return require_size(await branch.read_file(path, owner.bytes), owner)


async def read_if_served(branch: Branch, path: str, size: int) -> bytes | None:
    """Return the content of a file of this size; None if Foundry does not serve files so large.

    Raises FoundryError.
    """
    try:
        return await branch.read_file(path, size)
    except ContentTooLarge:
        return None


def require_size(content: bytes, owner: PathOwner) -> bytes:
    """Return the content. Raises FoundryError if it has another size than the file."""
    if len(content) != owner.bytes:
        raise FoundryError(OTHER_SIZE)
    return content


@dataclass(frozen=True, slots=True)
class ConflictResolver:
    """Determines which exports are in the existing files at their paths, by comparing rows."""

    branch: Branch
    files: FileBuilder
    remote: RemoteFiles
    concurrency: int

    async def resolve(self, files: Iterable[File]) -> Resolution:
        """Resolve the conflicts of these files. Raises FoundryError, the journal's Unavailable."""
        stored, moved, corrupt = dict[str, str](), list[str](), list[str]()

        async def check_file(file: File) -> None:
            owner = await self.branch.find_file(file.path)
            if owner is None:
                return
            rows = await self.read_remote_rows(file, owner)
            for export in file.exports:
                try:
                    own_rows = await self.files.read_export_rows(export, file.path)
                except CorruptEntry:
                    corrupt.append(export.id)
                    continue
                if rows is None or own_rows <= rows:
                    stored[export.id] = owner.transaction
                else:
                    moved.append(export.id)

        await for_each_concurrently(check_file, files, self.concurrency)
        return Resolution(stored, tuple(moved), tuple(corrupt))

    async def read_remote_rows(self, file: File, owner: PathOwner) -> frozenset[bytes] | None:
        """Return the rows of the existing file at our path.

        None if it is too large to read but has our size, so that it counts as ours.
        """
        try:
            return await self.remote.read(file, owner)
        except ContentTooLarge:
            return None if owner.bytes == file.bytes else frozenset()
