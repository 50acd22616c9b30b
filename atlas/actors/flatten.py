"""Which rows does it become, and which lines become none?"""

from dataclasses import dataclass

from atlas.core import names, rows
from atlas.core.errors import NotNdjson
from atlas.core.messages import Decoded, Flattened
from atlas.core.ports import Clock, Compute


@dataclass(frozen=True, slots=True)
class Flatten:
    compute: Compute
    now: Clock

    async def handle(self, export: Decoded, /) -> Flattened:
        head, at = export.head, self.now()
        ingested_at = names.timestamp(at)
        header = rows.Header(head.user.sub, head.device, ingested_at, head.timestamp or ingested_at)
        table = await self.compute(export.bytes, rows.flatten, export.lines, header)
        if not table.ingested:
            raise NotNdjson(table.rejects)
        return Flattened(export.id, head, at, table)
