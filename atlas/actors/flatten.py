"""The flattener: the text of an export in, rows of the dataset out."""

from collections import Counter
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

from atlas.core import names, ndjson, rows
from atlas.core.errors import NotNdjson
from atlas.core.events import LinesRejected, Watch
from atlas.core.messages import Decoded, Flattened, Packed, Reject
from atlas.core.ports import Clock, Compute

PIECE_BYTES = 240 * 1024  # to a worker and back: no large block of memory is needed here
STEP_LINES = 250  # take a millisecond; with half as many, the packed file would be 8 % larger

Pack = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class Flatten:
    """Turns the lines of an export into rows. Raises NotNdjson if it yields none.

    One piece after another becomes rows and is packed at once, as all rows of a large export take
    ten times its memory.
    """

    compute: Compute
    pack: Pack
    now: Clock
    watch: Watch

    async def handle(self, export: Decoded, /) -> Flattened:
        head, at = export.head, self.now()
        ingested_at = names.timestamp(at)
        header = rows.Header(head.user.sub, head.device, ingested_at, head.timestamp or ingested_at)
        packed, first = list[Packed](), export.first
        for piece in ndjson.pieces(export.text, PIECE_BYTES):
            packed.append(await self.compute(len(piece), tabulate, piece, header, first, self.pack))
            first += piece.count(b"\n")
        table = join(packed)
        if not table.ingested:
            self.watch(LinesRejected(head.correlation_id, table.reasons))
            raise NotNdjson(table.rejects)
        return Flattened(export.id, head, at, table)


def tabulate(
    text: bytes, header: rows.Header, first: int, pack: Pack
) -> Generator[None, None, Packed]:
    """Turn a text into packed rows, a few lines a step. `first` is the number of its first line."""
    lines, packed = ndjson.split(text, first), list[Packed]()
    for at in range(0, len(lines), STEP_LINES):
        if at:
            yield
        table = rows.flatten(lines[at : at + STEP_LINES], header, first + at)
        packed.append(
            Packed(
                pack(table.ndjson) if table.ndjson else b"",
                len(table.ndjson),
                table.ingested,
                table.rejected,
                table.rejects,
                table.reasons,
            )
        )
    return join(packed)


def join(packed: Sequence[Packed]) -> Packed:
    """Join packed pieces, in their order, into one file."""
    if len(packed) == 1:
        return packed[0]
    rejects, reasons = list[Reject](), Counter[str]()
    for each in packed:
        if each.rejected:
            rejects += each.rejects[: rows.REJECTS_SHOWN - len(rejects)]
            reasons.update(each.reasons)
    return Packed(
        b"".join(each.file for each in packed),
        sum(each.bytes for each in packed),
        sum(each.ingested for each in packed),
        sum(each.rejected for each in packed),
        tuple(rejects),
        dict(reasons),
    )
