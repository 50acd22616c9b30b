"""What of a group goes into which file, and how that is made.

Each export its own file, as it came: that is simple, and any of them can be told from the others.
But each is a call to Foundry, which allows so many in a minute; and Parquet only saves where many
rows stand together. Then the group is one file.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from atlas.core.messages import ClaimedExport, CommitGroup, File, FileFormat, FileLayout
from atlas.core.ports import Bytes, Compute, Dataset, Outbox

RESERVE_CALLS = 500  # of a minute, for transactions, and for asking what became of them
READ_AT_ONCE = 64  # exports: the journal accepts others in between


@dataclass(frozen=True, slots=True)
class Format:
    """How rows stand in a file. `write` takes NDJSON, `read` gives it back, in whatever order.

    A number may be written otherwise than it came, but always in the same way. `read` raises
    ValueError for what is no such file.
    """

    name: FileFormat
    write: Callable[[Bytes], Bytes]
    read: Callable[[Bytes], Bytes]


def as_it_is(ndjson: Bytes) -> Bytes:
    return ndjson


NDJSON = Format("ndjson", as_it_is, as_it_is)


@dataclass(frozen=True, slots=True)
class Shape:
    """What the settings want, and `unpack`, which undoes what the journal has compressed."""

    unpack: Callable[[bytes], bytes]
    layout: FileLayout = "auto"
    format: Format = NDJSON

    def is_shared(self, group: CommitGroup, calls_left: int) -> bool:
        """Whether the group is one file. After a failure, no: that shows whose fault it was."""
        if group.failures:
            return False
        if self.layout == "auto" and self.format is NDJSON:
            return len(group.files) + RESERVE_CALLS > calls_left
        return self.layout != "per-export"


@dataclass(frozen=True, slots=True)
class Files:
    """Makes the files of a group out of what the journal keeps."""

    dataset: Dataset
    outbox: Outbox
    shape: Shape
    compute: Compute

    def is_shared(self, group: CommitGroup) -> bool:
        return self.shape.is_shared(group, self.dataset.calls_remaining())

    async def own(self, file: File) -> tuple[File, Bytes]:
        """The one of an export that shares with nobody. Raises Damaged."""
        (export,) = file.exports
        rows = await self.outbox.ndjson(export.id)
        if self.shape.format is NDJSON:
            return file, rows
        format = self.shape.format
        content = await self.compute(len(rows), format.write, rows)
        size = len(content)
        return await self.outbox.filed([export.id], format.name, size, is_shared=False), content

    async def shared(self, exports: Sequence[ClaimedExport]) -> tuple[File, Bytes] | None:
        """The one of all these, but of those that are damaged; None if nothing else is left."""
        packed: dict[str, bytes] = {}
        for at in range(0, len(exports), READ_AT_ONCE):
            ids = [export.id for export in exports[at : at + READ_AT_ONCE]]
            packed |= await self.outbox.packed(ids)
        if not packed:
            return None
        size = sum(export.bytes for export in exports)
        content = await self.compute(size, made, list(packed.values()), self.shape)
        format = self.shape.format.name
        return await self.outbox.filed(list(packed), format, len(content), is_shared=True), content

    async def rows_in(self, content: bytes) -> frozenset[bytes]:
        """The rows of a file that stands at a path of ours; none, if it is of another format."""
        try:
            return await self.compute(len(content), read, content, self.shape.format)
        except ValueError:
            return frozenset()

    async def rows_of(self, export: ClaimedExport) -> frozenset[bytes]:
        """The rows of an export, as they would be read out of a file. Raises Damaged."""
        ndjson = await self.outbox.ndjson(export.id)
        format = self.shape.format
        return await self.rows_in(bytes(await self.compute(len(ndjson), format.write, ndjson)))


def made(packed: Sequence[bytes], shape: Shape) -> Bytes:
    """A file of all these; there is never more of it in memory than itself and one export."""
    rows = bytearray()
    for each in packed:
        rows += shape.unpack(each)
    return shape.format.write(rows)


def read(content: bytes, format: Format) -> frozenset[bytes]:
    return frozenset(bytes(format.read(content)).splitlines())
