"""Plans and builds the files of a group.

With one file per export, each export can be found and removed separately, but costs a call to
Foundry. So with the `auto` layout, a group shares one file if it is larger than one wave of uploads
or than the calls remaining in this minute. Parquet is efficient only with many rows in a file, so
`auto` always shares a Parquet file.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from atlas.core import identifiers
from atlas.core.errors import CorruptEntry
from atlas.core.messages import ClaimedExport, CommitGroup, File, FileFormat, FileLayout
from atlas.core.ports import Bytes, CpuExecutor, Dataset, Outbox

RESERVE_CALLS = 500  # calls per minute, reserved for transactions and recovery
BATCH_FILES_MAX, BATCH_BYTES_MAX = 256, 16 * 1024 * 1024
READ_AT_ONCE = 64  # exports per read, so that the journal can accept others in between


@dataclass(frozen=True, slots=True)
class Format:
    """A file format. `write` encodes NDJSON; `read` decodes to NDJSON, with rows in any order.

    Numbers may be spelled differently than in the input, but always in the same way. `read` raises
    ValueError for a file in another format.
    """

    name: FileFormat
    write: Callable[[Bytes], Bytes]
    read: Callable[[Bytes], Bytes]


def identity(ndjson: Bytes) -> Bytes:
    return ndjson


NDJSON = Format("ndjson", identity, identity)


@dataclass(frozen=True, slots=True)
class FilePolicy:
    """The configured layout and format. `unpack_into` decompresses the journal's payloads.

    `wave`: number of files uploaded concurrently. `readable`: other formats that files in the
    dataset may have.
    """

    unpack_into: Callable[[bytearray, bytes], None]
    layout: FileLayout = "auto"
    format: Format = NDJSON
    wave: int = 64
    readable: Mapping[FileFormat, Format] = field(default_factory=dict)

    def has_shared_file(self, exports: int, calls_remaining: int) -> bool:
        """True if a group of this many exports shares one file."""
        if self.layout == "auto" and self.format is NDJSON:
            return exports > self.wave or exports + RESERVE_CALLS > calls_remaining
        return self.layout != "per-export"

    def find_format(self, path: str) -> Format | None:
        """Return the format of the file at this path, or None if Atlas cannot read it."""
        name = identifiers.detect_format(path)
        if name == self.format.name:
            return self.format
        return NDJSON if name == "ndjson" else self.readable.get(name)


@dataclass(frozen=True, slots=True)
class FileBuilder:
    """Builds the files of a group from the payloads in the journal."""

    dataset: Dataset
    outbox: Outbox
    policy: FilePolicy
    compute: CpuExecutor

    def plan(self, group: CommitGroup) -> tuple[tuple[ClaimedExport, ...], tuple[File, ...]]:
        """Return the exports that share a file, and the single files of the others.

        An export that has failed gets its own file, which shows whether it is at fault.
        """
        fresh = tuple(export for export in group.exports if not export.isolation)
        if not fresh or not self.policy.has_shared_file(
            len(fresh), self.dataset.count_remaining_calls()
        ):
            return (), group.files
        return fresh, tuple(file for file in group.files if file.exports[0].isolation)

    async def build_single(self, file: File, packed: bytes | None) -> tuple[File, Bytes]:
        """Build the file of one export from its compressed payload. Raises CorruptEntry."""
        (export,) = file.exports
        rows = await self.unpack(export, packed)
        if self.policy.format is NDJSON:
            return file, rows
        format = self.policy.format
        content = await self.compute(len(rows), format.write, rows)
        recorded = await self.outbox.record_file(
            [export.id], format.name, len(content), is_shared=False
        )
        return recorded, content

    async def build_shared(self, exports: Sequence[ClaimedExport]) -> tuple[File, Bytes] | None:
        """Build one file of the exports that can be read; None if none can."""
        packed: dict[str, bytes] = {}
        for start in range(0, len(exports), READ_AT_ONCE):
            ids = [export.id for export in exports[start : start + READ_AT_ONCE]]
            packed |= await self.outbox.read(ids)
        if not packed:
            return None
        size = sum(export.bytes for export in exports)
        content = await self.compute(size, build_file, list(packed.values()), self.policy)
        format = self.policy.format.name
        recorded = await self.outbox.record_file(list(packed), format, len(content), is_shared=True)
        return recorded, content

    async def read_rows(self, path: str, content: bytes) -> frozenset[bytes]:
        """Return the rows of a file; empty if its content is not in the format of its path."""
        format = self.policy.find_format(path)
        if format is None:
            return frozenset()
        try:
            return await self.compute(len(content), split_rows, content, format)
        except ValueError:
            return frozenset()

    async def read_export_rows(self, export: ClaimedExport, path: str) -> frozenset[bytes]:
        """Return the rows of an export, as this path's format spells them. Raises CorruptEntry."""
        packed = await self.outbox.read([export.id])
        ndjson = await self.unpack(export, packed.get(export.id))
        format = self.policy.find_format(path) or self.policy.format
        content = await self.compute(len(ndjson), format.write, ndjson)
        return await self.read_rows(path, bytes(content))

    async def unpack(self, export: ClaimedExport, packed: bytes | None) -> Bytes:
        if packed is None:
            raise CorruptEntry
        return await self.compute(export.bytes, join_rows, [packed], self.policy)


def split_into_batches(files: Sequence[File]) -> Iterator[list[File]]:
    """Yield batches of files; the payloads of a batch are read from the journal in one step."""
    batch, size = list[File](), 0
    for file in files:
        if batch and (len(batch) == BATCH_FILES_MAX or size + file.bytes > BATCH_BYTES_MAX):
            yield batch
            batch, size = [], 0
        batch.append(file)
        size += file.bytes
    if batch:
        yield batch


def build_file(packed: Sequence[bytes], policy: FilePolicy) -> Bytes:
    return policy.format.write(join_rows(packed, policy))


def join_rows(packed: Sequence[bytes], policy: FilePolicy) -> bytearray:
    """Decompress and concatenate payloads, with little more memory than the result takes."""
    rows = bytearray()
    for each in packed:
        policy.unpack_into(rows, each)
    return rows


def split_rows(content: bytes, format: Format) -> frozenset[bytes]:
    return frozenset(bytes(format.read(content)).splitlines())
