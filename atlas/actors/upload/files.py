"""Plans and builds the files of a group.

With one file per export, each export can be identified and removed by itself, but each costs a
call to Foundry. So with the `auto` layout a group shares one file if it exceeds one wave of uploads
or the calls that are left in this minute. Parquet pays only for many rows in one file, so `auto`
always shares with it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from atlas.core import identifiers
from atlas.core.errors import CorruptEntry
from atlas.core.messages import ClaimedExport, CommitGroup, File, FileFormat, FileLayout
from atlas.core.ports import Bytes, CpuExecutor, Dataset, Outbox

RESERVE_CALLS = 500  # of a minute, reserved for transactions and recovery
PORTION_FILES, PORTION_BYTES = 256, 16 * 1024 * 1024
READ_AT_ONCE = 64  # exports per read, so that the journal can accept others in between


@dataclass(frozen=True, slots=True)
class Format:
    """A file format. `write` encodes NDJSON, `read` decodes to NDJSON, in any order of rows.

    A number may be spelled differently than in the input, but always in the same way. `read` raises
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
    """The configured layout and format. `unpack_into` undoes the journal's compression.

    `wave`: files that are uploaded concurrently. `readable`: other formats of files that may be in
    the dataset.
    """

    unpack_into: Callable[[bytearray, bytes], None]
    layout: FileLayout = "auto"
    format: Format = NDJSON
    wave: int = 64
    readable: Mapping[FileFormat, Format] = field(default_factory=dict)

    def has_shared_file(self, exports: int, calls_remaining: int) -> bool:
        """Return whether a group of this many exports shares one file."""
        if self.layout == "auto" and self.format is NDJSON:
            return exports > self.wave or exports + RESERVE_CALLS > calls_remaining
        return self.layout != "per-export"

    def find_format(self, path: str) -> Format | None:
        """Return the format of the file at this path; None if Atlas cannot read it."""
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
        """Return the exports that share a file, and the files of the others.

        An export that has failed gets a file of its own, which shows whether it is at fault.
        """
        fresh = tuple(export for export in group.exports if not export.isolation)
        if not fresh or not self.policy.has_shared_file(
            len(fresh), self.dataset.count_remaining_calls()
        ):
            return (), group.files
        return fresh, tuple(file for file in group.files if file.exports[0].isolation)

    async def build_single(self, file: File, packed: bytes | None) -> tuple[File, Bytes]:
        """Build the file of one export; `packed` is its compressed payload. Raises Damaged."""
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
        """Build one file of these exports, without damaged ones; None if all are damaged."""
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
        """Return the rows of a file; none if its content is not in the format of its path."""
        format = self.policy.find_format(path)
        if format is None:
            return frozenset()
        try:
            return await self.compute(len(content), split_rows, content, format)
        except ValueError:
            return frozenset()

    async def read_export_rows(self, export: ClaimedExport, path: str) -> frozenset[bytes]:
        """Return the rows of an export, as they are in the format of this path. Raises Damaged."""
        ndjson = await self.read_export(export)
        format = self.policy.find_format(path) or self.policy.format
        content = await self.compute(len(ndjson), format.write, ndjson)
        return await self.read_rows(path, bytes(content))

    async def read_export(self, export: ClaimedExport) -> Bytes:
        """Return the rows of an export as NDJSON. Raises Damaged."""
        return await self.unpack(export, (await self.outbox.read([export.id])).get(export.id))

    async def unpack(self, export: ClaimedExport, packed: bytes | None) -> Bytes:
        if packed is None:
            raise CorruptEntry
        return await self.compute(export.bytes, join_rows, [packed], self.policy)


def portions(files: Sequence[File]) -> Iterator[list[File]]:
    """Yield the files in portions whose payloads are read from the journal in one step."""
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
    """Build a file of these payloads."""
    return policy.format.write(join_rows(packed, policy))


def join_rows(packed: Sequence[bytes], policy: FilePolicy) -> bytearray:
    """Return the rows of these payloads. Memory holds little more than them."""
    rows = bytearray()
    for each in packed:
        policy.unpack_into(rows, each)
    return rows


def split_rows(content: bytes, format: Format) -> frozenset[bytes]:
    return frozenset(bytes(format.read(content)).splitlines())
