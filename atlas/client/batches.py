"""Cuts lines into requests by the lines alone: the same file always gives the same requests."""

import codecs
import hashlib
import zlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec
import pybase64

CHUNK_BYTES_MAX, CHUNK_LINES_MAX = 512 * 1024, 1_000
CHUNKS_MAX = 8  # in a batch: no more has to be sent again if a reply is lost
BATCH_BYTES_MAX = CHUNKS_MAX * CHUNK_BYTES_MAX  # unless a single line is larger
GZIP_WINDOW_BITS = 31  # makes zlib write the gzip format


class Chunk(NamedTuple):
    """Consecutive lines; `first` is the number of the first one. Blank lines are not records."""

    text: bytes
    records: int
    first: int


class Batch(NamedTuple):
    """The chunks of one request."""

    chunks: tuple[Chunk, ...]

    def idempotency_key(self, device: str | None) -> str:
        """Derive the Idempotency-Key. It depends only on the lines and the device."""
        digest = hashlib.sha256(b"" if device is None else device.encode())
        for chunk in self.chunks:
            digest.update(hashlib.sha256(chunk.text).digest())
        return digest.hexdigest()

    @property
    def records(self) -> int:
        return sum(chunk.records for chunk in self.chunks)

    @property
    def bytes(self) -> int:
        return sum(len(chunk.text) for chunk in self.chunks)


class PreparedBatch(NamedTuple):
    """A batch that is ready to send. Its chunks have no text, because several are in memory."""

    body: bytes
    idempotency_key: str
    records: int
    bytes: int
    chunks: tuple[Chunk, ...]


def prepare(batch: Batch, device: str | None) -> PreparedBatch:
    return PreparedBatch(
        body=encode(batch, device),
        idempotency_key=batch.idempotency_key(device),
        records=batch.records,
        bytes=batch.bytes,
        chunks=tuple(chunk._replace(text=b"") for chunk in batch.chunks),
    )


def batches(lines: Iterable[bytes]) -> Iterator[Batch]:
    chunks: list[Chunk] = []
    size = 0
    for chunk in split_chunks(lines):
        if chunks and (len(chunks) == CHUNKS_MAX or size + len(chunk.text) > BATCH_BYTES_MAX):
            yield Batch(tuple(chunks))
            chunks, size = [], 0
        chunks.append(chunk)
        size += len(chunk.text)
    if chunks:
        yield Batch(tuple(chunks))


def split_chunks(lines: Iterable[bytes]) -> Iterator[Chunk]:
    chunk_lines: list[bytes] = []
    size = records = 0
    first = 1
    for number, line in enumerate(lines, 1):
        if chunk_lines and (size + len(line) > CHUNK_BYTES_MAX or records == CHUNK_LINES_MAX):
            if records:
                yield Chunk(b"".join(chunk_lines), records, first)
            chunk_lines, size, records, first = [], 0, 0, number
        record = line if chunk_lines else line.removeprefix(codecs.BOM_UTF8)
        chunk_lines.append(line)
        size += len(line)
        records += bool(record.strip())
    if records:
        yield Chunk(b"".join(chunk_lines), records, first)


def encode(batch: Batch, device: str | None) -> bytes:
    """Encode the body of a request, compressed.

    It has no timestamp: the same lines are always the same export. Chunks are compressed one by
    one, because the uncompressed JSON of a batch can have 11 MB.
    """
    compressor = zlib.compressobj(1, zlib.DEFLATED, GZIP_WINDOW_BITS)
    device_field = b"" if device is None else b',"device":' + msgspec.json.encode(device)
    body, separator = [], b'{"chunks":['
    for chunk in batch.chunks:
        text = pybase64.b64encode(chunk.text)
        fields = b'"rawhealthkit":"%b","recordCount":%d%b' % (text, chunk.records, device_field)
        body.append(compressor.compress(b"%b{%b}" % (separator, fields)))
        separator = b","
    return b"".join([*body, compressor.compress(b"]}"), compressor.flush()])
