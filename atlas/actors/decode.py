"""The decoder: an export as it was sent in, its text out."""

from collections import OrderedDict
from dataclasses import dataclass, field

from atlas.core import ndjson
from atlas.core.events import ClientStuck, Watch
from atlas.core.messages import Decoded, Export, Part
from atlas.core.ports import Compute

STUCK_TIMES = 10
REMEMBERED = 10_000  # exports; the oldest is forgotten


@dataclass(frozen=True, slots=True)
class Decode:
    """Is it base64, and not too much of it? Which export is it, and have we seen it too often?"""

    compute: Compute
    bytes_max: int
    lines_max: int
    watch: Watch
    seen: OrderedDict[tuple[str, str, int], int] = field(default_factory=OrderedDict)

    async def handle(self, export: Export | Part, /) -> Decoded:
        if isinstance(export, Part):
            decoded = await self.compute(len(export.text), ndjson.part, export, self.lines_max)
        else:
            size, bounds = len(export.body), (self.bytes_max, self.lines_max)
            decoded = await self.compute(size, ndjson.decode, export, *bounds)
        self.notice(decoded)
        return decoded

    def notice(self, decoded: Decoded) -> None:
        """A phone that never moves on: it does not understand our answer, or does not get it."""
        head = decoded.head
        same = (head.user.sub, head.device, decoded.likeness)
        times = self.seen.pop(same, 0) + 1
        self.seen[same] = times
        if len(self.seen) > REMEMBERED:
            self.seen.popitem(last=False)
        if times % STUCK_TIMES == 0:
            self.watch(ClientStuck(head.correlation_id, head.user.sub, times))
