"""The chunks of a batch, as they lie in its one buffer: each is looked at in its turn.

Of too many no more are made than tell that there are: four million Raws would take 290 MiB. So a
batch is read as a struct that is written as an array, with a field for each chunk that there may
be, and one more; msgspec passes over what is left.
"""

from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

from atlas.core.errors import Rejected, TooManyChunks
from atlas.edge.body_reader import parse_json


class Batches:
    """Bodies of `POST /export/batch` of at most so many chunks; `kind` is what to read."""

    def __init__(self, chunks_max: int) -> None:
        fields = [(f"chunk{index}", Raw | UnsetType, UNSET) for index in range(chunks_max + 1)]
        array = msgspec.defstruct("Chunks", fields, array_like=True)
        self.kind: type[Any] = msgspec.defstruct("Batch", [("chunks", array)])
        self._chunks_max = chunks_max

    def parse(self, body: bytearray) -> Any:
        """Raises Rejected."""
        return parse_json(body, self.kind)

    def chunks(self, batch: Any) -> list[Raw]:
        """Each stands alone, so one of the wrong shape fails alone.

        Raises Rejected, TooManyChunks.
        """
        found = [each for each in msgspec.structs.astuple(batch.chunks) if each is not UNSET]
        if not found:
            raise Rejected("chunks is empty.")
        if len(found) > self._chunks_max:
            raise TooManyChunks(f"A batch may have {self._chunks_max} chunks.")
        return found
