"""From lines to requests: cut by the lines alone, so that the same file is the same requests."""

import codecs
import hashlib
import zlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec
import pybase64

CHUNK_BYTES_MAX, CHUNK_LINES_MAX = 512 * 1024, 1_000
CHUNKS_MAX = 8  # in a batch, and no more is lost when an answer is
GZIP_WINDOW_BITS = 31  # how zlib is told to write it
BATCH_BYTES_MAX = CHUNKS_MAX * CHUNK_BYTES_MAX  # unless a single line has more


class Chunk(NamedTuple):
    """Lines that become one file. Blank ones are no records; `first` is where it begins."""

    text: bytes
    records: int
    first: int


class Batch(NamedTuple):
    """What goes in one request."""

    chunks: tuple[Chunk, ...]

    def idempotency_key(self, device: str | None) -> str:
        """The same whenever the same lines are sent as those of the same device."""
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
    """A batch as it is sent, several at once: its chunks have no text any more."""

    body: bytes
    idempotency_key: str
    records: int
    bytes: int
    chunks: tuple[Chunk, ...]


def prepare(batch: Batch, device: str | None) -> PreparedBatch:
    chunks = tuple(chunk._replace(text=b"") for chunk in batch.chunks)
    body, key = encode(batch, device), batch.idempotency_key(device)
    return PreparedBatch(body, key, batch.records, batch.bytes, chunks)


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
    gathered: list[bytes] = []
    size = records = 0
    first = 1
    for number, line in enumerate(lines, 1):
        if gathered and (size + len(line) > CHUNK_BYTES_MAX or records == CHUNK_LINES_MAX):
            if records:
                yield Chunk(b"".join(gathered), records, first)
            gathered, size, records, first = [], 0, 0, number
        record = line if gathered else line.removeprefix(codecs.BOM_UTF8)
        gathered.append(line)
        size += len(line)
        records += bool(record.strip())
    if records:
        yield Chunk(b"".join(gathered), records, first)


def encode(batch: Batch, device: str | None) -> bytes:
    """The body of a request. It has no timestamp: the same lines are the same export for ever.

    It is packed chunk by chunk, and never stands there in full: that would be 11 MB.
    """
    packer = zlib.compressobj(1, zlib.DEFLATED, GZIP_WINDOW_BITS)
    sender = b"" if device is None else b',"device":' + msgspec.json.encode(device)
    body, before = [], b'{"chunks":['
    for chunk in batch.chunks:
        text = pybase64.b64encode(chunk.text)
        head = b'%b{"rawhealthkit":"%b","recordCount":%d%b}' % (before, text, chunk.records, sender)
        body.append(packer.compress(head))
        before = b","
    return b"".join([*body, packer.compress(b"]}"), packer.flush()])
