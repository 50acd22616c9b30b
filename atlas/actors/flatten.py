"""The flattener: the text of an export in, rows of the dataset out."""

from collections.abc import Callable, Generator
from dataclasses import dataclass

from atlas.core import names, ndjson, rows
from atlas.core.errors import NotNdjson
from atlas.core.messages import Decoded, Flattened, Packed
from atlas.core.ports import Clock, Compute

STEP_LINES = 250  # in a millisecond

Pack = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class Flatten:
    """Which rows does it become, and which lines become none? Raises NotNdjson when all of them.

    The file is packed at once: so it is a tenth to carry from a worker, and to hold.
    """

    compute: Compute
    pack: Pack
    now: Clock

    async def handle(self, export: Decoded, /) -> Flattened:
        head, at = export.head, self.now()
        ingested_at = names.timestamp(at)
        header = rows.Header(head.user.sub, head.device, ingested_at, head.timestamp or ingested_at)
        table = await self.compute(
            len(export.text), tabulated, export.text, header, export.first, self.pack
        )
        if not table.ingested:
            raise NotNdjson(table.rejects)
        return Flattened(export.id, head, at, table)


def tabulated(
    text: bytes, header: rows.Header, first: int, pack: Pack
) -> Generator[None, None, Packed]:
    """The rows of a text, whose first line has this number; a few hundred lines a step."""
    lines = ndjson.split(text, first)
    tables = []
    for at in range(0, len(lines), STEP_LINES):
        tables.append(rows.flatten(lines[at : at + STEP_LINES], header, first + at))
        yield
    file = b"".join(table.ndjson for table in tables)
    rejects = [reject for table in tables for reject in table.rejects]
    return Packed(
        pack(file),
        len(file),
        sum(table.ingested for table in tables),
        sum(table.rejected for table in tables),
        tuple(rejects[: rows.REJECTS_SHOWN]),
    )
