"""Parses a batch into its undecoded chunks, without a copy of the body.

At most one chunk more than the limit becomes an object: four million Raws would take 290 MiB. So
the array is decoded as an array-like struct with one field more than there may be chunks, and
msgspec skips the rest.
"""

from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

from atlas.core.errors import Rejected, TooManyChunks
from atlas.edge.body_reader import parse_json


class BatchParser:
    """Parses bodies of `POST /export/batch` with at most `chunks_max` chunks.

    `kind` is the type that they are decoded as.
    """

    def __init__(self, chunks_max: int) -> None:
        fields = [(f"chunk{index}", Raw | UnsetType, UNSET) for index in range(chunks_max + 1)]
        array = msgspec.defstruct("Chunks", fields, array_like=True)
        self.kind: type[Any] = msgspec.defstruct("Batch", [("chunks", array)])
        self._chunks_max = chunks_max

    def parse(self, body: bytearray) -> Any:
        """Parse the body, without its chunks. Raises Rejected."""
        return parse_json(body, self.kind)

    def split_chunks(self, batch: Any) -> list[Raw]:
        """Return the undecoded chunks, so that an invalid chunk does not affect the others.

        Raises Rejected, TooManyChunks.
        """
        chunks = [each for each in msgspec.structs.astuple(batch.chunks) if each is not UNSET]
        if not chunks:
            raise Rejected("The batch has no chunks.")
        if len(chunks) > self._chunks_max:
            raise TooManyChunks(f"A batch may have {self._chunks_max} chunks.")
        return chunks
