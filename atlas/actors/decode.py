"""Is it base64, and not too much of it? Which export is it?"""

from dataclasses import dataclass

from atlas.core import ndjson
from atlas.core.messages import Decoded, Export
from atlas.core.ports import Compute


@dataclass(frozen=True, slots=True)
class Decode:
    compute: Compute
    bytes_max: int
    lines_max: int

    async def handle(self, export: Export, /) -> Decoded:
        size = len(export.body)
        return await self.compute(size, ndjson.decode, export, self.bytes_max, self.lines_max)
