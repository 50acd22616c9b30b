"""The flattener: the text of an export in, rows of the dataset out."""

from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import dataclass
from io import BytesIO

from atlas.core import names, ndjson, rows
from atlas.core.errors import NotNdjson
from atlas.core.events import LinesRejected, Watch
from atlas.core.messages import Decoded, Flattened, Packed, Reject
from atlas.core.ports import Clock, Compute

STEP_LINES = 125  # in half a millisecond; their rows are no large block (runtime/memory.py)

Pack = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class Flatten:
    """Which rows does it become, and which lines become none? Raises NotNdjson when all of them.

    The file is packed at once: so it is a tenth to carry from a worker, and to hold.
    """

    compute: Compute
    pack: Pack
    now: Clock
    watch: Watch

    async def handle(self, export: Decoded, /) -> Flattened:
        head, at = export.head, self.now()
        ingested_at = names.timestamp(at)
        header = rows.Header(head.user.sub, head.device, ingested_at, head.timestamp or ingested_at)
        table = await self.compute(
            len(export.text), tabulated, export.text, header, export.first, self.pack
        )
        if not table.ingested:
            self.watch(LinesRejected(head.correlation_id, table.reasons))
            raise NotNdjson(table.rejects)
        return Flattened(export.id, head, at, table)


def tabulated(
    text: bytes, header: rows.Header, first: int, pack: Pack
) -> Generator[None, None, Packed]:
    """The rows of a text, whose first line has this number; a few lines a step.

    The file grows step by step: all its pieces and then the whole would be twice the memory, and
    in a worker, where large blocks are always new ones, an eighth more time.
    """
    lines = ndjson.split(text, first)
    file, rejects, reasons = BytesIO(), list[Reject](), Counter[str]()
    ingested = rejected = 0
    for at in range(0, len(lines), STEP_LINES):
        table = rows.flatten(lines[at : at + STEP_LINES], header, first + at)
        file.write(table.ndjson)
        ingested += table.ingested
        rejected += table.rejected
        if table.rejects:
            rejects += table.rejects[: rows.REJECTS_SHOWN - len(rejects)]
            reasons.update(table.reasons)
        yield
    packed, size = pack(file.getvalue()), file.tell()
    return Packed(packed, size, ingested, rejected, tuple(rejects), dict(reasons))
