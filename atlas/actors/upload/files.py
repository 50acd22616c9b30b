"""Which exports go into which file, and how a file is made of them.

A file for each export is simple: each can be told from the others, and taken out by itself. But
each is a call to Foundry. So a group shares one file when it is larger than one wave of uploads,
or than what is left of the minute's calls. Parquet saves only where many rows stand together.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from atlas.core import names
from atlas.core.errors import Damaged
from atlas.core.messages import ClaimedExport, CommitGroup, File, FileFormat, FileLayout
from atlas.core.ports import Bytes, Compute, Dataset, Outbox

RESERVE_CALLS = 500  # of a minute, for transactions, and for asking what became of them
PORTION_FILES, PORTION_BYTES = 256, 16 * 1024 * 1024
READ_AT_ONCE = 64  # exports: the journal accepts others in between


@dataclass(frozen=True, slots=True)
class Format:
    """How rows stand in a file. `write` takes NDJSON, `read` returns it, in whatever order.

    A number may be written in another way than it came, but always in the same. `read` raises
    ValueError for a file of another format.
    """

    name: FileFormat
    write: Callable[[Bytes], Bytes]
    read: Callable[[Bytes], Bytes]


def identity(ndjson: Bytes) -> Bytes:
    return ndjson


NDJSON = Format("ndjson", identity, identity)


@dataclass(frozen=True, slots=True)
class FilePolicy:
    """Layout and format as set; `unpack` undoes the journal's compression.

    `readable`: further formats in which files may stand in the dataset.
    """

    unpack: Callable[[bytes], bytes]
    layout: FileLayout = "auto"
    format: Format = NDJSON
    wave: int = 64
    readable: Mapping[FileFormat, Format] = field(default_factory=dict)

    def shares_file(self, exports: int, calls_remaining: int) -> bool:
        """Whether a group of so many exports goes as one file."""
        if self.layout == "auto" and self.format is NDJSON:
            return exports > self.wave or exports + RESERVE_CALLS > calls_remaining
        return self.layout != "per-export"

    def format_at(self, path: str) -> Format | None:
        """The format of the file at this path; None if it cannot be read here."""
        name = names.format_of(path)
        if name == self.format.name:
            return self.format
        return NDJSON if name == "ndjson" else self.readable.get(name)


@dataclass(frozen=True, slots=True)
class FileBuilder:
    """Makes the files of a group out of what the journal keeps."""

    dataset: Dataset
    outbox: Outbox
    policy: FilePolicy
    compute: Compute

    def plan(self, group: CommitGroup) -> tuple[tuple[ClaimedExport, ...], tuple[File, ...]]:
        """The exports that share a file, and the files of the others.

        An export that failed goes by itself: that shows whose fault it was.
        """
        fresh = tuple(export for export in group.exports if not export.isolation)
        if not fresh or not self.policy.shares_file(len(fresh), self.dataset.calls_remaining()):
            return (), group.files
        return fresh, tuple(file for file in group.files if file.exports[0].isolation)

    async def build_single(self, file: File, packed: bytes | None) -> tuple[File, Bytes]:
        """The file of one export, whose payload the journal has read. Raises Damaged."""
        (export,) = file.exports
        rows = await self.unpack(export, packed)
        if self.policy.format is NDJSON:
            return file, rows
        format = self.policy.format
        content = await self.compute(len(rows), format.write, rows)
        size = len(content)
        recorded = await self.outbox.record_file([export.id], format.name, size, is_shared=False)
        return recorded, content

    async def build_shared(self, exports: Sequence[ClaimedExport]) -> tuple[File, Bytes] | None:
        """The file of all these, without those that are damaged; None if all are."""
        packed: dict[str, bytes] = {}
        for at in range(0, len(exports), READ_AT_ONCE):
            ids = [export.id for export in exports[at : at + READ_AT_ONCE]]
            packed |= await self.outbox.read(ids)
        if not packed:
            return None
        size = sum(export.bytes for export in exports)
        content = await self.compute(size, build_file, list(packed.values()), self.policy)
        format = self.policy.format.name
        recorded = await self.outbox.record_file(list(packed), format, len(content), is_shared=True)
        return recorded, content

    async def read_rows(self, path: str, content: bytes) -> frozenset[bytes]:
        """The rows of a file of the dataset; none if its format is not what its name says."""
        format = self.policy.format_at(path)
        if format is None:
            return frozenset()
        try:
            return await self.compute(len(content), split_rows, content, format)
        except ValueError:
            return frozenset()

    async def rows_of_export(self, export: ClaimedExport, path: str) -> frozenset[bytes]:
        """The rows of an export, as read out of a file at this path. Raises Damaged."""
        ndjson = await self.read_export(export)
        format = self.policy.format_at(path) or self.policy.format
        content = await self.compute(len(ndjson), format.write, ndjson)
        return await self.read_rows(path, bytes(content))

    async def read_export(self, export: ClaimedExport) -> bytes:
        """The rows of an export, as NDJSON. Raises Damaged."""
        return await self.unpack(export, (await self.outbox.read([export.id])).get(export.id))

    async def unpack(self, export: ClaimedExport, packed: bytes | None) -> bytes:
        if packed is None:
            raise Damaged
        return await self.compute(export.bytes, self.policy.unpack, packed)


def portions(files: Sequence[File]) -> Iterator[list[File]]:
    """Files whose payloads are read from the journal at once: so many, and so many bytes."""
    portion, size = list[File](), 0
    for file in files:
        if portion and (len(portion) == PORTION_FILES or size + file.bytes > PORTION_BYTES):
            yield portion
            portion, size = [], 0
        portion.append(file)
        size += file.bytes
    if portion:
        yield portion


def build_file(packed: Sequence[bytes], policy: FilePolicy) -> Bytes:
    """A file of all these; memory never holds more than it and one export."""
    rows = bytearray()
    for each in packed:
        rows += policy.unpack(each)
    return policy.format.write(rows)


def split_rows(content: bytes, format: Format) -> frozenset[bytes]:
    return frozenset(bytes(format.read(content)).splitlines())
