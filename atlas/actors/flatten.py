"""Which rows does it become, and which lines become none?"""

from dataclasses import dataclass

from atlas.core import names, ndjson, rows
from atlas.core.errors import NotNdjson
from atlas.core.messages import Decoded, Flattened, Table
from atlas.core.ports import Clock, Compute


@dataclass(frozen=True, slots=True)
class Flatten:
    compute: Compute
    now: Clock

    async def handle(self, export: Decoded, /) -> Flattened:
        head, at = export.head, self.now()
        ingested_at = names.timestamp(at)
        header = rows.Header(head.user.sub, head.device, ingested_at, head.timestamp or ingested_at)
        table = await self.compute(len(export.text), tabulated, export.text, header, export.first)
        if not table.ingested:
            raise NotNdjson(table.rejects)
        return Flattened(export.id, head, at, table)


def tabulated(text: bytes, header: rows.Header, first: int) -> Table:
    """The rows of a text, whose first line has this number."""
    return rows.flatten(ndjson.split(text, first), header, first)
